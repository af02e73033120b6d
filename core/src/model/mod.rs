//! What an entry is: keys, version ids, object metadata, statuses, journal records and queue messages.
//!
//! Everything here is a value: parsed once, immutable, cheap to clone, and written back without losing what this engine does not
//! understand.

mod json_text;
mod key;
mod location;
mod members;
mod model_defaults;
mod object_md;
mod object_ref;
mod replication_info;
mod revision;
mod version_id;

pub use json_text::{JsonError, RawJson};
pub use key::{
    METASTORE, MPU_BUCKET_PREFIX, USERS_BUCKET, USERS_BUCKET_SEPARATOR, VERSION_SEPARATOR,
    encode_uri_component, is_master, object_key, queue_key, strip_format_prefix, version_key, version_suffix,
};
pub use location::{Location, Part, reduce};
pub use object_md::{Encryption, MetadataError, ObjectMd};
pub use object_ref::{ObjectRef, VersionRef};
pub use replication_info::{
    Backend, ContentFlag, OverallStatus, PREFERRED_READ, ReplicationInfo, SiteStatus, overall_of,
};
pub use revision::{Fingerprint, Revision, StateTag, StateTagError};
pub use version_id::{VersionId, VersionIdError};
