//! A site that does no work: it answers the requests of the daemons as CloudServer and bucketd would, out of one template, so
//! that a measurement is one of the daemon that asks.
//!
//! Its source holds objects `0..objects` of one size with the same bytes, each with one version that is PENDING; its targets hold
//! nothing, whatever is written to them. What was written is counted, not kept.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use md5::{Digest as _, Md5};
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The bucket that holds the objects, at the source and at the targets.
pub const BUCKET: &str = "photos";

/// Pieces of bodies.
const CHUNK_BYTES: usize = 64 << 10;

/// Digits of an object's number.
const DIGITS: usize = 8;

/// What objects have of metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metadata {
    /// What a CloudServer writes.
    Usual,
    /// What replication needs.
    Short,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A source and targets that answer at once.
pub struct Stub {
    /// `host:port` of the source, S3 and internal routes.
    pub source: String,
    /// `host:port` of the targets.
    pub target: String,
    /// `host:port` of the source's journal, in bucketd's form.
    pub journal: String,
    content: Arc<Content>,
    servers: Vec<JoinHandle<()>>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.servers.iter().for_each(JoinHandle::abort);
    }
}

impl Stub {
    /// Serves `objects` objects of `object_bytes` bytes on loopback.
    pub async fn start(objects: u64, object_bytes: usize, metadata: Metadata) -> Result<Self> {
        let content = Arc::new(Content::new(objects, object_bytes, metadata));
        let mut servers = Vec::new();
        let mut addresses = Vec::new();
        for role in [Role::Source, Role::Target, Role::Journal] {
            let listener = TcpListener::bind("127.0.0.1:0").await.context("a stub site")?;
            addresses.push(listener.local_addr()?.to_string());
            servers.push(tokio::spawn(serve(listener, role, Arc::clone(&content))));
        }
        let mut addresses = addresses.into_iter();
        let mut next = || addresses.next().context("an address for each role");
        Ok(Self { source: next()?, target: next()?, journal: next()?, content, servers })
    }

    /// Key and version id, as metadata has it, of object `number`, from 1.
    pub fn version(number: u64) -> (String, String) {
        (format!("object-{number:0DIGITS$}"), format!("982000{number:0DIGITS$}999999RG001  "))
    }

    /// A replication configuration: everything in [`BUCKET`] goes to the bucket of the same name at `site`.
    pub fn rules(site: &str) -> String {
        format!(
            "<ReplicationConfiguration><Role>arn:aws:iam::root:role/backbeat,arn:aws:iam::root:role/backbeat</Role>\
             <Rule><ID>all</ID><Status>Enabled</Status><Prefix></Prefix><Destination>\
             <Bucket>arn:aws:s3:::{BUCKET}</Bucket><StorageClass>{site}</StorageClass></Destination></Rule>\
             </ReplicationConfiguration>"
        )
    }

    /// Versions whose metadata was written at the targets.
    pub fn copied(&self) -> u64 {
        self.content.copied.load(Ordering::Relaxed)
    }

    /// Versions whose metadata was written at the source.
    pub fn marked(&self) -> u64 {
        self.content.marked.load(Ordering::Relaxed)
    }

    /// Requests answered so far.
    pub fn requests(&self) -> u64 {
        self.content.requests.load(Ordering::Relaxed)
    }

    /// What makes a message of the replication topic of the objects' metadata: bytes of one document.
    pub fn metadata_bytes(&self) -> usize {
        self.content.metadata.iter().map(String::len).sum::<usize>() + DIGITS
    }
}

#[derive(Clone, Copy, Debug)]
enum Role {
    Source,
    Target,
    Journal,
}

async fn serve(listener: TcpListener, role: Role, content: Arc<Content>) {
    while let Ok((stream, _)) = listener.accept().await {
        // What cannot be set is slower, no more.
        drop(stream.set_nodelay(true));
        let content = Arc::clone(&content);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(role, Arc::clone(&content), request));
            // A client that goes away ends its connection only.
            drop(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await,
            );
        });
    }
}

async fn answer(
    role: Role,
    content: Arc<Content>,
    request: Request<Incoming>,
) -> Result<Response<Body>, hyper::Error> {
    content.requests.fetch_add(1, Ordering::Relaxed);
    let (head, mut body) = request.into_parts();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    let path = head.uri.path();
    let query = head.uri.query().unwrap_or_default();
    if matches!(role, Role::Journal) {
        return Ok(text(StatusCode::OK, content.page(query)));
    }
    let mut parts = path.trim_start_matches('/').splitn(5, '/');
    let internal = match (parts.next(), parts.next()) {
        (Some("_"), Some("backbeat")) => parts.next(),
        _ => None,
    };
    let key = path.rsplit('/').next().unwrap_or_default();
    Ok(match (role, &head.method, internal) {
        (Role::Source, &Method::GET, Some("metadata")) => text(StatusCode::OK, content.metadata_of(key)),
        (_, &Method::GET, Some("metadata")) => text(
            StatusCode::NOT_FOUND,
            json!({"code": "ObjNotFound", "message": "nothing is kept"}).to_string(),
        ),
        (Role::Target, &Method::PUT, Some("data")) => text(StatusCode::OK, content.location.clone()),
        (_, &Method::PUT, Some("metadata")) => {
            let counter = if matches!(role, Role::Source) { &content.marked } else { &content.copied };
            counter.fetch_add(1, Ordering::Relaxed);
            text(StatusCode::OK, r#"{"versionId":"stub"}"#.to_owned())
        }
        (_, &Method::GET, None) if query.starts_with("replication") => {
            text(StatusCode::OK, content.rules.clone())
        }
        (_, &Method::GET, None) if query.starts_with("versioning") => text(
            StatusCode::OK,
            "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>".to_owned(),
        ),
        (Role::Source, &Method::GET, None) => content.data(),
        _ => {
            text(StatusCode::NOT_IMPLEMENTED, json!({"code": "NotImplemented", "message": path}).to_string())
        }
    })
}

fn text(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// What the sites say.
struct Content {
    objects: u64,
    object_bytes: usize,
    /// Metadata as it stands in JSON within JSON, around the number that the version id holds.
    metadata: [String; 2],
    /// One journal record, around the number in key and version ids.
    record: [String; 4],
    location: String,
    rules: String,
    chunk: Bytes,
    copied: AtomicU64,
    marked: AtomicU64,
    requests: AtomicU64,
}

impl Content {
    fn new(objects: u64, object_bytes: usize, kind: Metadata) -> Self {
        const NUMBER: &str = "NUMBER";
        let chunk = Bytes::from(vec![b'x'; CHUNK_BYTES.min(object_bytes)]);
        let mut md5 = Md5::new();
        for piece in pieces(object_bytes) {
            md5.update(&chunk[..piece]);
        }
        let md5 = hex::encode(md5.finalize());
        // Like what a CloudServer writes for an object of a bucket that is replicated to one site.
        let mut metadata = json!({
            "owner-display-name": "account", "owner-id": "7".repeat(64), "content-length": object_bytes,
            "content-type": "application/octet-stream", "content-md5": md5,
            "x-amz-version-id": "null", "x-amz-server-version-id": "", "x-amz-storage-class": "STANDARD",
            "x-amz-server-side-encryption": "", "x-amz-server-side-encryption-aws-kms-key-id": "",
            "x-amz-server-side-encryption-customer-algorithm": "", "x-amz-website-redirect-location": "",
            "acl": {"Canned": "private", "FULL_CONTROL": [], "WRITE_ACP": [], "READ": [], "READ_ACP": []}, "key": "",
            "location": [{"key": "0123456789abcdef0123456789abcdef01234567", "size": object_bytes, "start": 0,
                "dataStoreName": "us-east-1", "dataStoreType": "file", "dataStoreETag": format!("1:{md5}")}],
            "isDeleteMarker": false, "tags": {},
            "replicationInfo": {"status": "PENDING",
                "backends": [{"site": "paris", "status": "PENDING", "dataStoreVersionId": ""}],
                "content": ["DATA", "METADATA"], "destination": format!("arn:aws:s3:::{BUCKET}"),
                "storageClass": "paris", "role": "arn:aws:iam::root:role/backbeat,arn:aws:iam::root:role/backbeat",
                "storageType": "", "dataStoreVersionId": "", "isNFS": null},
            "dataStoreName": "us-east-1", "originOp": "s3:ObjectCreated:Put",
            "last-modified": "2026-11-20T16:26:15.045Z", "md-model-version": 6, "x-amz-meta-camera": "a camera",
            "versionId": format!("982000{NUMBER}999999RG001  "),
        });
        if kind == Metadata::Short {
            const NEEDED: [&str; 9] = [
                "content-length",
                "content-md5",
                "owner-id",
                "location",
                "isDeleteMarker",
                "replicationInfo",
                "last-modified",
                "md-model-version",
                "versionId",
            ];
            if let Some(members) = metadata.as_object_mut() {
                members.retain(|name, _| NEEDED.contains(&name.as_str()));
            }
        }
        let metadata = json!(metadata.to_string()).to_string();
        let record = json!({"timestamp": "2026-11-20T16:26:15.045Z", "db": BUCKET, "method": 8, "entries": [{
            "key": format!("object-{NUMBER}\u{0}982000{NUMBER}999999RG001  "), "value": "VALUE"}]});
        let record = record.to_string().replace("\"VALUE\"", &metadata);
        let mut parts = record.split(NUMBER).map(str::to_owned);
        let record = std::array::from_fn(|_| parts.next().unwrap_or_default());
        let mut parts = metadata.split(NUMBER).map(str::to_owned);
        Self {
            objects,
            object_bytes,
            metadata: std::array::from_fn(|_| parts.next().unwrap_or_default()),
            record,
            location: json!([{"key": "fedcba9876543210fedcba9876543210fedcba98", "dataStoreName": "us-east-1",
                "dataStoreType": "file", "dataStoreETag": format!("1:{md5}"), "size": object_bytes, "start": 0}])
            .to_string(),
            rules: Stub::rules("paris"),
            chunk,
            copied: AtomicU64::new(0),
            marked: AtomicU64::new(0),
            requests: AtomicU64::new(0),
        }
    }

    fn metadata_of(&self, key: &str) -> String {
        let [before, after] = &self.metadata;
        let number = key.strip_prefix("object-").unwrap_or_default();
        ["{\"Body\":", before, number, after, "}"].concat()
    }

    /// Records from where `query` begins, as many as it wants.
    fn page(&self, query: &str) -> String {
        let value = |name: &str| {
            query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok())
        };
        let begin = value("begin").unwrap_or(self.objects + 1).max(1);
        let end = self.objects.min(begin + value("limit").unwrap_or(1_000) - 1);
        if begin > end {
            return json!({"info": {"start": null, "cseq": self.objects, "prune": 1}, "log": []}).to_string();
        }
        let record_bytes = self.record.iter().map(String::len).sum::<usize>() + 3 * DIGITS + 1;
        let records = usize::try_from(end - begin + 1).unwrap_or_default();
        let mut page = String::with_capacity(records * record_bytes + 128);
        let cseq = self.objects.to_string();
        let begun = begin.to_string();
        page.extend(["{\"info\":{\"start\":", &begun, ",\"cseq\":", &cseq, ",\"prune\":1},\"log\":["]);
        for seq in begin..=end {
            if seq > begin {
                page.push(',');
            }
            let number = format!("{seq:0DIGITS$}");
            let [first, second, third, last] = &self.record;
            page.extend([first, &number, second, &number, third, &number, last.as_str()]);
        }
        page.push_str("]}");
        page
    }

    fn data(&self) -> Response<Body> {
        let chunk = self.chunk.clone();
        let frames = pieces(self.object_bytes).map(move |piece| Ok(Frame::data(chunk.slice(..piece))));
        let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync());
        response.headers_mut().insert(http::header::CONTENT_LENGTH, self.object_bytes.into());
        response
    }
}

/// The sizes of the pieces of so many bytes.
fn pieces(bytes: usize) -> impl Iterator<Item = usize> + Send {
    let full = std::iter::repeat_n(CHUNK_BYTES, bytes / CHUNK_BYTES);
    full.chain(Some(bytes % CHUNK_BYTES).filter(|rest| *rest > 0))
}
