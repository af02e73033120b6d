//! What the store says about a data key: where its bytes lie, and whom they belong to.

use crate::embedded::Table;

/// Data keys that a commit knows: a [`DataRow`] each.
pub(in crate::site) const DATA: Table = Table("site-data");
/// The bytes of small data, by data key.
pub(in crate::site) const BYTES: Table = Table("site-bytes");

/// What the rows of data begin with whose bytes lie in the store. No name of a bucket does; format 1 knows no such row.
const IN_STORE: u8 = 1;
/// Bytes in front of such a row's owner: the mark, and the size.
const HEAD: usize = 5;

/// Where the bytes of a data key lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::site) enum Place {
    /// In a file of their own.
    File,
    /// In the store: so many.
    Store(u32),
}

/// Whom the bytes of a data key belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::site) enum DataOwner {
    /// Their metadata has not come yet.
    Awaited,
    /// The object that they belong to, or belonged to.
    Object { bucket: String, key: String },
}

/// What the store says about a data key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::site) struct DataRow {
    pub(in crate::site) place: Place,
    pub(in crate::site) owner: DataOwner,
}

impl DataRow {
    pub(in crate::site) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Place::Store(size) = self.place {
            bytes.push(IN_STORE);
            bytes.extend_from_slice(&size.to_be_bytes());
        }
        if let DataOwner::Object { bucket, key } = &self.owner {
            bytes.extend_from_slice(bucket.as_bytes());
            bytes.push(0);
            bytes.extend_from_slice(key.as_bytes());
        }
        bytes
    }

    pub(in crate::site) fn decode(bytes: &[u8]) -> Self {
        let (place, owner) = match bytes.split_first_chunk::<HEAD>() {
            Some(([IN_STORE, size @ ..], owner)) => (Place::Store(u32::from_be_bytes(*size)), owner),
            Some(_) | None => (Place::File, bytes),
        };
        let owner = match String::from_utf8_lossy(owner).split_once('\0') {
            Some((bucket, key)) => DataOwner::Object { bucket: bucket.to_owned(), key: key.to_owned() },
            None => DataOwner::Awaited,
        };
        Self { place, owner }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_say_what_they_were_told() {
        let object = DataOwner::Object { bucket: "bucket".into(), key: "a\0b\u{1}".into() };
        for owner in [DataOwner::Awaited, object] {
            for place in [Place::File, Place::Store(0), Place::Store(32 << 10)] {
                let row = DataRow { place, owner: owner.clone() };
                assert_eq!(DataRow::decode(&row.encode()), row);
            }
        }
    }

    #[test]
    fn rows_of_format_1_are_of_files() {
        let row = DataRow::decode(b"bucket\0key");
        assert_eq!(row.place, Place::File);
        assert_eq!(row.owner, DataOwner::Object { bucket: "bucket".into(), key: "key".into() });
        assert_eq!(DataRow::decode(b""), DataRow { place: Place::File, owner: DataOwner::Awaited });
    }
}
