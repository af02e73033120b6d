//! Carrying out what a machine asks of its two sites.

mod minting;
mod passing;

use std::time::Duration;

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::request::{MovedPart, PartMove, Side, SiteReply, SiteRequest};

pub use minting::MintingPair;

use self::passing::Passing;
use super::{BucketState, DataWrite, ObjectSite, Versioning};

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
                SiteReply::Bucket(keeps_versions(self.target.bucket_state(&bucket).await))
            }
            SiteRequest::Minting(request) => SiteReply::Minting(request.not_applied(not_of_target())),
        }
    }

    /// Streams one part across. What is at fault is at the side that is named.
    async fn move_part(&self, part: &PartMove) -> (Side, Ending<MovedPart>) {
        let passing = Passing::of_part(part);
        passing
            .across(&self.source, |bytes| {
                let write = DataWrite {
                    bucket: part.to_bucket.clone(),
                    key: part.to_key.clone(),
                    size: part.size,
                    md5: part.digest.to_string(),
                    owner: part.owner.id().to_owned(),
                    time_max: Duration::from_micros(part.deadline.as_micros()),
                };
                self.target.write_data(write, bytes)
            })
            .await
    }
}

/// Targets of this kind have no such request.
fn not_of_target<T>() -> Ending<T> {
    Ending::Refused(Refusal::new(RefusalKind::Invalid, "NotSupportedByThisTarget"))
}

/// Whether a bucket can take replicas.
fn keeps_versions(state: Ending<BucketState>) -> Ending<()> {
    match state {
        Ending::Applied(state) if state.versioning != Versioning::Enabled => {
            Ending::Refused(Refusal::new(RefusalKind::BucketUnversioned, "InvalidBucketState"))
        }
        Ending::Applied(_) => Ending::Applied(()),
        Ending::Refused(refusal) => Ending::Refused(refusal),
        Ending::Unknown => Ending::Unknown,
    }
}

#[cfg(test)]
mod tests;
