//! The ids of versions, and the versions that ids name.

use backbeat_core::id::ObjectKey;
use backbeat_core::model::{ObjectEntry, ObjectRef, VersionId, VersionRef};

use crate::ids::VerId;

/// The largest number of versions in one run.
const VERSIONS_MAX: u32 = 1_000_000;

/// The version id of a version: a real one, newer versions sort first.
pub(crate) fn version_id(version: VerId) -> VersionId {
    let age = VERSIONS_MAX - version.0;
    let digits = (0..8_u32).rev().map(|place| u64::from(age) / 10_u64.pow(place) % 10);
    let mut id = String::with_capacity(27);
    id.push_str("982000");
    id.extend(
        digits.map(|digit| char::from_digit(u32::try_from(digit).expect("a digit"), 10).expect("a digit")),
    );
    id.push_str("999999RG001  ");
    VersionId::from(id.as_str())
}

/// The id of a covered null version that never had one: older than every other.
pub(crate) const INFINITE_ID: &str = "99999999999999999999RG001  ";

/// The null version of a key: where there are such, they are the first versions of a run, in the order of the keys.
fn null_version_of(key: &ObjectKey) -> Option<VerId> {
    key.as_str().strip_prefix("dir/k")?.split(' ').next()?.parse().ok().map(VerId)
}

/// The version that a reference names, if it is one of ours.
pub fn known_version_of(object: &ObjectRef) -> Option<VerId> {
    known_version(&object.key, &object.version)
}

fn known_version(key: &ObjectKey, version: &VersionRef) -> Option<VerId> {
    match version {
        VersionRef::Version(id) if id.as_str() != INFINITE_ID => number_of(id.as_str()),
        VersionRef::Version(_) | VersionRef::Null | VersionRef::Unversioned => null_version_of(key),
    }
}

/// The number that eight digits spell: asked for at every request. Pairs, fours and eights are put together side by side.
fn eight_digits(digits: [u8; 8]) -> Option<u32> {
    let digits = u64::from_le_bytes(digits).wrapping_sub(0x3030_3030_3030_3030);
    if (digits | digits.wrapping_add(0x7676_7676_7676_7676)) & 0x8080_8080_8080_8080 != 0 {
        return None;
    }
    let join = |lanes: u64, factor: u64, width: u32, mask: u64| {
        (lanes & mask).wrapping_mul(factor).wrapping_add((lanes >> width) & mask)
    };
    let pairs = join(digits, 10, 8, 0x00ff_00ff_00ff_00ff);
    let fours = join(pairs, 100, 16, 0x0000_ffff_0000_ffff);
    u32::try_from(join(fours, 10_000, 32, 0x0000_0000_ffff_ffff)).ok()
}

/// The version with this id, if it is one of ours.
pub fn number_of(id: &str) -> Option<VerId> {
    let age = id.as_bytes().strip_prefix(b"982000")?.first_chunk::<8>()?;
    let age = eight_digits(*age)?;
    VERSIONS_MAX.checked_sub(age).map(VerId)
}

/// The version that a reference names.
///
/// # Panics
/// If it names none of ours: the engine made it up.
pub fn version_of(object: &ObjectRef) -> VerId {
    known_version_of(object).expect("DATA-2: the engine names versions of the source only")
}

/// The version that an entry is about.
///
/// # Panics
/// If it is none of ours.
pub fn version_of_entry(entry: &ObjectEntry) -> VerId {
    known_version(entry.object_key(), &entry.md().version_ref())
        .expect("DATA-2: entries are about versions of the source only")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_its_version() {
        for version in [0, 1, 9, 10, 4_711, 65_535, 98_765, VERSIONS_MAX] {
            assert_eq!(number_of(version_id(VerId(version)).as_str()), Some(VerId(version)));
        }
        for id in ["", "982000", "98200000:00000999999RG001  ", "982000/0000001999999", "982000999999999"] {
            assert_eq!(number_of(id), None, "{id}");
        }
    }

    #[test]
    fn eight_digits_are_a_number() {
        for number in (0..100_000_000_u32).step_by(99_991) {
            let text = format!("{number:08}");
            let digits = *text.as_bytes().first_chunk().expect("eight digits");
            assert_eq!(eight_digits(digits), Some(number));
            for place in 0..8 {
                for other in [0, b'/', b':', b'a', 0x7f, 0x80, 0xb0, 0xff] {
                    let mut spoilt = digits;
                    spoilt[place] = other;
                    assert_eq!(eight_digits(spoilt), None, "{spoilt:?}");
                }
            }
        }
    }
}
