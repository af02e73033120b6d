//! The demo's own S3 client: what a user's program would send, and the reading back.
//!
//! It asks only what S3 answers, but for one internal route, which tells the replication status per site.

use super::content::{Content, Digest, Digester};
use super::listing::{self, ListedVersion};
use super::workload::{Headers, Tags};
use anyhow::{Context, Result, anyhow, bail};
use backbeat_backends::http::{Body, Request, SignedClient};
use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::BodyExt;
use quick_xml::escape::escape;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// How long any single answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_mins(1);
/// No answer but an object is larger.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// User metadata that the engine or the site adds to a replica: `<site>-replication-status` and the like.
const ENGINE_METADATA: [&str; 2] = ["-replication-status", "-version-id"];

/// A site under its name.
#[derive(Clone)]
pub(super) struct Site {
    /// Its name: `source`, or as in the replication configuration.
    pub(super) name: String,
    client: SignedClient,
}

/// One version as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    /// The bytes.
    pub(super) digest: Digest,
    /// Every header that describes the object: user metadata, content headers, ETag, last modified.
    pub(super) headers: BTreeMap<String, String>,
    /// Tags by name.
    pub(super) tags: BTreeMap<String, String>,
}

/// The current version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Latest {
    /// An object.
    Object(String),
    /// Nothing, because of a delete marker.
    Deleted,
}

impl Site {
    /// The site that `client` talks to.
    pub(super) fn new(name: impl Into<String>, client: SignedClient) -> Self {
        Self { name: name.into(), client }
    }

    /// Makes a bucket with versioning, unless it is there.
    pub(super) async fn create_bucket(&self, bucket: &str) -> Result<()> {
        let path = format!("/{bucket}");
        let answer = self.send(Request::new(Method::PUT, &path)).await?;
        if !answer.status().is_success() && code(answer.body()).as_deref() != Some("BucketAlreadyOwnedByYou")
        {
            bail!("{}: cannot create bucket {bucket}: {}", self.name, describe(&answer));
        }
        let versioning = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                          <Status>Enabled</Status></VersioningConfiguration>";
        let request = Request::new(Method::PUT, path).query("versioning", "");
        self.ask(request.body(Body::full(versioning))).await?;
        Ok(())
    }

    /// Makes every object of `bucket` go to `sites`, into their bucket `to`.
    pub(super) async fn replicate(&self, bucket: &str, to: &str, sites: &[&str]) -> Result<()> {
        let configuration = format!(
            "<ReplicationConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Role>arn:aws:iam::root:role/backbeat,arn:aws:iam::root:role/backbeat</Role>\
             <Rule><ID>everything</ID><Status>Enabled</Status><Prefix></Prefix>\
             <Destination><Bucket>arn:aws:s3:::{to}</Bucket><StorageClass>{}</StorageClass></Destination></Rule>\
             </ReplicationConfiguration>",
            sites.join(",")
        );
        let request = Request::new(Method::PUT, format!("/{bucket}")).query("replication", "");
        self.ask(request.body(Body::full(configuration))).await?;
        Ok(())
    }

    /// Writes a version in one request; tells its id.
    pub(super) async fn put(
        &self,
        bucket: &str,
        key: &str,
        content: Content,
        headers: &Headers,
        tags: &Tags,
    ) -> Result<String> {
        let body = Body::stream(content.bytes(), content.body(0, content.bytes()));
        let request = described(Request::new(Method::PUT, path(bucket, key)), headers, tags).body(body);
        version_id(self.ask(request).await?.headers())
    }

    /// Writes a version in parts; tells its id.
    pub(super) async fn put_parts(
        &self,
        bucket: &str,
        key: &str,
        content: Content,
        part_bytes: u64,
        headers: &Headers,
        tags: &Tags,
    ) -> Result<String> {
        let object = path(bucket, key);
        let start = described(Request::new(Method::POST, &object), headers, tags).query("uploads", "");
        let upload = element(self.ask(start).await?.body(), "UploadId")
            .with_context(|| format!("{}: no upload id for {key:?}", self.name))?;
        let mut list = String::from("<CompleteMultipartUpload>");
        let mut at = 0;
        for number in 1_u32.. {
            let end = (at + part_bytes).min(content.bytes());
            let request = Request::new(Method::PUT, &object)
                .query("partNumber", number.to_string())
                .query("uploadId", &upload)
                .body(Body::stream(end - at, content.body(at, end)));
            let answer = self.ask(request).await?;
            let tag = header(answer.headers(), "etag")
                .with_context(|| format!("{}: part {number} of {key:?} has no ETag", self.name))?;
            write!(list, "<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag></Part>", escape(tag))?;
            at = end;
            if at >= content.bytes() {
                break;
            }
        }
        list.push_str("</CompleteMultipartUpload>");
        let request = Request::new(Method::POST, object).query("uploadId", upload).body(Body::full(list));
        let answer = self.ask(request).await?;
        // The answer begins before the work is done, so that an error may come with a 200.
        if let Some(code) = code(answer.body()) {
            bail!("{}: cannot complete the upload of {key:?}: {code}", self.name);
        }
        version_id(answer.headers())
    }

    /// Replaces the tags of a version.
    pub(super) async fn put_tags(&self, bucket: &str, key: &str, version: &str, tags: &Tags) -> Result<()> {
        let mut document = String::from("<Tagging><TagSet>");
        for (name, value) in tags {
            write!(document, "<Tag><Key>{}</Key><Value>{}</Value></Tag>", escape(name), escape(value))?;
        }
        document.push_str("</TagSet></Tagging>");
        let request =
            Request::new(Method::PUT, path(bucket, key)).query("tagging", "").query("versionId", version);
        self.ask(request.body(Body::full(document))).await?;
        Ok(())
    }

    /// Takes the tags of a version away.
    pub(super) async fn delete_tags(&self, bucket: &str, key: &str, version: &str) -> Result<()> {
        let request = Request::new(Method::DELETE, path(bucket, key));
        self.ask(request.query("tagging", "").query("versionId", version)).await?;
        Ok(())
    }

    /// Puts a delete marker; tells its id.
    pub(super) async fn delete(&self, bucket: &str, key: &str) -> Result<String> {
        version_id(self.ask(Request::new(Method::DELETE, path(bucket, key))).await?.headers())
    }

    /// Every version and delete marker of a bucket, in the order of the listing.
    pub(super) async fn versions(&self, bucket: &str) -> Result<Vec<ListedVersion>> {
        let mut versions = Vec::new();
        let mut next: Option<(String, String)> = None;
        loop {
            let mut request = Request::new(Method::GET, format!("/{bucket}")).query("versions", "");
            if let Some((key, version)) = &next {
                request = request.query("key-marker", key).query("version-id-marker", version);
            }
            let page = listing::parse(self.ask(request).await?.body())
                .with_context(|| format!("{}: cannot read the listing of {bucket}", self.name))?;
            versions.extend(page.versions);
            let Some(marker) = page.next else { return Ok(versions) };
            if next.as_ref() == Some(&marker) {
                bail!("{}: the listing of {bucket} does not move on from {marker:?}", self.name);
            }
            next = Some(marker);
        }
    }

    /// Reads a version whole: bytes, headers, tags.
    pub(super) async fn read(&self, bucket: &str, key: &str, version: &str) -> Result<Stored> {
        let request = Request::new(Method::GET, path(bucket, key)).query("versionId", version);
        let answer = self.client.send(request, ANSWER_TIME_MAX).await?;
        if !answer.status().is_success() {
            bail!("{}: GET {key:?} {version}: {}", self.name, answer.status());
        }
        let (head, mut body) = answer.into_parts();
        let mut digester = Digester::default();
        while let Some(frame) = body.frame().await {
            let frame = frame.with_context(|| format!("{}: GET {key:?} {version} broke off", self.name))?;
            if let Some(piece) = frame.data_ref() {
                digester.update(piece);
            }
        }
        let request =
            Request::new(Method::GET, path(bucket, key)).query("tagging", "").query("versionId", version);
        let tags = listing::tags(self.ask(request).await?.body())?;
        Ok(Stored { digest: digester.finish(), headers: descriptive(&head.headers), tags })
    }

    /// The current version of a key.
    pub(super) async fn latest(&self, bucket: &str, key: &str) -> Result<Latest> {
        let answer = self.send(Request::new(Method::HEAD, path(bucket, key))).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(Latest::Deleted);
        }
        if !answer.status().is_success() {
            bail!("{}: HEAD {key:?}: {}", self.name, answer.status());
        }
        version_id(answer.headers()).map(Latest::Object)
    }

    /// The replication status of a version, by site.
    pub(super) async fn statuses(
        &self,
        bucket: &str,
        key: &str,
        version: &str,
    ) -> Result<BTreeMap<String, String>> {
        let request = Request::new(Method::GET, format!("/_/backbeat/metadata{}", path(bucket, key)))
            .query("versionId", version);
        let answer = self.ask(request).await?;
        listing::statuses(answer.body())
            .with_context(|| format!("{}: metadata of {key:?} {version}", self.name))
    }

    async fn send(&self, request: Request) -> Result<Response<Bytes>> {
        Ok(self.client.fetch(request, ANSWER_TIME_MAX, ANSWER_BYTES_MAX).await?)
    }

    /// Sends a request that has to succeed.
    async fn ask(&self, request: Request) -> Result<Response<Bytes>> {
        let what = request.describe();
        let answer = self.send(request).await?;
        if !answer.status().is_success() {
            bail!("{}: {what}: {}", self.name, describe(&answer));
        }
        Ok(answer)
    }
}

fn path(bucket: &str, key: &str) -> String {
    format!("/{bucket}/{key}")
}

/// The request with what the client has to say about the object.
fn described(mut request: Request, headers: &Headers, tags: &Tags) -> Request {
    for (name, value) in &headers.content {
        request = request.header(name, value);
    }
    for (name, value) in &headers.user {
        request = request.header(format!("x-amz-meta-{name}"), value);
    }
    if !tags.is_empty() {
        let pair = |(name, value): &(String, String)| format!("{}={}", encode(name), encode(value));
        request = request.header("x-amz-tagging", tags.iter().map(pair).collect::<Vec<_>>().join("&"));
    }
    request
}

fn encode(text: &str) -> String {
    backbeat_backends::http::percent_encode(text, false)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn version_id(headers: &HeaderMap) -> Result<String> {
    header(headers, "x-amz-version-id")
        .map(str::to_owned)
        .ok_or_else(|| anyhow!("an answer without a version id"))
}

/// The headers of an answer that belong to the object, not to the answer or to replication itself.
fn descriptive(headers: &HeaderMap) -> BTreeMap<String, String> {
    const KEPT: [&str; 8] = [
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-length",
        "content-type",
        "etag",
        "last-modified",
    ];
    headers
        .iter()
        .filter(|(name, _)| {
            let name = name.as_str();
            KEPT.contains(&name)
                || (name.starts_with("x-amz-meta-") && !ENGINE_METADATA.iter().any(|end| name.ends_with(end)))
        })
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}

/// The text of an element of a small answer.
fn element(body: &[u8], name: &str) -> Option<String> {
    listing::element(body, name)
}

/// The code of an error document.
fn code(body: &[u8]) -> Option<String> {
    element(body, "Code")
}

fn describe(answer: &Response<Bytes>) -> String {
    let field = |name: &str, json: &str| {
        let internal = || serde_json::from_slice::<serde_json::Value>(answer.body()).ok();
        element(answer.body(), name).or_else(|| Some(internal()?.get(json)?.as_str()?.to_owned()))
    };
    match (field("Code", "code"), field("Message", "message")) {
        (Some(code), Some(message)) => format!("{} {code}: {message}", answer.status()),
        (Some(code), None) => format!("{} {code}", answer.status()),
        _ => answer.status().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn only_what_describes_the_object_is_compared() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("date", "now"),
            ("etag", "\"abc\""),
            ("content-type", "image/jpeg"),
            ("x-amz-meta-colour", "blue"),
            ("x-amz-meta-paris-replication-status", "COMPLETED"),
            ("x-amz-replication-status", "REPLICA"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let kept = descriptive(&headers);
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["content-type", "etag", "x-amz-meta-colour"]);
    }
}
