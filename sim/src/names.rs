//! The ids of versions, and the versions that ids name.

use backbeat_core::id::ObjectKey;
use backbeat_core::model::{ObjectRef, VersionId, VersionRef};

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
    let id = match &object.version {
        VersionRef::Version(id) if id.as_str() != INFINITE_ID => id,
        VersionRef::Version(_) | VersionRef::Null | VersionRef::Unversioned => {
            return null_version_of(&object.key);
        }
    };
    number_of(id.as_str())
}

/// The version with this id, if it is one of ours.
pub fn number_of(id: &str) -> Option<VerId> {
    let age = id.as_bytes().strip_prefix(b"982000")?.first_chunk::<8>()?;
    let age = age.iter().try_fold(0, |age, digit| {
        let digit = digit.wrapping_sub(b'0');
        (digit < 10).then(|| age * 10 + u32::from(digit))
    })?;
    VERSIONS_MAX.checked_sub(age).map(VerId)
}

/// The version that a reference names.
///
/// # Panics
/// If it names none of ours: the engine made it up.
pub fn version_of(object: &ObjectRef) -> VerId {
    known_version_of(object).expect("DATA-2: the engine names versions of the source only")
}
