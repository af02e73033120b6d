//! Multipart uploads of a target: begun, filled, found again, completed.

use std::fmt::Write as _;
use std::time::Duration;

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::id::UploadId;
use backbeat_core::model::{Location, ObjectMd, ObjectRef};
use backbeat_core::request::minting::{CurrentIs, Minted, UploadedPart};
use backbeat_core::request::{MovedPart, PartMove};
use bytes::Bytes;
use http::{Method, Response};

use super::listing::{self, Upload, text_at, unquoted};
use super::{
    S3Site, Stopped, applied, conditional, content_md5, headers, is_opaque, named, of, settled, streamed,
    text, told_etag,
};
use crate::credentials::CredentialSource;
use crate::http::{Body, Request};
use crate::objects::answer::{refused, unreadable};
use crate::objects::body::ByteStream;
use crate::timestamp::system_ms;

impl<C: CredentialSource> S3Site<C> {
    /// Moves `bytes` into a part of the upload that `part` names.
    pub async fn put_part(&self, part: &PartMove, upload: &UploadId, bytes: ByteStream) -> Ending<MovedPart> {
        let (bytes, meter) = bytes.metered();
        let time_max = Duration::from_micros(part.deadline.as_micros());
        let mut request = Request::new(Method::PUT, format!("/{}/{}", part.to_bucket, part.to_key))
            .query("partNumber", part.number.to_string())
            .query("uploadId", upload.as_str());
        if let Some(md5) = content_md5(&part.digest) {
            request = request.header("content-md5", md5);
        }
        let request = request.body(streamed(bytes));
        let ending = self.servers.call(request, time_max, |answer| match text(answer.headers(), "etag") {
            Some(etag) => Ending::Applied(Location::stored(unquoted(etag), "")),
            None => unreadable("no ETag"),
        });
        // The target compared the bytes with the digest that was announced.
        ending.await.map(|location| MovedPart::new(location, meter.md5()))
    }

    pub(super) async fn create_upload(&self, object: &ObjectRef, md: &ObjectMd) -> Ending<UploadId> {
        let request = of(object, Method::POST).query("uploads", "");
        let request = headers::describe(request, &object.version, md, &self.settings, system_ms());
        self.begin(request).await
    }

    async fn begin(&self, request: Request) -> Ending<UploadId> {
        self.call(request, |answer| {
            match text_at(answer.body(), "InitiateMultipartUploadResult/UploadId") {
                Some(id) if !id.trim().is_empty() => Ending::Applied(id.trim().into()),
                // It was begun, and nobody can name it: the next list does.
                Some(_) | None => Ending::Unknown,
            }
        })
        .await
    }

    /// The open uploads of the key that these credentials began.
    pub(super) async fn list_uploads(&self, object: &ObjectRef) -> Result<Vec<UploadId>, Stopped> {
        let open = self.open_uploads(object).await?;
        if open.is_empty() {
            return Ok(Vec::new());
        }
        let initiator = self.initiator.get_or_try_init(|| self.learn_initiator(object)).await?;
        let own = open.into_iter().filter(|upload| upload.initiator == *initiator);
        Ok(own.map(|upload| upload.id.into()).collect())
    }

    /// As whom the site lists these credentials: an upload of our own shows it.
    async fn learn_initiator(&self, object: &ObjectRef) -> Result<String, Stopped> {
        let begun = applied(self.begin(of(object, Method::POST).query("uploads", "")).await)?;
        let open = self.open_uploads(object).await;
        // Should it stay open, the next list finds it.
        drop(self.abort_upload(object, &begun).await);
        let own = open?.into_iter().find(|upload| upload.id == begun.as_str()).map(|upload| upload.initiator);
        own.ok_or_else(|| {
            let refusal = Refusal::new(RefusalKind::Invalid, "an upload that was begun is not listed");
            Ending::Refused(refusal)
        })
    }

    async fn open_uploads(&self, object: &ObjectRef) -> Result<Vec<Upload>, Stopped> {
        let are_encoded = listing::needs_encoding(object.key.as_str());
        let mut found = Vec::new();
        let mut next: Option<(String, String)> = None;
        loop {
            let mut request = Request::new(Method::GET, format!("/{}", object.bucket))
                .query("uploads", "")
                .query("prefix", object.key.as_str());
            if are_encoded {
                request = request.query("encoding-type", "url");
            }
            if let Some((key, upload)) = &next {
                request = request.query("key-marker", key).query("upload-id-marker", upload);
            }
            let ending = self.call(request, |answer| {
                listing::uploads(answer.body(), are_encoded)
                    .map_or_else(|| unreadable("the list of uploads is not understood"), Ending::Applied)
            });
            let page = applied(ending.await)?;
            let is_passed = page.listed.iter().any(|upload| upload.key != object.key.as_str());
            found.extend(page.listed.into_iter().filter(|upload| upload.key == object.key.as_str()));
            if is_passed || page.next.is_none() {
                return Ok(found);
            }
            next = page.next;
        }
    }

    pub(super) async fn list_parts(
        &self,
        object: &ObjectRef,
        upload: &UploadId,
    ) -> Result<Vec<UploadedPart>, Stopped> {
        let mut found = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let mut request = of(object, Method::GET).query("uploadId", upload.as_str());
            if let Some(number) = &next {
                request = request.query("part-number-marker", number);
            }
            let ending = self.call(request, |answer| {
                listing::parts(answer.body())
                    .map_or_else(|| unreadable("the list of parts is not understood"), Ending::Applied)
            });
            let page = applied(ending.await)?;
            found.extend(page.listed);
            if page.next.is_none() {
                return Ok(found);
            }
            next = page.next;
        }
    }

    pub(super) async fn complete_upload(
        &self,
        object: &ObjectRef,
        upload: &UploadId,
        parts: &[(u32, String)],
        condition: Option<&CurrentIs>,
    ) -> Ending<Minted> {
        let mut body =
            String::from("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
        for (number, etag) in parts {
            let etag = quick_xml::escape::escape(etag.as_str());
            write!(body, "<Part><PartNumber>{number}</PartNumber><ETag>&quot;{etag}&quot;</ETag></Part>")
                .expect("writing to a string cannot fail");
        }
        body.push_str("</CompleteMultipartUpload>");
        let request = of(object, Method::POST).query("uploadId", upload.as_str()).body(Body::full(body));
        let request = conditional(request, condition);
        let ending = settled(self.call(request, |answer| completed(&answer)).await, condition);
        match &ending {
            Ending::Applied(minted) => self.note(object, minted),
            // Ceph says so of uploads that are gone, too.
            Ending::Refused(refusal) if refusal.kind == RefusalKind::Unavailable => {
                if let Err(Ending::Refused(gone)) = self.list_parts(object, upload).await
                    && gone.kind == RefusalKind::NotFound
                {
                    return Ending::Refused(gone);
                }
            }
            Ending::Refused(_) | Ending::Unknown => {}
        }
        ending
    }

    pub(super) async fn abort_upload(&self, object: &ObjectRef, upload: &UploadId) -> Ending<()> {
        let request = of(object, Method::DELETE).query("uploadId", upload.as_str());
        self.call(request, |_| Ending::Applied(())).await
    }
}

/// A site may say 200 before it knows how a completion ends, and then tell an error.
fn completed(answer: &Response<Bytes>) -> Ending<Minted> {
    if let Some(etag) = text_at(answer.body(), "CompleteMultipartUploadResult/ETag") {
        let headers = answer.headers();
        let etag = told_etag(&etag, is_opaque(headers));
        return Ending::Applied(Minted { id: named(headers), etag });
    }
    match text_at(answer.body(), "Error/Code") {
        Some(_) => match refused(answer) {
            // What failed inside of the site may go on there.
            Ending::Refused(refusal) if refusal.code == "InternalError" => Ending::Unknown,
            ending @ (Ending::Applied(_) | Ending::Refused(_) | Ending::Unknown) => ending,
        },
        None => Ending::Unknown,
    }
}
