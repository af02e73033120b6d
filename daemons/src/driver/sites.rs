//! What a machine may ask of the sites, as its driver carries it out.

use std::future::Future;
use std::time::Duration;

use backbeat_backends::objects::{ObjectSite, SitePair};
use backbeat_core::call::Ending;
use backbeat_core::request::{Side, SiteReply, SiteRequest};

/// How long a request without data may take before its ending counts as unknown.
pub(super) const CALL_TIME_MAX: Duration = Duration::from_mins(1);

/// The sites that one machine works with.
pub trait Sites: Send + Sync + 'static {
    /// Carries out `request`. The reply is of the same variant. Dropping the future gives the request up; it may happen
    /// all the same.
    fn call(&self, request: SiteRequest) -> impl Future<Output = SiteReply> + Send;
}

impl<S: ObjectSite, T: ObjectSite> Sites for SitePair<S, T> {
    async fn call(&self, request: SiteRequest) -> SiteReply {
        Self::call(self, request).await
    }
}

/// How long `request` may take.
pub(super) fn time_max(request: &SiteRequest) -> Duration {
    match request {
        SiteRequest::MovePart(part) => Duration::from_micros(part.deadline.as_micros()),
        SiteRequest::ReadMetadata { .. }
        | SiteRequest::WriteMetadata { .. }
        | SiteRequest::DeleteData { .. }
        | SiteRequest::ReadRules { .. }
        | SiteRequest::CheckBucket { .. } => CALL_TIME_MAX,
        SiteRequest::Minting(request) => {
            request.transfer().map_or(CALL_TIME_MAX, |put| Duration::from_micros(put.deadline.as_micros()))
        }
    }
}

/// The reply to `request` when nobody knows how it ended.
pub(super) fn unknown(request: &SiteRequest) -> SiteReply {
    match request {
        SiteRequest::ReadMetadata { .. } => SiteReply::Metadata(Ending::Unknown),
        SiteRequest::WriteMetadata { .. } => SiteReply::Written(Ending::Unknown),
        SiteRequest::MovePart(_) => SiteReply::Moved { side: Side::Target, ending: Ending::Unknown },
        SiteRequest::DeleteData { .. } => SiteReply::Deleted(Ending::Unknown),
        SiteRequest::ReadRules { .. } => SiteReply::Rules(Ending::Unknown),
        SiteRequest::CheckBucket { .. } => SiteReply::Bucket(Ending::Unknown),
        SiteRequest::Minting(request) => SiteReply::Minting(request.not_applied(Ending::Unknown)),
    }
}
