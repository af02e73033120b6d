//! Plain S3 as a target: a site that gives every version an id of its own (decision D11). What it is asked is told by
//! [`MintingRequest`](backbeat_core::request::minting::MintingRequest).
//!
//! Copies carry the marker and the replica flag that upstream's cloud routes write (wire reference 1.8). Only what S3 at large has
//! is relied on: versions, their lists, uploads in parts, tags, `Content-MD5`; conditions only where they are asked for.
//!
//! **Entity tags** that say nothing about bytes, as those of objects encrypted with managed keys, are told with `opaque:` before
//! them, so that nobody takes them for a digest.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod headers;
pub(super) mod listing;
mod seen;
mod uploads;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::id::{Bucket, MintedId};
use backbeat_core::model::{ObjectRef, VersionId, VersionRef};
use backbeat_core::request::minting::{
    Copies, CurrentIs, Minted, MintingReply, MintingRequest, ObjectPut, TargetVersion, marker_of,
};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::{HeaderMap, Method, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::OnceCell;

use self::headers::MARKER;
use self::listing::{Listed, unquoted};
use self::seen::{Memory, Seen};
use super::answer::{self, refused, unreadable};
use super::body::ByteStream;
use super::servers::Servers;
use super::{BucketState, TimeLimits};
use crate::credentials::CredentialSource;
use crate::http::{Body, Request, SignedClient};
use crate::timestamp::system_ms;

/// Versions that are asked about at once.
const LOOKS_MAX: usize = 8;
/// Versions that one page of a list has at most.
const PAGE_MAX: u32 = 1_000;
/// What stands before entity tags that are no digests.
const OPAQUE: &str = "opaque:";

/// What stopped a row of requests.
type Stopped = Ending<Infallible>;

/// Goes on with what was applied.
fn applied<T>(ending: Ending<T>) -> Result<T, Stopped> {
    match ending {
        Ending::Applied(value) => Ok(value),
        Ending::Refused(refusal) => Err(Ending::Refused(refusal)),
        Ending::Unknown => Err(Ending::Unknown),
    }
}

/// How a row of requests ended.
fn ended<T>(result: Result<T, Stopped>) -> Ending<T> {
    result.map_or_else(|stopped| stopped.map(|never| match never {}), Ending::Applied)
}

/// How copies are encrypted by the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSideEncryption {
    /// `AES256`, `aws:kms` or another one that the site knows.
    pub algorithm: String,
    /// The managed key; the site's own if none is named.
    pub kms_key_id: Option<String>,
}

/// What the copies of a site are written with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Settings {
    /// Their storage class; the site's own if none is named.
    pub storage_class: Option<String>,
    /// Their encryption; the bucket's own if none is named.
    pub encryption: Option<ServerSideEncryption>,
}

/// A target that is reached by S3 alone, behind one or more equal servers.
#[derive(Debug)]
pub struct S3Site<C> {
    servers: Servers<C>,
    settings: S3Settings,
    seen: Memory,
    /// As whom the site lists the uploads that these credentials begin.
    initiator: OnceCell<String>,
}

fn path(object: &ObjectRef) -> String {
    format!("/{}/{}", object.bucket, object.key)
}

fn of(object: &ObjectRef, method: Method) -> Request {
    Request::new(method, path(object))
}

/// Adds the current version that is expected.
fn conditional(request: Request, condition: Option<&CurrentIs>) -> Request {
    match condition {
        None => request,
        Some(CurrentIs::Absent) => request.header("if-none-match", "*"),
        Some(CurrentIs::Etag(etag)) => {
            let etag = etag.strip_prefix(OPAQUE).unwrap_or(etag);
            request.header("if-match", format!("\"{etag}\""))
        }
    }
}

/// A key without a current version refuses whoever expects one with a code of its own.
fn settled<T>(ending: Ending<T>, condition: Option<&CurrentIs>) -> Ending<T> {
    match ending {
        Ending::Refused(refusal) if condition.is_some() && refusal.code == "NoSuchKey" => {
            Ending::Refused(Refusal { kind: RefusalKind::Conflict, ..refusal })
        }
        ending @ (Ending::Applied(_) | Ending::Refused(_) | Ending::Unknown) => ending,
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Whether the entity tag of what these headers are about is no digest of its bytes.
fn is_opaque(headers: &HeaderMap) -> bool {
    text(headers, "x-amz-server-side-encryption").is_some_and(|algorithm| algorithm != "AES256")
        || headers.contains_key("x-amz-server-side-encryption-customer-algorithm")
}

fn told_etag(etag: &str, is_opaque: bool) -> String {
    let etag = unquoted(etag);
    if is_opaque { format!("{OPAQUE}{etag}") } else { etag.to_owned() }
}

fn seen(headers: &HeaderMap) -> Seen {
    let marker = text(headers, MARKER).and_then(|marker| match marker {
        "null" => Some(VersionRef::Null),
        encoded => VersionId::decode(encoded).ok().map(VersionRef::Version),
    });
    Seen { marker, is_opaque: is_opaque(headers) }
}

/// The version that an answer names.
fn named(headers: &HeaderMap) -> MintedId {
    listing::minted(text(headers, "x-amz-version-id").unwrap_or_default())
}

impl<C: CredentialSource> S3Site<C> {
    /// The site behind `servers`, signing with what `credentials` gives and not with the clients' own keys.
    ///
    /// # Panics
    /// If there is no server.
    pub fn over(
        servers: Vec<SignedClient>,
        credentials: Arc<C>,
        limits: TimeLimits,
        settings: S3Settings,
    ) -> Self {
        let servers = Servers::new(servers, credentials, limits);
        Self { servers, settings, seen: Memory::default(), initiator: OnceCell::new() }
    }

    /// What a bucket is.
    pub async fn bucket_state(&self, bucket: &Bucket) -> Ending<BucketState> {
        let request = Request::new(Method::GET, format!("/{bucket}")).query("versioning", "");
        self.call(request, |answer| {
            answer::state(answer.body())
                .map_or_else(|| unreadable("versioning configuration"), Ending::Applied)
        })
        .await
    }

    /// Carries out a request that needs no bytes and is not for the source.
    pub async fn ask(&self, request: &MintingRequest) -> MintingReply {
        match request {
            MintingRequest::FindCopies { object, known, depth } => {
                let found = self.find_copies(object, known.as_ref(), *depth).await;
                MintingReply::Found(ended(found.map(Box::new)))
            }
            MintingRequest::ListUploads { object } => {
                MintingReply::Uploads(ended(self.list_uploads(object).await))
            }
            MintingRequest::CreateUpload { object, md } => {
                MintingReply::Created(self.create_upload(object, md).await)
            }
            MintingRequest::ListParts { object, upload } => {
                MintingReply::Parts(ended(self.list_parts(object, upload).await))
            }
            MintingRequest::CompleteUpload { object, upload, parts, condition } => {
                MintingReply::Minted(self.complete_upload(object, upload, parts, condition.as_ref()).await)
            }
            MintingRequest::AbortUpload { object, upload } => {
                MintingReply::Done(self.abort_upload(object, upload).await)
            }
            MintingRequest::WriteTags { object, id, tags } => {
                MintingReply::Done(self.write_tags(object, id, tags).await)
            }
            MintingRequest::DeleteObject { object, condition } => {
                MintingReply::Minted(self.delete_object(object, condition.as_ref()).await)
            }
            MintingRequest::DeleteVersion { object, id } => {
                MintingReply::Done(self.delete_version(object, id).await)
            }
            MintingRequest::ReadCurrent { .. } | MintingRequest::PutObject(_) => {
                let refusal = Refusal::new(RefusalKind::Invalid, "NotForTheTargetAlone");
                request.not_applied(Ending::Refused(refusal))
            }
        }
    }

    /// Writes a whole object; `bytes` has as many as `put` says.
    pub async fn put_object(&self, put: &ObjectPut, bytes: ByteStream) -> Ending<Minted> {
        let time_max = Duration::from_micros(put.deadline.as_micros());
        let request = self.described(of(&put.to, Method::PUT), &put.to, put);
        let request = conditional(request, put.condition.as_ref()).body(streamed(bytes));
        let ending = self.servers.call(request, time_max, |answer| Ending::Applied(minted(&answer)));
        let ending = settled(ending.await, put.condition.as_ref());
        if let Ending::Applied(minted) = &ending {
            self.note(&put.to, minted);
        }
        ending
    }

    fn described(&self, request: Request, object: &ObjectRef, put: &ObjectPut) -> Request {
        let request = match content_md5(&put.digest) {
            Some(md5) => request.header("content-md5", md5),
            None => request,
        };
        headers::describe(request, &object.version, &put.md, &self.settings, system_ms())
    }

    /// What was written needs no look, unless the site does not tell its entity tag.
    fn note(&self, object: &ObjectRef, minted: &Minted) {
        if minted.etag.is_empty() {
            return;
        }
        let seen =
            Seen { marker: Some(marker_of(&object.version)), is_opaque: minted.etag.starts_with(OPAQUE) };
        self.seen.put(&object.bucket, &object.key, &minted.id, seen);
    }

    /// A call without data.
    async fn call<T>(
        &self,
        request: Request,
        read: impl FnOnce(Response<Bytes>) -> Ending<T> + Send,
    ) -> Ending<T> {
        self.servers.call(request, self.servers.limits.call, read).await
    }

    async fn find_copies(
        &self,
        object: &ObjectRef,
        known: Option<&MintedId>,
        depth: u32,
    ) -> Result<Copies, Stopped> {
        let (listed, complete) = self.list_versions(object, depth).await?;
        let looks = listed.into_iter().map(|version| self.look_at(object, version));
        let found: Vec<Option<TargetVersion>> = stream::iter(looks).buffered(LOOKS_MAX).try_collect().await?;
        let known = match known {
            Some(id) => self.look_for(object, id).await?,
            None => None,
        };
        Ok(Copies { newest_first: found.into_iter().flatten().collect(), complete, known })
    }

    /// The newest `depth` versions of a key, and whether these are all.
    async fn list_versions(&self, object: &ObjectRef, depth: u32) -> Result<(Vec<Listed>, bool), Stopped> {
        let depth = depth as usize;
        let are_encoded = listing::needs_encoding(object.key.as_str());
        let mut found = Vec::new();
        let mut next: Option<(String, String)> = None;
        loop {
            let mut request = Request::new(Method::GET, format!("/{}", object.bucket))
                .query("versions", "")
                .query("prefix", object.key.as_str())
                .query("max-keys", (depth + 1).min(PAGE_MAX as usize).to_string());
            if are_encoded {
                request = request.query("encoding-type", "url");
            }
            if let Some((key, id)) = &next {
                request = request.query("key-marker", key).query("version-id-marker", id);
            }
            let ending = self.call(request, |answer| {
                listing::versions(answer.body(), are_encoded)
                    .map_or_else(|| unreadable("the list of versions is not understood"), Ending::Applied)
            });
            let page = applied(ending.await)?;
            // The key itself comes before all that begin with it.
            let is_passed = page.listed.iter().any(|version| version.key != object.key.as_str());
            found.extend(page.listed.into_iter().filter(|version| version.key == object.key.as_str()));
            let is_last = is_passed || page.next.is_none();
            if is_last || found.len() > depth {
                let complete = is_last && found.len() <= depth;
                let mut found = listing::newest_first(found);
                found.truncate(depth);
                return Ok((found, complete));
            }
            next = page.next;
        }
    }

    /// A listed version with its marker; nothing if it is gone by now.
    async fn look_at(&self, object: &ObjectRef, listed: Listed) -> Result<Option<TargetVersion>, Stopped> {
        let id = listing::minted(&listed.id);
        if listed.is_delete_marker {
            return Ok(Some(delete_marker(id)));
        }
        match self.seen.get(&object.bucket, &object.key, &id) {
            Some(seen) => self.tagged(object, id, seen, &listed.etag, listed.size).await,
            None => self.look_for(object, &id).await,
        }
    }

    /// A version by its id; nothing if there is no such version.
    async fn look_for(&self, object: &ObjectRef, id: &MintedId) -> Result<Option<TargetVersion>, Stopped> {
        let request = of(object, Method::HEAD).query("versionId", id.as_str());
        let ending = self.servers.exchange(request, self.servers.limits.call, |answer| {
            let headers = answer.headers();
            // The length that is told of what is not sent.
            let size = text(headers, "content-length").and_then(|length| length.parse::<u64>().ok());
            match (answer.status().as_u16(), size) {
                (200, Some(size)) => {
                    let etag = text(headers, "etag").unwrap_or_default().to_owned();
                    Ending::Applied(Look::Object { seen: seen(headers), etag, size })
                }
                (200, None) => unreadable("no Content-Length"),
                (404, _) => Ending::Applied(Look::Nothing),
                (405, _) => Ending::Applied(Look::DeleteMarker),
                // Without a body nobody knows why: an id that is none, or keys that have expired.
                (400, _) => Ending::Applied(Look::Unexplained),
                _ => refused(&answer),
            }
        });
        match applied(ending.await)? {
            Look::Object { seen, etag, size } => {
                self.seen.put(&object.bucket, &object.key, id, seen.clone());
                self.tagged(object, id.clone(), seen, &etag, size).await
            }
            Look::DeleteMarker => Ok(Some(delete_marker(id.clone()))),
            Look::Nothing => Ok(None),
            Look::Unexplained => match self.read_tags(object, id).await {
                Ending::Refused(refusal) if refusal.code == "InvalidArgument" => Ok(None),
                Ending::Refused(refusal) if refusal.kind == RefusalKind::NotFound => Ok(None),
                Ending::Refused(refusal) => Err(Ending::Refused(refusal)),
                Ending::Applied(_) | Ending::Unknown => Err(Ending::Unknown),
            },
        }
    }

    async fn read_tags(&self, object: &ObjectRef, id: &MintedId) -> Ending<BTreeMap<String, String>> {
        let request = of(object, Method::GET).query("tagging", "").query("versionId", id.as_str());
        self.call(request, |answer| {
            listing::tags(answer.body())
                .map_or_else(|| unreadable("the tags are not understood"), Ending::Applied)
        })
        .await
    }

    /// A version with its tags, if it is a copy of the one that is looked for.
    async fn tagged(
        &self,
        object: &ObjectRef,
        id: MintedId,
        seen: Seen,
        etag: &str,
        size: u64,
    ) -> Result<Option<TargetVersion>, Stopped> {
        let mut tags = BTreeMap::new();
        if seen.marker.as_ref() == Some(&marker_of(&object.version)) {
            match self.read_tags(object, &id).await {
                Ending::Refused(refusal) if refusal.code == "NoSuchTagSet" => {}
                Ending::Refused(refusal) if refusal.kind == RefusalKind::NotFound => return Ok(None),
                ending @ (Ending::Applied(_) | Ending::Refused(_) | Ending::Unknown) => {
                    tags = applied(ending)?;
                }
            }
        }
        let etag = told_etag(etag, seen.is_opaque).into();
        Ok(Some(TargetVersion { id, marker: seen.marker, etag, size, is_delete_marker: false, tags }))
    }

    async fn write_tags(
        &self,
        object: &ObjectRef,
        id: &MintedId,
        tags: &BTreeMap<String, String>,
    ) -> Ending<()> {
        let request = |method| of(object, method).query("tagging", "").query("versionId", id.as_str());
        let request = if tags.is_empty() {
            request(Method::DELETE)
        } else {
            let body = tagging(tags);
            request(Method::PUT).header("content-md5", md5_of(&body)).body(Body::full(body))
        };
        self.call(request, |_| Ending::Applied(())).await
    }

    async fn delete_object(&self, object: &ObjectRef, condition: Option<&CurrentIs>) -> Ending<Minted> {
        let request = conditional(of(object, Method::DELETE), condition);
        let ending = self.call(request, |answer| {
            Ending::Applied(Minted { id: named(answer.headers()), etag: String::new() })
        });
        settled(ending.await, condition)
    }

    async fn delete_version(&self, object: &ObjectRef, id: &MintedId) -> Ending<()> {
        let request = of(object, Method::DELETE).query("versionId", id.as_str());
        self.call(request, |_| Ending::Applied(())).await
    }
}

/// What a look at a version found.
enum Look {
    Object { seen: Seen, etag: String, size: u64 },
    DeleteMarker,
    Nothing,
    Unexplained,
}

fn delete_marker(id: MintedId) -> TargetVersion {
    TargetVersion {
        id,
        marker: None,
        etag: "".into(),
        size: 0,
        is_delete_marker: true,
        tags: BTreeMap::new(),
    }
}

/// The version that an answer to a put says was made.
fn minted(answer: &Response<Bytes>) -> Minted {
    let headers = answer.headers();
    let etag = text(headers, "etag").unwrap_or_default();
    Minted { id: named(headers), etag: told_etag(etag, is_opaque(headers)) }
}

fn streamed(bytes: ByteStream) -> Body {
    match bytes.size() {
        0 => Body::empty(),
        size => Body::stream(size, StreamBody::new(bytes.map_ok(Frame::data))),
    }
}

/// A hex MD5 as `Content-MD5` has it.
fn content_md5(hex: &str) -> Option<String> {
    let digest = hex::decode(hex).ok().filter(|digest| digest.len() == 16)?;
    Some(base64_simd::STANDARD.encode_to_string(digest))
}

/// The MD5 of a document as `Content-MD5` has it.
pub(crate) fn md5_of(body: &str) -> String {
    use md5::Digest as _;
    base64_simd::STANDARD.encode_to_string(md5::Md5::digest(body.as_bytes()))
}

fn tagging(tags: &BTreeMap<String, String>) -> String {
    use quick_xml::escape::escape;
    let tag = |(name, value): (&String, &String)| {
        format!("<Tag><Key>{}</Key><Value>{}</Value></Tag>", escape(name.as_str()), escape(value.as_str()))
    };
    let tags: String = tags.iter().map(tag).collect();
    format!("<Tagging xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><TagSet>{tags}</TagSet></Tagging>")
}

#[cfg(test)]
mod tests;
