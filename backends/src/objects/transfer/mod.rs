//! Carrying out what a machine asks of its two sites.

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::request::{MovedPart, PartMove, Side, SiteReply, SiteRequest};
use std::time::Duration;
use tracing::warn;

use super::{DataWrite, ObjectSite, PartRange, Versioning};

/// Without a byte taken for so long, a part that goes to a target is given up: the connection is as good as gone, and the
/// deadline of a part is long enough for large ones.
const STALL_TIME_MAX: Duration = Duration::from_secs(30);
/// Time for a target that has all bytes of a part to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_mins(1);

/// The source and one target.
#[derive(Clone, Debug)]
pub struct SitePair<S, T> {
    source: S,
    target: T,
}

impl<S: ObjectSite, T: ObjectSite> SitePair<S, T> {
    /// These two sites.
    pub fn new(source: S, target: T) -> Self {
        Self { source, target }
    }

    /// The source.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// The target.
    pub fn target(&self) -> &T {
        &self.target
    }

    /// Carries out `request`; the reply is of the same variant. Dropping the future gives it up; it may happen all the same.
    pub async fn call(&self, request: SiteRequest) -> SiteReply {
        match request {
            SiteRequest::ReadMetadata { side: Side::Source, object } => {
                SiteReply::Metadata(self.source.read_metadata(&object).await)
            }
            SiteRequest::ReadMetadata { side: Side::Target, object } => {
                SiteReply::Metadata(self.target.read_metadata(&object).await)
            }
            SiteRequest::WriteMetadata { side, object, md, condition, keep_data } => {
                let condition = condition.as_ref();
                SiteReply::Written(match side {
                    Side::Source => self.source.write_metadata(&object, &md, condition, keep_data).await,
                    Side::Target => self.target.write_metadata(&object, &md, condition, keep_data).await,
                })
            }
            SiteRequest::MovePart(part) => {
                let (side, ending) = self.move_part(&part).await;
                SiteReply::Moved { side, ending }
            }
            SiteRequest::DeleteData { bucket, key, locations } => {
                SiteReply::Deleted(self.target.delete_data(&bucket, &key, &locations).await)
            }
            SiteRequest::ReadRules { bucket } => {
                SiteReply::Rules(self.source.bucket_rules(&bucket).await.map(Into::into))
            }
            SiteRequest::CheckBucket { bucket } => {
                let state = self.target.bucket_state(&bucket).await;
                SiteReply::Bucket(match state {
                    Ending::Applied(state) if state.versioning != Versioning::Enabled => {
                        Ending::Refused(Refusal::new(RefusalKind::BucketUnversioned, "InvalidBucketState"))
                    }
                    Ending::Applied(_) => Ending::Applied(()),
                    Ending::Refused(refusal) => Ending::Refused(refusal),
                    Ending::Unknown => Ending::Unknown,
                })
            }
            SiteRequest::Minting(request) => {
                let refusal = Refusal::new(RefusalKind::Invalid, "NotSupportedByThisTarget");
                SiteReply::Minting(request.not_applied(Ending::Refused(refusal)))
            }
        }
    }

    /// Streams one part across. What is at fault is at the side that is named.
    async fn move_part(&self, part: &PartMove) -> (Side, Ending<MovedPart>) {
        let bytes = match self.source.read_part(&part.from, PartRange::Part(part.number)).await {
            Ending::Applied(bytes) => bytes,
            Ending::Refused(refusal) => return (Side::Source, Ending::Refused(refusal)),
            // Nothing was written: a read without an answer is like a source that is not there.
            Ending::Unknown => return (Side::Source, unavailable("no answer to the read")),
        };
        if bytes.size() != part.size {
            let code = format!("part {} has {} bytes, not {}", part.number, bytes.size(), part.size);
            return (Side::Source, Ending::Refused(Refusal::new(RefusalKind::BadDigest, code)));
        }
        let (bytes, meter) = bytes.metered();
        let write = DataWrite {
            bucket: part.to_bucket.clone(),
            key: part.to_key.clone(),
            size: part.size,
            md5: part.digest.to_string(),
            owner: part.owner.id().to_owned(),
            time_max: Duration::from_micros(part.deadline.as_micros()),
        };
        let ending = tokio::select! {
            biased;
            ending = self.target.write_data(write, bytes) => ending,
            () = meter.stalled(STALL_TIME_MAX, ANSWER_TIME_MAX) => {
                let bytes_left = meter.bytes_left();
                warn!(bucket = %part.to_bucket, key = %part.to_key, part = part.number, bytes_left, "the target takes nothing more and does not answer: given up");
                Ending::Unknown
            }
        };
        match (meter.error(), ending) {
            // A target that saw the source break off has not stored the part.
            (Some(error), Ending::Unknown | Ending::Refused(_)) => {
                (Side::Source, unavailable(&error.to_string()))
            }
            // The bytes that arrived were not those that the source announces: the target is not to blame.
            (None, Ending::Refused(refusal))
                if refusal.kind == RefusalKind::BadDigest && meter.md5() != part.digest =>
            {
                (Side::Source, Ending::Refused(refusal))
            }
            (_, ending) => (Side::Target, ending),
        }
    }
}

fn unavailable(code: &str) -> Ending<MovedPart> {
    Ending::Refused(Refusal::new(RefusalKind::Unavailable, code))
}

#[cfg(test)]
mod tests;
