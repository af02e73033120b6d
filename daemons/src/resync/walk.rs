//! The keys of a bucket, each with its versions in the order in which they were made.

use std::collections::VecDeque;

use backbeat_backends::objects::cloudserver::{VersionMarker, VersionPage};
use backbeat_core::id::ObjectKey;
use backbeat_core::model::VersionRef;

/// A key and its versions, oldest first.
pub(super) type Key = (ObjectKey, Vec<VersionRef>);

/// Puts pages together to keys: the versions of one may go over several pages.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// The key of which there may be more, newest version first.
    open: Option<Key>,
    whole: VecDeque<Key>,
    /// Where the next page begins.
    marker: Option<VersionMarker>,
    is_over: bool,
}

impl Walk {
    /// All keys behind `after`.
    pub(super) fn behind(after: Option<String>) -> Self {
        let marker = after.map(|key| VersionMarker { key, version: String::new() });
        Self { marker, ..Self::default() }
    }

    /// The next key, if it is known whole.
    pub(super) fn next(&mut self) -> Option<Key> {
        self.whole.pop_front()
    }

    /// Whether there are no more pages.
    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Where the next page begins, if not at the beginning.
    pub(super) const fn marker(&self) -> Option<&VersionMarker> {
        self.marker.as_ref()
    }

    /// Takes the page at the marker.
    pub(super) fn take(&mut self, page: VersionPage) {
        for (key, version) in page.versions {
            match &mut self.open {
                Some((open, versions)) if *open == key => versions.push(version),
                open => {
                    let before = open.replace((key, vec![version]));
                    self.close(before);
                }
            }
        }
        self.is_over = page.next.is_none();
        self.marker = page.next;
        if self.is_over {
            let last = self.open.take();
            self.close(last);
        }
    }

    fn close(&mut self, key: Option<Key>) {
        if let Some((key, mut versions)) = key {
            versions.reverse();
            self.whole.push_back((key, versions));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(listed: &[(&str, bool)], next: Option<&str>) -> VersionPage {
        let version = |is_null: &bool| if *is_null { VersionRef::Null } else { VersionRef::Unversioned };
        VersionPage {
            versions: listed.iter().map(|(key, is_null)| (ObjectKey::from(*key), version(is_null))).collect(),
            next: next.map(|key| VersionMarker { key: key.to_owned(), version: "v".to_owned() }),
        }
    }

    fn keys(walk: &mut Walk) -> Vec<(String, Vec<VersionRef>)> {
        std::iter::from_fn(|| walk.next())
            .map(|(key, versions)| (key.as_str().to_owned(), versions))
            .collect()
    }

    #[test]
    fn a_key_that_goes_over_pages_comes_once_and_oldest_first() {
        let (null, other) = (VersionRef::Null, VersionRef::Unversioned);
        let mut walk = Walk::behind(None);
        assert_eq!((walk.is_over(), walk.marker()), (false, None));
        walk.take(page(&[("a", true), ("b", true)], Some("b")));
        assert_eq!(keys(&mut walk), [("a".to_owned(), vec![null.clone()])]);
        assert_eq!(walk.marker().map(|marker| &*marker.key), Some("b"));
        walk.take(page(&[("b", true), ("b", false)], Some("b")));
        assert_eq!(keys(&mut walk), [], "there may be more of it");
        walk.take(page(&[("c", false)], None));
        let b = vec![other.clone(), null.clone(), null];
        assert_eq!(keys(&mut walk), [("b".to_owned(), b), ("c".to_owned(), vec![other])]);
        assert!(walk.is_over());
    }

    #[test]
    fn going_on_begins_behind_a_key() {
        let walk = Walk::behind(Some("k".to_owned()));
        let marker = VersionMarker { key: "k".to_owned(), version: String::new() };
        assert_eq!((walk.is_over(), walk.marker()), (false, Some(&marker)));
    }

    #[test]
    fn an_empty_bucket_has_no_keys() {
        let mut walk = Walk::behind(None);
        walk.take(page(&[], None));
        assert_eq!((keys(&mut walk), walk.is_over()), (Vec::new(), true));
    }
}
