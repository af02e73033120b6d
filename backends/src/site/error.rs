//! How the site refuses: one error for both surfaces, written as XML on S3 routes and as JSON on internal ones.

use crate::embedded::StoreError;
use backbeat_core::model::MetadataError;
use http::StatusCode;
use s3s::{S3Error, S3ErrorCode};
use std::borrow::Cow;
use std::path::PathBuf;

/// A refusal with its S3 code, HTTP status and message (wire reference 0.4).
#[derive(Clone, Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub(super) struct Refusal {
    pub(super) code: &'static str,
    pub(super) status: StatusCode,
    pub(super) message: Cow<'static, str>,
}

pub(super) type Outcome<T> = Result<T, Refusal>;

macro_rules! refusals {
    ($($name:ident, $status:ident, $code:literal, $message:literal;)*) => {
        impl Refusal {
            $(pub(super) const fn $name() -> Self {
                Self { code: $code, status: StatusCode::$status, message: Cow::Borrowed($message) }
            })*
        }
    };
}

refusals! {
    access_denied, FORBIDDEN, "AccessDenied", "Access Denied";
    bad_digest, BAD_REQUEST, "BadDigest", "The Content-MD5 you specified did not match what we received.";
    bucket_exists, CONFLICT, "BucketAlreadyExists", "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a different name and try again.";
    bucket_not_empty, CONFLICT, "BucketNotEmpty", "The bucket you tried to delete is not empty.";
    bucket_owned, CONFLICT, "BucketAlreadyOwnedByYou", "Your previous request to create the named bucket succeeded and you already own it.";
    entity_too_large, BAD_REQUEST, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed object size.";
    entity_too_small, BAD_REQUEST, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed object size. Each part must be at least 5 MB in size, except the last part.";
    incomplete_body, BAD_REQUEST, "IncompleteBody", "You did not provide the number of bytes specified by the Content-Length HTTP header.";
    internal, INTERNAL_SERVER_ERROR, "InternalError", "We encountered an internal error. Please try again.";
    invalid_access_key, FORBIDDEN, "InvalidAccessKeyId", "The AWS access key Id you provided does not exist in our records.";
    invalid_argument, BAD_REQUEST, "InvalidArgument", "Invalid Argument";
    invalid_digest, BAD_REQUEST, "InvalidDigest", "The Content-MD5 you specified is not valid.";
    invalid_part, BAD_REQUEST, "InvalidPart", "One or more of the specified parts could not be found. The part might not have been uploaded, or the specified entity tag might not have matched the part's entity tag.";
    invalid_part_number, RANGE_NOT_SATISFIABLE, "InvalidPartNumber", "The requested partnumber is not satisfiable.";
    invalid_part_order, BAD_REQUEST, "InvalidPartOrder", "The list of parts was not in ascending order. Parts list must be specified in order by part number.";
    invalid_range, RANGE_NOT_SATISFIABLE, "InvalidRange", "The requested range cannot be satisfied.";
    invalid_tag, BAD_REQUEST, "InvalidTag", "The tag provided was not a valid tag. This error can occur if the tag did not pass input validation.";
    key_too_long, BAD_REQUEST, "KeyTooLongError", "Your key is too long.";
    location_not_found, FAILED_DEPENDENCY, "LocationNotFound", "The object data location does not exist.";
    malformed_acl, BAD_REQUEST, "MalformedACLError", "The XML you provided was not well-formed or did not validate against our published schema.";
    malformed_post, BAD_REQUEST, "MalformedPOSTRequest", "The body of your POST request is not well-formed multipart/form-data.";
    malformed_xml, BAD_REQUEST, "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema.";
    method_not_allowed, METHOD_NOT_ALLOWED, "MethodNotAllowed", "The specified method is not allowed against this resource.";
    missing_length, LENGTH_REQUIRED, "MissingContentLength", "You must provide the Content-Length HTTP header.";
    no_lock_configuration, NOT_FOUND, "ObjectLockConfigurationNotFoundError", "Object Lock configuration does not exist for this bucket";
    no_object_lock, NOT_FOUND, "NoSuchObjectLockConfiguration", "The specified object does not have a ObjectLock configuration.";
    no_such_bucket, NOT_FOUND, "NoSuchBucket", "The specified bucket does not exist.";
    no_such_cors, NOT_FOUND, "NoSuchCORSConfiguration", "The CORS configuration does not exist";
    no_such_lifecycle, NOT_FOUND, "NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist.";
    no_such_tags, NOT_FOUND, "NoSuchTagSet", "The TagSet does not exist";
    no_such_key, NOT_FOUND, "NoSuchKey", "The specified key does not exist.";
    no_such_upload, NOT_FOUND, "NoSuchUpload", "The specified multipart upload does not exist. The upload ID might be invalid, or the multipart upload might have been aborted or completed.";
    no_such_version, NOT_FOUND, "NoSuchVersion", "Indicates that the version ID specified in the request does not match an existing version.";
    not_implemented, NOT_IMPLEMENTED, "NotImplemented", "A header you provided implies functionality that is not implemented.";
    not_modified, NOT_MODIFIED, "NotModified", "Not Modified.";
    object_not_found, NOT_FOUND, "ObjNotFound", "This object does not exist";
    precondition_failed, PRECONDITION_FAILED, "PreconditionFailed", "At least one of the preconditions you specified did not hold.";
    no_replication_configuration, NOT_FOUND, "ReplicationConfigurationNotFoundError", "The replication configuration was not found";
    quota_exceeded, FORBIDDEN, "QuotaExceeded", "The quota of this site is used up: delete something, or raise the limit.";
    request_timeout, BAD_REQUEST, "RequestTimeout", "Your socket connection to the server was not read from or written to within the timeout period.";
    sha256_mismatch, BAD_REQUEST, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed.";
    service_unavailable, SERVICE_UNAVAILABLE, "ServiceUnavailable", "The request has failed due to a temporary failure of the server.";
    signature_mismatch, FORBIDDEN, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided.";
    time_too_skewed, FORBIDDEN, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.";
    slow_down, SERVICE_UNAVAILABLE, "SlowDown", "Replication is behind and the journal is full: try again later.";
    versioning_bound, CONFLICT, "InvalidBucketState", "A replication configuration is present on this bucket, so you cannot change the versioning state. To change the versioning state, first delete the replication configuration.";
}

impl Refusal {
    pub(super) fn with_message(self, message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into(), ..self }
    }

    /// `BadRequest` with its usual prefix.
    pub(super) fn bad_request(message: &str) -> Self {
        Self {
            code: "BadRequest",
            status: StatusCode::BAD_REQUEST,
            message: format!("bad request: {message}").into(),
        }
    }

    pub(super) fn invalid_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self { code: "InvalidRequest", status: StatusCode::BAD_REQUEST, message: message.into() }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store refused");
        match error {
            StoreError::Full { .. } => {
                Self::service_unavailable().with_message("The server has no space left: nothing was written.")
            }
            StoreError::Unknown { .. } => Self::service_unavailable()
                .with_message("The server's disk failed: whether the change was made is not known."),
            StoreError::Io { .. } | StoreError::Closed { .. } => Self::service_unavailable(),
            StoreError::Corrupt { .. } | StoreError::Damaged { .. } => {
                Self::internal().with_message("A stored record is damaged.")
            }
            StoreError::InUse { .. }
            | StoreError::NewerFormat { .. }
            | StoreError::UnknownFormat { .. }
            | StoreError::Panicked { .. } => Self::internal(),
        }
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        tracing::error!(%error, "the data directory refused");
        if error.kind() == std::io::ErrorKind::StorageFull {
            Self::service_unavailable().with_message("The server has no space left: nothing was written.")
        } else {
            Self::internal()
        }
    }
}

impl From<MetadataError> for Refusal {
    fn from(error: MetadataError) -> Self {
        // Stored metadata was parsed before it was stored.
        tracing::error!(%error, "stored metadata cannot be read");
        Self::internal().with_message("A stored record is damaged.")
    }
}

impl From<Refusal> for S3Error {
    fn from(refusal: Refusal) -> Self {
        let code = S3ErrorCode::from_bytes(refusal.code.as_bytes()).unwrap_or(S3ErrorCode::InternalError);
        let mut error = S3Error::with_message(code, refusal.message);
        error.set_status_code(refusal.status);
        error
    }
}

/// Why a site cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SiteError {
    /// Its store cannot.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its data folder cannot.
    #[error("cannot use {folder}: {error}")]
    Data {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The configuration does not make sense.
    #[error("site {name}: {problem}")]
    Configuration {
        /// The site.
        name: String,
        /// What is wrong and what to do.
        problem: &'static str,
    },
}
