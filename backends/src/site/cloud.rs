//! A cloud location: a bucket at another S3 server, written to on behalf of the routes for cloud back ends.

use super::config::CloudLocation;
use super::error::{Outcome, Refusal};
use crate::http::{Body, Credentials, Request, SignedClient};
use bytes::Bytes;
use http::{Method, Response, StatusCode};
use quick_xml::escape::{escape, unescape};
use std::fmt::Write as _;
use std::time::Duration;

/// The type of every location that this site can have.
pub(super) const KIND: &str = "aws_s3";
/// Time of a request that carries data: 5 GiB over a slow line.
const TRANSFER_TIME_MAX: Duration = Duration::from_hours(1);
/// Time of any other request.
const TIME_MAX: Duration = Duration::from_mins(2);
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Signatures name a region; S3 servers that are no cloud take this one.
const REGION: &str = "us-east-1";

/// A location with the way to it.
#[derive(Debug)]
pub(super) struct Cloud {
    location: CloudLocation,
    client: SignedClient,
}

/// What an object is written with besides its bytes: header names and values for S3.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes(pub(super) Vec<(String, String)>);

/// What the cloud knows about an object.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// Bytes.
    pub(super) size: u64,
    /// As the `Last-Modified` header says it.
    pub(super) last_modified: String,
}

impl Cloud {
    pub(super) fn new(location: &CloudLocation) -> Self {
        let keys = Credentials::new(&location.access_key, &location.secret_key);
        let client = SignedClient::new(&location.endpoint, keys, REGION);
        Self { location: location.clone(), client }
    }

    pub(super) fn name(&self) -> &str {
        &self.location.name
    }

    /// The key of an object there.
    pub(super) fn key(&self, bucket: &str, key: &str) -> String {
        if self.location.keeps_keys { key.to_owned() } else { format!("{bucket}/{key}") }
    }

    fn request(&self, method: Method, key: &str) -> Request {
        Request::new(method, format!("/{}/{key}", self.location.bucket))
    }

    async fn fetch(&self, request: Request, time_max: Duration) -> Outcome<Response<Bytes>> {
        let what = request.describe();
        let answer = self.client.fetch(request, time_max, ANSWER_BYTES_MAX).await;
        let answer = answer.map_err(|error| {
            tracing::warn!(%error, location = self.location.name, what, "a cloud location could not be asked");
            Refusal::service_unavailable().with_message(format!("Error returned from AWS: {error}"))
        })?;
        let text = String::from_utf8_lossy(answer.body());
        // A completion may fail after its status was sent.
        let is_refused = !answer.status().is_success() || text.contains("<Error>");
        if !is_refused {
            return Ok(answer);
        }
        if element(&text, "Code").is_some_and(|code| code == "BadDigest" || code == "InvalidDigest") {
            return Err(Refusal::bad_digest());
        }
        let message = element(&text, "Message").unwrap_or_else(|| answer.status().to_string());
        tracing::info!(location = self.location.name, what, message, "a cloud location refused");
        Err(Refusal::service_unavailable().with_message(format!("Error returned from AWS: {message}")))
    }

    /// Writes an object whose bytes have this MD5, base64; answers the version that it got there.
    pub(super) async fn put(
        &self,
        key: &str,
        body: Body,
        md5: &str,
        attributes: &Attributes,
    ) -> Outcome<Option<String>> {
        let request = self.request(Method::PUT, key).header("content-md5", md5).body(body);
        let answer = self.fetch(attributes.on(request), TRANSFER_TIME_MAX).await?;
        Ok(version(&answer))
    }

    /// Starts an upload in parts; answers its id.
    pub(super) async fn initiate(&self, key: &str, attributes: &Attributes) -> Outcome<String> {
        let request = self.request(Method::POST, key).query("uploads", "");
        let answer = self.fetch(attributes.on(request), TIME_MAX).await?;
        element(&String::from_utf8_lossy(answer.body()), "UploadId").ok_or(Refusal::internal())
    }

    /// Uploads a part; answers its ETag without quotes.
    pub(super) async fn put_part(
        &self,
        key: &str,
        upload_id: &str,
        number: u32,
        body: Body,
        md5: Option<&str>,
    ) -> Outcome<String> {
        let mut request = self.request(Method::PUT, key);
        request = request.query("partNumber", number.to_string()).query("uploadId", upload_id).body(body);
        if let Some(md5) = md5 {
            request = request.header("content-md5", md5);
        }
        let answer = self.fetch(request, TRANSFER_TIME_MAX).await?;
        header(&answer, "etag").map(|tag| tag.trim_matches('"').to_owned()).ok_or(Refusal::internal())
    }

    /// Makes an object of parts; answers its ETag without quotes and the version that it got.
    pub(super) async fn complete(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[(u32, String)],
    ) -> Outcome<(String, Option<String>)> {
        let mut xml = "<CompleteMultipartUpload>".to_owned();
        for (number, tag) in parts {
            let tag = escape(tag.as_str());
            write!(xml, "<Part><PartNumber>{number}</PartNumber><ETag>\"{tag}\"</ETag></Part>")
                .expect("writing to a string cannot fail");
        }
        xml.push_str("</CompleteMultipartUpload>");
        let request = self.request(Method::POST, key).query("uploadId", upload_id).body(Body::full(xml));
        let answer = self.fetch(request, TRANSFER_TIME_MAX).await?;
        let tag = element(&String::from_utf8_lossy(answer.body()), "ETag").ok_or(Refusal::internal())?;
        Ok((tag.trim_matches('"').to_owned(), version(&answer)))
    }

    /// Gives an upload up.
    pub(super) async fn abort(&self, key: &str, upload_id: &str) -> Outcome<()> {
        let request = self.request(Method::DELETE, key).query("uploadId", upload_id);
        self.fetch(request, TIME_MAX).await.map(drop)
    }

    /// Deletes a version, or the current object: where there are versions, a delete marker covers it.
    pub(super) async fn delete(&self, key: &str, version_id: Option<&str>) -> Outcome<()> {
        let request = with_version(self.request(Method::DELETE, key), version_id);
        self.fetch(request, TIME_MAX).await.map(drop)
    }

    /// Replaces the tags of a version; with none, removes them. Answers the version as the cloud names it.
    pub(super) async fn tag(
        &self,
        key: &str,
        version_id: Option<&str>,
        tags: Option<&[(String, String)]>,
    ) -> Outcome<Option<String>> {
        let request = match tags {
            None => self.request(Method::DELETE, key),
            Some(tags) => self.request(Method::PUT, key).body(Body::full(tagging(tags))),
        };
        let request = with_version(request.query("tagging", ""), version_id);
        let answer = self.fetch(request, TIME_MAX).await?;
        Ok(version(&answer).or_else(|| version_id.map(str::to_owned)))
    }

    /// Size and date of a version; nothing if it is not there.
    pub(super) async fn head(&self, key: &str, version_id: Option<&str>) -> Outcome<Option<Known>> {
        let request = with_version(self.request(Method::HEAD, key), version_id);
        let answer = self.client.fetch(request, TIME_MAX, ANSWER_BYTES_MAX).await;
        let failed = |problem: String| {
            Refusal::service_unavailable().with_message(format!("Error returned from AWS: {problem}"))
        };
        let answer = answer.map_err(|error| failed(error.to_string()))?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            status => return Err(failed(status.to_string())),
        }
        let size = header(&answer, "content-length").and_then(|text| text.parse().ok());
        let last_modified = header(&answer, "last-modified").map(str::to_owned);
        match (size, last_modified) {
            (Some(size), Some(last_modified)) => Ok(Some(Known { size, last_modified })),
            (None, _) | (_, None) => Err(Refusal::internal()),
        }
    }
}

impl Attributes {
    fn on(&self, request: Request) -> Request {
        self.0.iter().fold(request, |request, (name, value)| request.header(name, value))
    }
}

fn with_version(request: Request, version_id: Option<&str>) -> Request {
    match version_id.filter(|id| !id.is_empty()) {
        Some(id) => request.query("versionId", id),
        None => request,
    }
}

fn tagging(tags: &[(String, String)]) -> String {
    let mut xml = "<Tagging><TagSet>".to_owned();
    for (key, value) in tags {
        let (key, value) = (escape(key.as_str()), escape(value.as_str()));
        write!(xml, "<Tag><Key>{key}</Key><Value>{value}</Value></Tag>")
            .expect("writing to a string cannot fail");
    }
    xml + "</TagSet></Tagging>"
}

fn header<'a>(answer: &'a Response<Bytes>, name: &str) -> Option<&'a str> {
    answer.headers().get(name).and_then(|value| value.to_str().ok())
}

fn version(answer: &Response<Bytes>) -> Option<String> {
    header(answer, "x-amz-version-id").filter(|id| !id.is_empty()).map(str::to_owned)
}

/// The text of the first element of that name.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    unescape(text).ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_survive_their_way_through_xml() {
        let xml = tagging(&[("a<b".to_owned(), "c&\"d".to_owned())]);
        assert_eq!(element(&xml, "Key").as_deref(), Some("a<b"));
        assert_eq!(element(&xml, "Value").as_deref(), Some("c&\"d"));
        assert_eq!(element(&xml, "Nothing"), None);
    }

    #[test]
    fn keys_keep_their_source_bucket_apart_unless_the_location_is_one_of_its_own() {
        let mut location = CloudLocation {
            name: "cloud".into(),
            endpoint: "127.0.0.1:1".into(),
            bucket: "there".into(),
            access_key: "key".into(),
            secret_key: "hidden".into(),
            keeps_keys: false,
        };
        assert_eq!(Cloud::new(&location).key("here", "a/b"), "here/a/b");
        assert!(!format!("{location:?}").contains("hidden"));
        location.keeps_keys = true;
        assert_eq!(Cloud::new(&location).key("here", "a/b"), "a/b");
    }
}
