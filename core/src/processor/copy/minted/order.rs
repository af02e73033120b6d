//! What the versions of a key at the target say about their order: which of them is the copy that is looked for, whether a newer
//! one was copied already, which ones landed late.
//!
//! Whatever carries our marker was copied from the one source bucket that replicates into the target bucket; source version
//! ids of a key sort newest first. A marker without an id says nothing about order.

use crate::id::MintedId;
use crate::model::{ObjectMd, VersionRef};
use crate::request::minting::{Copies, TargetVersion};
use crate::rules::{LateEvidence, Rules};

/// Whether the source wrote `a` after `b`.
pub(super) fn is_newer(a: &VersionRef, b: &VersionRef) -> bool {
    match (a, b) {
        (VersionRef::Version(a), VersionRef::Version(b)) => a.as_str() < b.as_str(),
        (VersionRef::Version(_) | VersionRef::Null | VersionRef::Unversioned, _) => false,
    }
}

fn is_newer_copy(version: &TargetVersion, than: &VersionRef) -> bool {
    version.marker.as_ref().is_some_and(|marker| is_newer(marker, than))
}

/// The place of the oldest version at the target that is a copy of something newer than `marker`.
pub(super) fn oldest_newer(copies: &Copies, marker: &VersionRef) -> Option<usize> {
    copies.newest_first.iter().rposition(|version| is_newer_copy(version, marker))
}

/// The copy of `marker` with the data of `md`: the oldest, should there be several.
pub(super) fn copy_of<'a>(
    copies: &'a Copies,
    marker: &VersionRef,
    md: &ObjectMd,
) -> Option<&'a TargetVersion> {
    let is_copy = |version: &&TargetVersion| {
        version.marker.as_ref() == Some(marker) && !version.is_delete_marker && has_data_of(version, md)
    };
    copies.newest_first.iter().rev().find(is_copy).or_else(|| copies.known.as_ref().filter(is_copy))
}

/// Whether a version holds the bytes of `md`, as far as entity tags tell: those of encrypted objects and of other part layouts
/// say nothing.
fn has_data_of(version: &TargetVersion, md: &ObjectMd) -> bool {
    version.size == md.content_length() && !differ(&version.etag, md.content_md5())
}

/// Whether two entity tags prove that the bytes differ: both of the same kind, and different.
fn differ(a: &str, b: &str) -> bool {
    let kind = |etag: &str| {
        let (digest, parts) = etag.split_once('-').unwrap_or((etag, ""));
        (digest.len() == 32).then(|| parts.to_owned())
    };
    a != b && kind(a).is_some() && kind(a) == kind(b)
}

/// The versions that landed late: copies with a newer one, or with the same one again, beneath them, and delete markers of
/// `own_markers`, made for `own`, with a newer copy beneath them. Newest first.
pub(super) fn late<R: Rules>(
    copies: &Copies,
    own: &VersionRef,
    own_markers: &[MintedId],
    rules: &R,
) -> Vec<MintedId> {
    let mut late = Vec::new();
    // Of the copies beneath, the one of the newest source version.
    let mut newest_beneath: Option<&VersionRef> = None;
    for (place, version) in copies.newest_first.iter().enumerate().rev() {
        let beneath = &copies.newest_first[place + 1..];
        let newest_before = newest_beneath;
        if let Some(marker @ VersionRef::Version(_)) = &version.marker
            && newest_before.is_none_or(|newest| is_newer(marker, newest))
        {
            newest_beneath = Some(marker);
        }
        let is_own_marker = version.is_delete_marker && own_markers.contains(&version.id);
        let stands_for = if is_own_marker { Some(own) } else { version.marker.as_ref() };
        let Some(stands_for) = stands_for else { continue };
        let same = |other: &TargetVersion| {
            other.size == version.size
                && other.etag == version.etag
                && other.marker.as_ref() == Some(stands_for)
        };
        let evidence = LateEvidence {
            newer_beneath: newest_before.is_some_and(|newest| is_newer(newest, stands_for)),
            same_beneath: !is_own_marker && beneath.iter().any(same),
            is_current: place == 0,
        };
        if rules.landed_late(evidence) {
            late.push(version.id.clone());
        }
    }
    late.reverse();
    late
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::model::VersionId;
    use crate::rules::Production;

    /// The source version number `age`, older the larger.
    fn marker(age: u8) -> VersionRef {
        VersionRef::Version(VersionId::from(format!("982819999999999999{age:02}RG001  ").as_str()))
    }

    fn version(id: usize, age: u8) -> TargetVersion {
        TargetVersion {
            id: format!("m{id}").into(),
            marker: Some(marker(age)),
            etag: format!("{age:032x}").into(),
            size: u64::from(age),
            is_delete_marker: false,
            tags: BTreeMap::new(),
        }
    }

    fn delete_marker(id: usize) -> TargetVersion {
        TargetVersion { marker: None, etag: "".into(), is_delete_marker: true, ..version(id, 0) }
    }

    fn listing(newest_first: Vec<TargetVersion>) -> Copies {
        Copies { newest_first, complete: true, known: None }
    }

    fn ids(late: &[MintedId]) -> Vec<&str> {
        late.iter().map(MintedId::as_str).collect()
    }

    #[test]
    fn a_copy_that_landed_over_a_newer_one_is_late_and_one_beneath_is_not() {
        let copies = listing(vec![version(3, 9), version(2, 5), version(1, 9)]);
        assert_eq!(ids(&late(&copies, &marker(5), &[], &Production)), ["m3"]);
        assert_eq!(oldest_newer(&copies, &marker(9)), Some(1));
        assert_eq!(oldest_newer(&copies, &marker(5)), None);
    }

    #[test]
    fn only_delete_markers_of_our_own_are_ever_late() {
        let copies = listing(vec![delete_marker(3), delete_marker(2), version(1, 5)]);
        assert!(late(&copies, &marker(7), &[], &Production).is_empty());
        assert_eq!(ids(&late(&copies, &marker(7), &["m2".into()], &Production)), ["m2"]);
        assert!(late(&copies, &marker(3), &["m2".into()], &Production).is_empty(), "newer than all beneath");
    }

    #[test]
    fn versions_that_others_wrote_are_never_touched() {
        let foreign = TargetVersion { marker: None, ..version(2, 9) };
        let copies = listing(vec![foreign, version(1, 5)]);
        assert!(late(&copies, &marker(5), &[], &Production).is_empty());
    }

    #[test]
    fn entity_tags_prove_a_difference_only_within_their_kind() {
        let (a, b) = ("a".repeat(32), "b".repeat(32));
        assert!(differ(&a, &b));
        assert!(!differ(&a, &a));
        assert!(differ(&format!("{a}-2"), &format!("{b}-2")));
        assert!(!differ(&format!("{a}-2"), &format!("{b}-3")), "another part layout");
        assert!(!differ(&a, "opaque"));
    }

    proptest! {
        #[test]
        fn without_the_late_ones_the_key_s_history_is_the_source_s(ages in prop::collection::vec(0_u8..6, 0..8)) {
            let versions: Vec<_> = ages.iter().enumerate().map(|(id, age)| version(id, *age)).collect();
            let gone: BTreeSet<_> = late(&listing(versions.clone()), &marker(0), &[], &Production).into_iter().collect();
            let left: Vec<u8> = versions.iter().zip(&ages).filter(|(v, _)| !gone.contains(&v.id)).map(|(_, age)| *age).collect();
            prop_assert!(left.windows(2).all(|pair| pair[0] < pair[1]), "newest first, each once: {left:?}");
            // What a naive reader keeps: from the oldest on, whatever is newer than everything before it.
            let mut naive: Vec<u8> = Vec::new();
            for age in ages.iter().rev() {
                if naive.last().is_none_or(|newest| age < newest) {
                    naive.push(*age);
                }
            }
            naive.reverse();
            prop_assert_eq!(left, naive);
        }
    }
}
