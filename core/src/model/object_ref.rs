//! Which version of which object.

use std::fmt;

use crate::id::{Bucket, ObjectKey};

use super::VersionId;

/// One version of an object, or what stands for it where versions have no id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VersionRef {
    /// A version with an id.
    Version(VersionId),
    /// The null version of a bucket whose versioning is suspended.
    Null,
    /// The object of a bucket that never had versioning, or an object written before it had.
    Unversioned,
}

impl VersionRef {
    /// The value of a `versionId` query parameter: the encoded id, `null`, or no parameter at all.
    pub fn query(&self) -> Option<String> {
        match self {
            Self::Version(id) => Some(id.encode()),
            Self::Null => Some("null".to_owned()),
            Self::Unversioned => None,
        }
    }

    /// The `versionId` to use when reading or writing metadata: `null` also where there is no id, because a write without the
    /// parameter would create a version (replication reference 6.2).
    pub fn metadata_query(&self) -> String {
        self.query().unwrap_or_else(|| "null".to_owned())
    }

    /// The id, if the version has one.
    pub fn id(&self) -> Option<&VersionId> {
        match self {
            Self::Version(id) => Some(id),
            Self::Null | Self::Unversioned => None,
        }
    }

    /// The raw id, `null` for the null version, nothing for an unversioned object: upstream's "version id" of an entry.
    pub fn raw(&self) -> Option<&str> {
        match self {
            Self::Version(id) => Some(id.as_str()),
            Self::Null => Some("null"),
            Self::Unversioned => None,
        }
    }
}

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(id) => f.write_str(&id.encode()),
            Self::Null => f.write_str("null"),
            Self::Unversioned => f.write_str("unversioned"),
        }
    }
}

/// One version of one object. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// The bucket.
    pub bucket: Bucket,
    /// The key of the object.
    pub key: ObjectKey,
    /// The version.
    pub version: VersionRef,
}

impl ObjectRef {
    /// The version `version` of the object `key` in `bucket`.
    pub fn new(bucket: impl Into<Bucket>, key: impl Into<ObjectKey>, version: VersionRef) -> Self {
        Self { bucket: bucket.into(), key: key.into(), version }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bucket, key, version } = self;
        match version.query() {
            Some(id) => write!(f, "s3://{bucket}/{key}?versionId={id}"),
            None => write!(f, "s3://{bucket}/{key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_names_the_version_or_says_nothing() {
        let id = VersionId::from("98281999999999999999RG001  ");
        assert_eq!(VersionRef::Version(id).query().as_deref(), Some("aJ87MPaUKYOz00000000001I4j3QKItW"));
        assert_eq!(VersionRef::Null.query().as_deref(), Some("null"));
        assert_eq!(VersionRef::Unversioned.query(), None);
        assert_eq!(VersionRef::Unversioned.metadata_query(), "null");
    }

    #[test]
    fn a_reference_prints_as_a_person_would_type_it() {
        assert_eq!(ObjectRef::new("b", "k/é", VersionRef::Unversioned).to_string(), "s3://b/k/é");
        assert_eq!(ObjectRef::new("b", "k", VersionRef::Null).to_string(), "s3://b/k?versionId=null");
    }
}
