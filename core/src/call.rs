//! How a request to the outside world ended, as far as the requester can know.

use crate::time::Span;

/// The three endings of a request. `Unknown` is never turned into success nor into "it did not happen".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending<T> {
    /// The other side acknowledged the request.
    Applied(T),
    /// The other side refused; nothing was written.
    Refused(Refusal),
    /// No answer arrived (time-out, reset, crash of the peer). The write may have happened, or may still happen.
    Unknown,
}

impl<T> Ending<T> {
    /// The ending with its value mapped.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Ending<U> {
        match self {
            Self::Applied(value) => Ending::Applied(f(value)),
            Self::Refused(refusal) => Ending::Refused(refusal),
            Self::Unknown => Ending::Unknown,
        }
    }
}

/// Why a request was refused. Callers branch on the kind, never on text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The kind of refusal.
    pub kind: RefusalKind,
    /// The other side's error code, for people (`NoSuchBucket`, `SlowDown`, ...). Never contains a secret.
    pub code: String,
}

impl Refusal {
    /// A refusal of `kind` reported as `code`.
    pub fn new(kind: RefusalKind, code: impl Into<String>) -> Self {
        Self { kind, code: code.into() }
    }
}

/// The kinds of refusal that a machine tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The object or version does not exist (any 404 on an object).
    NotFound,
    /// The bucket does not exist.
    BucketNotFound,
    /// The bucket exists but its versioning is not enabled.
    BucketUnversioned,
    /// The request was not permitted (403), or the role could not be assumed.
    Denied,
    /// Temporary credentials expired: refresh them and try again.
    ExpiredCredentials,
    /// The server asks to slow down (429, 503 SlowDown), with the time it asked for if it said so.
    Throttled {
        /// `Retry-After`, if the answer carried one.
        retry_after: Option<Span>,
    },
    /// The server failed without side effect (5xx with an error document).
    Unavailable,
    /// A conditional request found another state than the one it named (412).
    Conflict,
    /// The bytes received do not have the digest announced (400 BadDigest).
    BadDigest,
    /// The object's state does not allow the request (archived data: 403 InvalidObjectState).
    InvalidState,
    /// The message or body is larger than the other side accepts.
    TooLarge,
    /// This owner was replaced: an older generation, a lost lease, a lost session.
    Fenced,
    /// The answer could not be understood, or the request itself was invalid (other 4xx). Trying again is pointless.
    Invalid,
}

/// What a refused read or conditional write of metadata means to a machine that has to record something there. Such a
/// machine never gives up while there is something to record on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataRefused {
    /// The version is gone: there is nothing to record on.
    Gone,
    /// It is not what was read any more: it is read again.
    Changed,
    /// Whatever is in the way, the same is tried again later.
    Later,
}

impl RefusalKind {
    /// Whether the same request may succeed later without anything else changing (replication reference 5.6).
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::ExpiredCredentials | Self::Throttled { .. } | Self::Unavailable)
    }

    /// The wait that the server asked for, if it did.
    pub const fn retry_after(self) -> Option<Span> {
        if let Self::Throttled { retry_after } = self { retry_after } else { None }
    }

    /// What it says of a version when its metadata could not be read, or not be written under a condition.
    pub const fn of_metadata(self) -> MetadataRefused {
        match self {
            Self::NotFound | Self::BucketNotFound => MetadataRefused::Gone,
            Self::Conflict => MetadataRefused::Changed,
            Self::BucketUnversioned
            | Self::Denied
            | Self::ExpiredCredentials
            | Self::Throttled { .. }
            | Self::Unavailable
            | Self::BadDigest
            | Self::InvalidState
            | Self::TooLarge
            | Self::Fenced
            | Self::Invalid => MetadataRefused::Later,
        }
    }
}
