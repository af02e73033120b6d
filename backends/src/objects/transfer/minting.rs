//! A target that mints version ids beside its source.

use backbeat_core::call::Ending;
use backbeat_core::request::minting::{Minted, MintingReply, MintingRequest, ObjectPut};
use backbeat_core::request::{MovedPart, PartMove, Side, SiteReply, SiteRequest};
use bytes::Bytes;

use super::passing::Passing;
use super::{keeps_versions, not_of_target};
use crate::credentials::CredentialSource;
use crate::objects::s3::S3Site;
use crate::objects::{ByteStream, ObjectSite};

/// The source, and a target that mints version ids (decision D11).
#[derive(Debug)]
pub struct MintingPair<S, C> {
    source: S,
    target: S3Site<C>,
}

impl<S: ObjectSite, C: CredentialSource> MintingPair<S, C> {
    /// These two sites.
    pub fn new(source: S, target: S3Site<C>) -> Self {
        Self { source, target }
    }

    /// Carries out `request`; the reply is of the same variant. Dropping the future gives it up; it may happen all the same.
    pub async fn call(&self, request: SiteRequest) -> SiteReply {
        match request {
            SiteRequest::ReadMetadata { side: Side::Source, object } => {
                SiteReply::Metadata(self.source.read_metadata(&object).await)
            }
            SiteRequest::WriteMetadata { side: Side::Source, object, md, condition, keep_data } => {
                let ending = self.source.write_metadata(&object, &md, condition.as_ref(), keep_data);
                SiteReply::Written(ending.await)
            }
            SiteRequest::MovePart(part) => {
                let (side, ending) = self.move_part(&part).await;
                SiteReply::Moved { side, ending }
            }
            SiteRequest::ReadRules { bucket } => {
                SiteReply::Rules(self.source.bucket_rules(&bucket).await.map(Into::into))
            }
            SiteRequest::CheckBucket { bucket } => {
                SiteReply::Bucket(keeps_versions(self.target.bucket_state(&bucket).await))
            }
            SiteRequest::Minting(request) => SiteReply::Minting(self.mint(&request).await),
            SiteRequest::ReadMetadata { side: Side::Target, .. } => SiteReply::Metadata(not_of_target()),
            SiteRequest::WriteMetadata { side: Side::Target, .. } => SiteReply::Written(not_of_target()),
            SiteRequest::DeleteData { .. } => SiteReply::Deleted(not_of_target()),
        }
    }

    async fn mint(&self, request: &MintingRequest) -> MintingReply {
        match request {
            MintingRequest::ReadCurrent { object } => {
                MintingReply::Current(self.source.current_version(&object.bucket, &object.key).await)
            }
            MintingRequest::PutObject(put) => {
                let (side, ending) = self.put_object(put).await;
                MintingReply::Put { side, ending }
            }
            MintingRequest::FindCopies { .. }
            | MintingRequest::ListUploads { .. }
            | MintingRequest::CreateUpload { .. }
            | MintingRequest::ListParts { .. }
            | MintingRequest::CompleteUpload { .. }
            | MintingRequest::AbortUpload { .. }
            | MintingRequest::WriteTags { .. }
            | MintingRequest::DeleteObject { .. }
            | MintingRequest::DeleteVersion { .. } => self.target.ask(request).await,
        }
    }

    async fn put_object(&self, put: &ObjectPut) -> (Side, Ending<Minted>) {
        if put.size == 0 {
            return (Side::Target, self.target.put_object(put, ByteStream::full(Bytes::new())).await);
        }
        let passing = Passing {
            from: &put.from,
            part: 1,
            size: put.size,
            digest: &put.digest,
            to: format!("{}/{}", put.to.bucket, put.to.key),
        };
        passing.across(&self.source, |bytes| self.target.put_object(put, bytes)).await
    }

    async fn move_part(&self, part: &PartMove) -> (Side, Ending<MovedPart>) {
        let Some(upload) = &part.upload else {
            return (Side::Target, not_of_target());
        };
        Passing::of_part(part).across(&self.source, |bytes| self.target.put_part(part, upload, bytes)).await
    }
}
