//! What the roles may do: what the engine asks of the sites, and what upstream's roles may (replication reference 9.1).

use backbeat_core::request::Side;

use super::{TargetSite, Wanted};

/// An action on a bucket, or on the objects in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Right {
    pub(super) action: &'static str,
    pub(super) resource: String,
}

const SOURCE_BUCKET: &[&str] = &["s3:GetReplicationConfiguration", "s3:ListBucket"];
/// `ReplicateObject` is what CloudServer's internal routes ask for, over which metadata is read and statuses are written.
const SOURCE_OBJECTS: &[&str] = &["s3:GetObjectVersion", "s3:GetObjectVersionAcl", "s3:ReplicateObject"];
/// For clouds.
const SOURCE_OBJECTS_EXTERNAL: &[&str] = &["s3:GetObjectVersionTagging"];
/// To see which version is the latest one, for targets that give versions ids of their own.
const SOURCE_OBJECTS_MINTING: &[&str] = &["s3:GetObject"];

const TARGET_BUCKET: &[&str] = &["s3:GetBucketVersioning", "s3:ListBucket"];
const TARGET_OBJECTS: &[&str] = &["s3:ReplicateDelete", "s3:ReplicateObject"];

const MINTING_BUCKET: &[&str] =
    &["s3:GetBucketVersioning", "s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:ListBucketVersions"];
const MINTING_OBJECTS: &[&str] = &[
    "s3:AbortMultipartUpload",
    "s3:DeleteObject",
    "s3:DeleteObjectVersion",
    "s3:DeleteObjectVersionTagging",
    "s3:GetObject",
    "s3:GetObjectVersion",
    "s3:GetObjectVersionTagging",
    "s3:ListMultipartUploadParts",
    "s3:PutObject",
    "s3:PutObjectLegalHold",
    "s3:PutObjectRetention",
    "s3:PutObjectTagging",
    "s3:PutObjectVersionTagging",
];

impl Wanted {
    /// What the role of a side has to be allowed.
    pub(super) fn rights(&self, side: Side) -> Vec<Right> {
        let (bucket, objects): (&[&str], &[&[&str]]) = match (side, self.target) {
            (Side::Source, TargetSite::Keeping) => (SOURCE_BUCKET, &[SOURCE_OBJECTS]),
            (Side::Source, TargetSite::Minting) => (SOURCE_BUCKET, &[SOURCE_OBJECTS, SOURCE_OBJECTS_MINTING]),
            (Side::Source, TargetSite::External) => {
                (SOURCE_BUCKET, &[SOURCE_OBJECTS, SOURCE_OBJECTS_EXTERNAL])
            }
            (Side::Target, TargetSite::Minting) => (MINTING_BUCKET, &[MINTING_OBJECTS]),
            (Side::Target, TargetSite::Keeping | TargetSite::External) => (TARGET_BUCKET, &[TARGET_OBJECTS]),
        };
        let arn = format!("arn:aws:s3:::{}", self.bucket(side));
        let right = |resource: &str| {
            let resource = resource.to_owned();
            move |action: &&'static str| Right { action, resource: resource.clone() }
        };
        let of_objects = objects.iter().copied().flatten().map(right(&format!("{arn}/*")));
        bucket.iter().map(right(&arn)).chain(of_objects).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::names::tests::wanted;

    /// Upstream's table, action by action.
    #[test]
    fn roles_may_at_least_what_those_of_upstream_may() {
        let may = |target, side, action: &str, resource: &str| {
            let rights = Wanted { target, ..wanted() }.rights(side);
            assert!(
                rights.iter().any(|right| right.action == action && right.resource == resource),
                "{action} on {resource} is not among {rights:?}"
            );
        };
        for target in [TargetSite::Keeping, TargetSite::External] {
            for action in ["s3:ListBucket", "s3:GetReplicationConfiguration"] {
                may(target, Side::Source, action, "arn:aws:s3:::photos");
            }
            for action in ["s3:GetObjectVersion", "s3:GetObjectVersionAcl"] {
                may(target, Side::Source, action, "arn:aws:s3:::photos/*");
            }
        }
        may(TargetSite::External, Side::Source, "s3:GetObjectVersionTagging", "arn:aws:s3:::photos/*");
        for action in ["s3:ReplicateObject", "s3:ReplicateDelete"] {
            may(TargetSite::Keeping, Side::Target, action, "arn:aws:s3:::photos-copy/*");
        }
    }

    #[test]
    fn no_role_may_more_than_one_bucket() {
        for target in [TargetSite::Keeping, TargetSite::Minting, TargetSite::External] {
            let wanted = Wanted { target, ..wanted() };
            for &side in wanted.sides() {
                let bucket = format!("arn:aws:s3:::{}", wanted.bucket(side));
                for right in wanted.rights(side) {
                    assert!(!right.action.contains('*'), "{right:?}");
                    assert!(right.resource == bucket || right.resource == format!("{bucket}/*"), "{right:?}");
                }
            }
        }
    }
}
