//! A CloudServer, or an embedded site, over HTTP: its internal routes for metadata and data of single versions, its S3
//! routes for reading bytes and bucket configurations (wire reference 1.4 to 1.6, 1.9).

mod answer;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::id::{Bucket, ObjectKey};
use backbeat_core::model::{Location, ObjectMd, ObjectRef};
use backbeat_core::request::{BucketRules, Condition, MovedPart};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::{Method, Response};
use http_body::Frame;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use self::answer::{refused, unreadable, without_answer};
use super::body::{BodyError, ByteStream};
use super::{BucketState, Capabilities, DataWrite, ObjectSite, PartRange};
use crate::credentials::{CredentialSource, Credentials, CredentialsError};
use crate::http::{Body, Request, SignedClient, Stream};

/// The stored state that a metadata write may replace; its absence in an answer tells a site that does not compare.
const IF_REVISION: &str = "x-backbeat-if-revision";
/// The state in which metadata was read.
const REVISION: &str = "x-backbeat-revision";

/// Largest answer that is collected: metadata of 10,000 parts fits several times.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// How often refusals are taken for a sign that the credentials are not what they should be.
const RENEWAL_INTERVAL: Duration = Duration::from_mins(1);

/// How long calls may take.
#[derive(Clone, Copy, Debug)]
pub struct TimeLimits {
    /// A call without data, from its start to the end of the answer.
    pub call: Duration,
    /// From a read of data to the head of the answer, and from one chunk to the next.
    pub chunk: Duration,
}

impl Default for TimeLimits {
    fn default() -> Self {
        Self { call: Duration::from_secs(30), chunk: Duration::from_secs(30) }
    }
}

/// One site behind one or more equal servers.
#[derive(Debug)]
pub struct CloudServer<C> {
    servers: Vec<SignedClient>,
    /// Index of the server to ask; moves on when one does not serve.
    current: AtomicUsize,
    credentials: Arc<C>,
    limits: TimeLimits,
    compares_revisions: AtomicBool,
    /// When other credentials were asked for because the site refused.
    renewed: Mutex<Option<Instant>>,
}

impl<C: CredentialSource> CloudServer<C> {
    /// The site at `endpoints` (`host:port`), signing with what `credentials` gives.
    ///
    /// # Panics
    /// If there is no endpoint.
    pub fn new(endpoints: &[String], region: &str, credentials: Arc<C>, limits: TimeLimits) -> Self {
        let unsigned = || crate::http::Credentials::new("", "");
        let server = |endpoint: &String| SignedClient::new(endpoint, unsigned(), region);
        Self::over(endpoints.iter().map(server).collect(), credentials, limits)
    }

    /// The site behind `servers`, signing with what `credentials` gives and not with the clients' own keys.
    ///
    /// # Panics
    /// If there is no server.
    pub fn over(servers: Vec<SignedClient>, credentials: Arc<C>, limits: TimeLimits) -> Self {
        assert!(!servers.is_empty(), "a site has at least one server");
        Self {
            servers,
            current: AtomicUsize::new(0),
            credentials,
            limits,
            compares_revisions: AtomicBool::new(false),
            renewed: Mutex::default(),
        }
    }

    /// The server to ask and the credentials to sign with.
    async fn client<T>(&self) -> Result<(SignedClient, Credentials), Ending<T>> {
        let credentials = self.credentials.current().await.map_err(|error| {
            let kind = match error {
                CredentialsError::Denied(_) => RefusalKind::Denied,
                CredentialsError::Unavailable(_) => RefusalKind::Unavailable,
            };
            Ending::Refused(Refusal::new(kind, error.to_string()))
        })?;
        let server = &self.servers[self.current.load(Ordering::Relaxed) % self.servers.len()];
        Ok((server.with_credentials((&credentials).into()), credentials))
    }

    /// Lets an ending pass, and draws the conclusions: another server, other credentials.
    async fn conclude<T>(&self, ending: Ending<T>, used: &Credentials) -> Ending<T> {
        match &ending {
            Ending::Unknown => self.turn(),
            Ending::Refused(refusal) if refusal.kind == RefusalKind::Unavailable => self.turn(),
            Ending::Refused(refusal) if refusal.kind == RefusalKind::ExpiredCredentials => {
                self.credentials.reject(used).await;
            }
            Ending::Refused(refusal) if refusal.kind == RefusalKind::Denied => {
                if self.has_other_credentials(used).await {
                    let code = refusal.code.clone();
                    return Ending::Refused(Refusal::new(RefusalKind::ExpiredCredentials, code));
                }
            }
            Ending::Applied(_) | Ending::Refused(_) => {}
        }
        ending
    }

    /// Whether keys that were refused may have been others than they should be: rotated, or withdrawn before their time. New
    /// ones are asked for, not more often than now and then: what is refused to them, too, is refused.
    async fn has_other_credentials(&self, used: &Credentials) -> bool {
        let is_time = {
            let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
            let is_time = renewed.is_none_or(|time| time.elapsed() >= RENEWAL_INTERVAL);
            if is_time {
                *renewed = Some(Instant::now());
            }
            is_time
        };
        if is_time {
            self.credentials.reject(used).await;
        }
        self.credentials.current().await.is_ok_and(|now| now != *used)
    }

    fn turn(&self) {
        self.current.fetch_add(1, Ordering::Relaxed);
    }

    /// One call that is answered in one piece.
    async fn call<T>(
        &self,
        request: Request,
        time_max: Duration,
        read: impl FnOnce(Response<Bytes>) -> Ending<T> + Send,
    ) -> Ending<T> {
        let (client, used) = match self.client().await {
            Ok(client) => client,
            Err(ending) => return ending,
        };
        let ending = match client.fetch(request, time_max, ANSWER_BYTES_MAX).await {
            Ok(answer) if answer.status().is_success() => read(answer),
            Ok(answer) => refused(&answer),
            Err(error) => without_answer(&error),
        };
        self.conclude(ending, &used).await
    }

    fn learn(&self, answer: &Response<Bytes>) {
        if answer.headers().contains_key(REVISION) {
            self.compares_revisions.store(true, Ordering::Relaxed);
        }
    }

    /// The head of an answer to a read of bytes, or what was refused.
    async fn open(&self, answer: Response<Stream>) -> Ending<ByteStream> {
        if !answer.status().is_success() {
            let (head, body) = answer.into_parts();
            let body = http_body_util::Limited::new(body, ANSWER_BYTES_MAX).collect();
            let body = match tokio::time::timeout(self.limits.chunk, body).await {
                Ok(Ok(body)) => body.to_bytes(),
                Ok(Err(_)) | Err(_) => Bytes::new(),
            };
            return refused(&Response::from_parts(head, body));
        }
        let length = answer.headers().get(http::header::CONTENT_LENGTH);
        let Some(size) = length.and_then(|length| length.to_str().ok()?.parse().ok()) else {
            return unreadable("no Content-Length");
        };
        Ending::Applied(ByteStream::new(size, chunks(answer.into_body(), self.limits.chunk)))
    }
}

/// The chunks of an answer; one that is too long in coming ends the stream.
fn chunks(
    body: Stream,
    time_max: Duration,
) -> impl futures_util::Stream<Item = Result<Bytes, BodyError>> + Send + 'static {
    stream::unfold(Some(BodyStream::new(body)), move |state| async move {
        let mut body = state?;
        loop {
            match tokio::time::timeout(time_max, body.next()).await {
                Ok(None) => return None,
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Some((Ok(data), Some(body)));
                    }
                }
                Ok(Some(Err(error))) => return Some((Err(BodyError::Broken(error.to_string())), None)),
                Err(_) => {
                    let idle = format!("nothing came for {} s", time_max.as_secs());
                    return Some((Err(BodyError::Broken(idle)), None));
                }
            }
        }
    })
}

fn internal(method: Method, kind: &str, bucket: &Bucket, key: &ObjectKey) -> Request {
    Request::new(method, format!("/_/backbeat/{kind}/{bucket}/{key}"))
}

/// A location as a data write answers it, without what it says of no use.
fn stored_location(answer: &[u8]) -> Option<Location> {
    let listed: Vec<&serde_json::value::RawValue> = serde_json::from_slice(answer).ok()?;
    let location = Location::parse(listed.first()?.get()).ok()?;
    (!location.key.is_empty()).then_some(location)
}

#[derive(Serialize)]
struct Deletion<'a> {
    #[serde(rename = "Locations")]
    locations: Vec<DeletedLocation<'a>>,
}

/// As little as names the data (wire reference 1.9).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeletedLocation<'a> {
    key: &'a str,
    data_store_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_store_version_id: Option<&'a str>,
}

impl<C: CredentialSource> ObjectSite for CloudServer<C> {
    fn capabilities(&self) -> Capabilities {
        let conditional_metadata_writes = self.compares_revisions.load(Ordering::Relaxed);
        Capabilities { keeps_version_ids: true, conditional_metadata_writes }
    }

    async fn read_metadata(&self, object: &ObjectRef) -> Ending<ObjectMd> {
        #[derive(Deserialize)]
        struct Envelope {
            #[serde(rename = "Body")]
            body: String,
        }
        let request = internal(Method::GET, "metadata", &object.bucket, &object.key)
            .query("versionId", object.version.metadata_query());
        self.call(request, self.limits.call, |answer| {
            self.learn(&answer);
            let Ok(Envelope { body }) = serde_json::from_slice(answer.body()) else {
                return unreadable("metadata answer is not understood");
            };
            match ObjectMd::parse(&body) {
                Ok(md) => Ending::Applied(md),
                Err(error) => unreadable(&error.to_string()),
            }
        })
        .await
    }

    async fn write_metadata(
        &self,
        object: &ObjectRef,
        md: &ObjectMd,
        condition: Option<&Condition>,
        keep_data: bool,
    ) -> Ending<()> {
        let mut request = internal(Method::PUT, "metadata", &object.bucket, &object.key)
            .query("versionId", object.version.metadata_query())
            .header("content-type", "binary/octet-stream")
            .body(Body::full(md.to_model_json()));
        if keep_data {
            request = request.header("x-scal-replication-content", "METADATA");
        }
        request = match condition {
            Some(Condition::Absent) => request.header(IF_REVISION, "none"),
            Some(Condition::Tag(tag)) => request.header(IF_REVISION, tag.to_string()),
            None => request,
        };
        self.call(request, self.limits.call, |_| Ending::Applied(())).await
    }

    async fn read_part(&self, object: &ObjectRef, part: PartRange) -> Ending<ByteStream> {
        let mut request = Request::new(Method::GET, format!("/{}/{}", object.bucket, object.key));
        if let Some(version) = object.version.query() {
            request = request.query("versionId", version);
        }
        request = match part {
            PartRange::Part(number) => request.query("partNumber", number.to_string()),
            PartRange::Bytes(range) => {
                request.header("range", format!("bytes={}-{}", range.start, range.end))
            }
        };
        let (client, used) = match self.client().await {
            Ok(client) => client,
            Err(ending) => return ending,
        };
        let ending = match client.send(request, self.limits.chunk).await {
            Ok(answer) => self.open(answer).await,
            Err(error) => without_answer(&error),
        };
        self.conclude(ending, &used).await
    }

    async fn write_data(&self, write: DataWrite, bytes: ByteStream) -> Ending<MovedPart> {
        if bytes.size() != write.size {
            return unreadable("the stream has another size than announced");
        }
        let (bytes, meter) = bytes.metered();
        let frames = bytes.map_ok(Frame::data);
        let request = internal(Method::PUT, "data", &write.bucket, &write.key)
            .query("v2", "")
            .header("content-type", "binary/octet-stream")
            .header("content-md5", write.md5.clone())
            .header("x-scal-canonical-id", write.owner)
            .body(Body::stream(write.size, StreamBody::new(frames)));
        let ending = self.call(request, write.time_max, |answer| match stored_location(answer.body()) {
            Some(location) => Ending::Applied(location),
            None => Ending::Unknown,
        });
        ending.await.map(|location| MovedPart { location: Box::new(location), digest: meter.md5().into() })
    }

    async fn delete_data(&self, bucket: &Bucket, key: &ObjectKey, locations: &[Location]) -> Ending<()> {
        let listed = locations.iter().map(|location| DeletedLocation {
            key: &location.key,
            data_store_name: &location.data_store_name,
            data_store_version_id: location.data_store_version_id.as_deref(),
        });
        let body =
            serde_json::to_vec(&Deletion { locations: listed.collect() }).expect("texts can be written");
        let request = internal(Method::POST, "batchdelete", bucket, key)
            .header("content-type", "application/json")
            .body(Body::full(body));
        self.call(request, self.limits.call, |_| Ending::Applied(())).await
    }

    async fn bucket_rules(&self, bucket: &Bucket) -> Ending<BucketRules> {
        let request = Request::new(Method::GET, format!("/{bucket}")).query("replication", "");
        let ending = self.call(request, self.limits.call, |answer| {
            answer::rules(answer.body())
                .map_or_else(|| unreadable("replication configuration"), Ending::Applied)
        });
        match ending.await {
            Ending::Refused(refusal) if refusal.code == "ReplicationConfigurationNotFoundError" => {
                Ending::Applied(BucketRules::default())
            }
            ending @ (Ending::Applied(_) | Ending::Refused(_) | Ending::Unknown) => ending,
        }
    }

    async fn bucket_state(&self, bucket: &Bucket) -> Ending<BucketState> {
        let request = Request::new(Method::GET, format!("/{bucket}")).query("versioning", "");
        self.call(request, self.limits.call, |answer| {
            answer::state(answer.body())
                .map_or_else(|| unreadable("versioning configuration"), Ending::Applied)
        })
        .await
    }
}

#[cfg(test)]
mod tests;
