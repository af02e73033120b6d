//! Names of members that have a part of their own.

pub(super) const REPLICATION: &str = "replicationInfo";
pub(super) const LOCATION: &str = "location";
pub(super) const ORIGIN_OP: &str = "originOp";
/// The canonical id of the owner.
pub(super) const OWNER_ID: &str = "owner-id";
/// The owner's name to show.
pub(super) const OWNER_DISPLAY_NAME: &str = "owner-display-name";

/// Members by which a site keeps account of which version this is. They change without any client's doing (a newer version
/// covers a null one), and differ between sites.
pub(super) const PLACE: [&str; 4] = ["versionId", "isNull", "isNull2", "nullVersionId"];

/// Members that name the encryption of the stored bytes.
pub(super) const ENCRYPTION: [&str; 3] = [
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-customer-algorithm",
];
