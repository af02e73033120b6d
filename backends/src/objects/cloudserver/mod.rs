//! A CloudServer, or an embedded site, over HTTP: its internal routes for metadata and data of single versions, its S3
//! routes for reading bytes and bucket configurations (wire reference 1.4 to 1.6, 1.9).

mod listing;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::id::{Bucket, ObjectKey};
use backbeat_core::model::{Encryption, Location, ObjectMd, ObjectRef, VersionId, VersionRef};
use backbeat_core::request::{BucketRules, Condition, MovedPart};
use bytes::Bytes;
use futures_util::TryStreamExt;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use serde::{Deserialize, Serialize};

pub use listing::{VersionMarker, VersionPage};

use super::answer::{self, unreadable};
use super::body::ByteStream;
use super::servers::Servers;
use super::{BucketState, Capabilities, DataWrite, ObjectSite, PartRange, TimeLimits};
use crate::credentials::CredentialSource;
use crate::http::{Body, Request, SignedClient};

/// The stored state that a metadata write may replace; its absence in an answer tells a site that does not compare.
const IF_REVISION: &str = "x-backbeat-if-revision";
/// The state in which metadata was read.
const REVISION: &str = "x-backbeat-revision";

/// One site behind one or more equal servers.
#[derive(Debug)]
pub struct CloudServer<C> {
    servers: Servers<C>,
    compares_revisions: AtomicBool,
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
        Self {
            servers: Servers::new(servers, credentials, limits),
            compares_revisions: AtomicBool::new(false),
        }
    }

    /// A call without data.
    async fn call<T>(
        &self,
        request: Request,
        read: impl FnOnce(Response<Bytes>) -> Ending<T> + Send,
    ) -> Ending<T> {
        self.servers.call(request, self.servers.limits.call, read).await
    }

    fn learn(&self, answer: &Response<Bytes>) {
        if answer.headers().contains_key(REVISION) {
            self.compares_revisions.store(true, Ordering::Relaxed);
        }
    }
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

/// How the server says that it encrypted data (wire reference 1.4), if it did.
fn encryption_of(headers: &HeaderMap) -> Option<Box<Encryption>> {
    let text = |suffix: &str| {
        let value = headers.get(format!("x-amz-server-side-encryption{suffix}"))?;
        value.to_str().ok().map(str::to_owned)
    };
    let encryption = Encryption {
        algorithm: text("").unwrap_or_default(),
        kms_key_id: text("-aws-kms-key-id").unwrap_or_default(),
        customer_algorithm: text("-customer-algorithm").unwrap_or_default(),
    };
    (encryption != Encryption::default()).then(|| Box::new(encryption))
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
        self.call(request, |answer| {
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
        self.call(request, |_| Ending::Applied(())).await
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
        self.servers.read(request).await
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
        let ending =
            self.servers.call(request, write.time_max, |answer| match stored_location(answer.body()) {
                Some(location) => Ending::Applied((location, encryption_of(answer.headers()))),
                None => Ending::Unknown,
            });
        ending
            .await
            .map(|(location, encryption)| MovedPart { encryption, ..MovedPart::new(location, meter.md5()) })
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
        self.call(request, |_| Ending::Applied(())).await
    }

    async fn current_version(&self, bucket: &Bucket, key: &ObjectKey) -> Ending<VersionRef> {
        let request = Request::new(Method::HEAD, format!("/{bucket}/{key}"));
        let ending = self.servers.exchange(request, self.servers.limits.call, |answer| {
            let headers = answer.headers();
            let is_marker = headers.get("x-amz-delete-marker").is_some_and(|value| value == "true");
            if answer.status() == StatusCode::BAD_REQUEST {
                // Without a body nobody knows why; keys that have expired are the reason that ends by itself.
                return Ending::Refused(Refusal::new(RefusalKind::ExpiredCredentials, "400"));
            }
            if !answer.status().is_success() && !is_marker {
                return answer::refused(&answer);
            }
            match headers.get("x-amz-version-id").map(http::HeaderValue::as_bytes) {
                None => Ending::Applied(VersionRef::Unversioned),
                Some(b"null") => Ending::Applied(VersionRef::Null),
                Some(id) => {
                    std::str::from_utf8(id).ok().and_then(|id| VersionId::decode(id).ok()).map_or_else(
                        || unreadable("the version id is not understood"),
                        |id| Ending::Applied(VersionRef::Version(id)),
                    )
                }
            }
        });
        ending.await
    }

    async fn bucket_rules(&self, bucket: &Bucket) -> Ending<BucketRules> {
        let request = Request::new(Method::GET, format!("/{bucket}")).query("replication", "");
        let ending = self.call(request, |answer| {
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
        self.call(request, |answer| {
            answer::state(answer.body())
                .map_or_else(|| unreadable("versioning configuration"), Ending::Applied)
        })
        .await
    }
}

#[cfg(test)]
mod tests;
