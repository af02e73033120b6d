//! The internal routes of the replication engine: metadata and data of single versions (wire reference 1), and the
//! replication configuration of buckets, whose XML upstream judges by rules of its own.
//!
//! Every request is signed; the protocol library has verified that before it gets here.

use super::access::INTERNAL;
use super::bucket::{self, BucketInfo, VersioningStatus};
use super::changes::{Changes, DataOwner, Records};
use super::config::Account;
use super::error::{Outcome, Refusal};
use super::metadata::Site;
use super::receive::{self, Expected};
use super::versioning::{self, Wanted};
use super::{replication, server};
use backbeat_core::model::{Encryption, Location, ObjectMd, Revision, StateTag, VersionId};
use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode, Uri};
use s3s::route::S3Route;
use s3s::{Body, S3Request, S3Response, S3Result};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;

/// Largest metadata document: 10,000 parts fit several times.
const METADATA_BYTES_MAX: usize = 16 << 20;
/// Largest list of locations to delete.
const LOCATIONS_BYTES_MAX: usize = 16 << 20;
/// Largest replication configuration.
const CONFIGURATION_BYTES_MAX: usize = 1 << 20;

/// Request header: which stored state a metadata write may replace.
pub(super) const IF_REVISION: &str = "x-backbeat-if-revision";
/// Response header: the stored state that metadata was read in.
pub(super) const REVISION: &str = "x-backbeat-revision";

/// The routes.
pub(super) struct InternalRoutes(pub(super) Arc<Site>);

/// What a request below `/_/backbeat` asks for.
struct Target {
    kind: String,
    bucket: String,
    key: String,
}

#[async_trait::async_trait]
impl S3Route for InternalRoutes {
    fn is_match(&self, _: &Method, uri: &Uri, _: &HeaderMap, _: &mut Extensions) -> bool {
        is_internal(uri) || replication_bucket(uri).is_some()
    }

    async fn call(&self, request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let signer = request.credentials.as_ref().map(|credentials| credentials.access_key.as_str());
        let account = signer.and_then(|access_key| self.0.account(access_key)).cloned();
        let Some(account) = account else { return Err(Refusal::access_denied().into()) };
        if let Some(bucket) = replication_bucket(&request.uri) {
            return Ok(self.replication(&bucket, request, &account).await?);
        }
        if !request.uri.path().starts_with(server::BACKBEAT) {
            let error = Refusal { code: "InvalidURI", ..Refusal::invalid_argument() };
            return Err(error.with_message("Couldn't parse the specified URI.").into());
        }
        Ok(self.backbeat(request, &account).await.unwrap_or_else(|refusal| json_error(&refusal)))
    }
}

/// Paths that upstream dispatches before it looks for a bucket.
fn is_internal(uri: &Uri) -> bool {
    uri.path()
        .strip_prefix('/')
        .and_then(|path| path.strip_prefix(INTERNAL))
        .is_some_and(|rest| rest.starts_with('/'))
}

/// The bucket of `/{bucket}?replication`.
fn replication_bucket(uri: &Uri) -> Option<String> {
    let asks = query(uri).any(|(name, _)| name == "replication");
    let path = uri.path().strip_prefix('/')?;
    let bucket = path.strip_suffix('/').unwrap_or(path);
    (asks && !bucket.is_empty() && !bucket.contains('/')).then(|| decode(bucket))
}

/// Form decoding: blanks for plus signs, then percent escapes (wire reference 0.2).
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let raw = text.as_bytes();
    let mut at = 0;
    while at < raw.len() {
        let escaped = (raw[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        if let Some(byte) = escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            bytes.push(byte);
            at += 3;
        } else {
            bytes.push(if raw[at] == b'+' { b' ' } else { raw[at] });
            at += 1;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(super) fn query(uri: &Uri) -> impl Iterator<Item = (String, String)> {
    uri.query().unwrap_or("").split('&').filter(|part| !part.is_empty()).map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decode(name), decode(value))
    })
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn json(status: StatusCode, body: impl Into<Bytes>) -> S3Response<Body> {
    let body = body.into();
    let mut response = S3Response::with_status(Body::empty(), status);
    response.headers.insert("content-type", HeaderValue::from_static("application/json"));
    response.headers.insert("content-length", body.len().into());
    response.output = Body::from(body);
    response
}

#[derive(Serialize)]
struct ErrorEnvelope<'a> {
    code: &'a str,
    message: &'a str,
    resource: Option<()>,
    #[serde(rename = "requestId")]
    request_id: &'a str,
}

/// The JSON form of an error (wire reference 0.3). The request id is filled in where the response leaves the server.
pub(super) fn error_json(code: &str, message: &str, request_id: &str) -> String {
    serde_json::to_string(&ErrorEnvelope { code, message, resource: None, request_id }).unwrap_or_default()
}

/// A refusal on its way out: the server writes the body, once it knows the request id.
#[derive(Clone, Debug)]
pub(super) struct JsonRefusal(pub(super) Refusal);

pub(super) fn json_error(refusal: &Refusal) -> S3Response<Body> {
    let mut response = S3Response::with_status(Body::empty(), refusal.status);
    response.extensions.insert(JsonRefusal(refusal.clone()));
    response
}

impl InternalRoutes {
    async fn backbeat(&self, request: S3Request<Body>, account: &Account) -> Outcome<S3Response<Body>> {
        let path = decode(&request.uri.path()[server::BACKBEAT.len()..]);
        let mut parts = path.splitn(3, '/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        let target = Target { kind: next(), bucket: next(), key: next() };
        let is_object = matches!(target.kind.as_str(), "metadata" | "data");
        if is_object && (target.bucket.is_empty() || target.key.is_empty()) {
            return Err(Refusal::method_not_allowed());
        }
        match (request.method.as_str(), target.kind.as_str()) {
            ("GET", "metadata") => self.read_metadata(&request, &target, account),
            ("PUT", "metadata") => self.write_metadata(request, target, account).await,
            ("PUT", "data") => self.write_data(request, &target, account).await,
            ("POST", "batchdelete") => self.delete_data(request).await,
            _ => Err(Refusal::method_not_allowed()),
        }
    }

    fn read_metadata(
        &self,
        request: &S3Request<Body>,
        target: &Target,
        account: &Account,
    ) -> Outcome<S3Response<Body>> {
        let wanted = wanted(&request.uri)?;
        let md = self.0.read(|txn| {
            bucket::open(txn, &target.bucket, account)?;
            versioning::lookup(txn, &target.bucket, &target.key, &wanted)
        })?;
        let md = md.ok_or(Refusal::object_not_found())?;
        let body = format!("{{\"Body\":{}}}", serde_json::Value::from(md.to_json()));
        let mut response = json(StatusCode::OK, body);
        let tag = HeaderValue::from_str(&md.state_tag().to_string()).map_err(|_| Refusal::internal())?;
        response.headers.insert(REVISION, tag);
        Ok(response)
    }

    async fn write_metadata(
        &self,
        request: S3Request<Body>,
        target: Target,
        account: &Account,
    ) -> Outcome<S3Response<Body>> {
        let wanted = wanted(&request.uri)?;
        let condition = header(&request.headers, IF_REVISION).map(Condition::parse).transpose()?;
        let keeps_data = header(&request.headers, "x-scal-replication-content") == Some("METADATA");
        // The bucket is looked at before the body is read, and again when it is written.
        self.0.read(|txn| bucket::open(txn, &target.bucket, account))?;
        let body = receive::collect(request.input, METADATA_BYTES_MAX).await?;
        let md = parse_document(&body)?;
        let account = account.clone();
        let data_store_name = self.0.config().data_store_name.clone();
        let written = self.0.write(move |changes| {
            let bucket = bucket::open(changes, &target.bucket, &account)?;
            let stored = versioning::lookup(changes, &bucket.name, &target.key, &wanted)?;
            if let Some(condition) = condition {
                condition.check(stored.as_ref())?;
            }
            MetadataWrite { bucket, key: target.key, wanted, stored, keeps_data, data_store_name }
                .apply(changes, md)
        });
        let body = match written.await? {
            Some(id) => format!("{{\"versionId\":{}}}", serde_json::Value::from(id.as_str())),
            None => "null".to_owned(),
        };
        Ok(json(StatusCode::OK, body))
    }

    async fn write_data(
        &self,
        request: S3Request<Body>,
        target: &Target,
        account: &Account,
    ) -> Outcome<S3Response<Body>> {
        wanted(&request.uri)?;
        self.0.read(|txn| bucket::open(txn, &target.bucket, account))?;
        if header(&request.headers, "x-scal-canonical-id").is_none() {
            return Err(Refusal::bad_request("missing x-scal-canonical-id header"));
        }
        let md5 = header(&request.headers, "content-md5")
            .ok_or(Refusal::bad_request("missing content-md5 header"))?
            .to_owned();
        let length = header(&request.headers, "content-length").and_then(|length| length.parse().ok());
        let expected = Expected::length(length.ok_or(Refusal::missing_length())?);
        let (incoming, _) = receive::receive(self.0.files(), Some(request.input), &expected).await?;
        // Hexadecimal here, unlike on S3 routes.
        if incoming.md5() != md5 {
            return Err(Refusal::bad_digest());
        }
        let stored = incoming.finish().await?;
        let key = stored.key.clone();
        self.0
            .write(move |changes| {
                changes.await_metadata(&key);
                Ok(())
            })
            .await?;
        let name = serde_json::Value::from(self.0.config().data_store_name.as_str());
        Ok(json(StatusCode::OK, format!("[{{\"key\":\"{}\",\"dataStoreName\":{name}}}]", stored.key)))
    }

    async fn delete_data(&self, request: S3Request<Body>) -> Outcome<S3Response<Body>> {
        #[derive(Deserialize)]
        struct Listed {
            #[serde(rename = "Locations")]
            locations: Vec<DataKey>,
        }
        #[derive(Deserialize)]
        struct DataKey {
            key: String,
        }
        let body = receive::collect(request.input, LOCATIONS_BYTES_MAX).await?;
        let listed: Listed = serde_json::from_slice(&body).map_err(|_| Refusal::malformed_post())?;
        if !listed.locations.is_empty() {
            self.0
                .write(move |changes| {
                    for location in listed.locations {
                        delete_unreferenced(changes, &location.key)?;
                    }
                    Ok(())
                })
                .await?;
        }
        Ok(json(StatusCode::OK, "null"))
    }

    /// `?replication` of a bucket. Errors are XML here.
    async fn replication(
        &self,
        bucket: &str,
        request: S3Request<Body>,
        account: &Account,
    ) -> Outcome<S3Response<Body>> {
        match request.method.as_str() {
            "GET" => {
                let bucket = self.0.read(|txn| bucket::open(txn, bucket, account))?;
                let rules = bucket.replication_configuration.ok_or(Refusal::no_replication_configuration())?;
                let mut response = S3Response::new(Body::from(rules.to_xml()));
                response.headers.insert("content-type", HeaderValue::from_static("application/xml"));
                Ok(response)
            }
            "PUT" => {
                let body = receive::collect(request.input, CONFIGURATION_BYTES_MAX).await?;
                let rules =
                    replication::ReplicationRules::parse(&body, &self.0.config().replication_endpoints)?;
                self.change_bucket(bucket, account, move |bucket| {
                    if bucket.versioning() != Some(VersioningStatus::Enabled) {
                        return Err(Refusal::invalid_request(
                            "Versioning must be 'Enabled' on the bucket to apply a replication configuration",
                        ));
                    }
                    bucket.replication_configuration = Some(rules);
                    Ok(())
                })
                .await?;
                Ok(S3Response::new(Body::empty()))
            }
            "DELETE" => {
                self.change_bucket(bucket, account, |bucket| {
                    bucket.replication_configuration = None;
                    Ok(())
                })
                .await?;
                Ok(S3Response::with_status(Body::empty(), StatusCode::NO_CONTENT))
            }
            _ => Err(Refusal::method_not_allowed()),
        }
    }

    async fn change_bucket<F>(&self, name: &str, account: &Account, change: F) -> Outcome<()>
    where
        F: FnOnce(&mut BucketInfo) -> Outcome<()> + Send + 'static,
    {
        let (name, account) = (name.to_owned(), account.clone());
        self.0
            .write(move |changes| {
                let mut bucket = bucket::open(changes, &name, &account)?;
                change(&mut bucket)?;
                bucket::update(changes, &bucket)
            })
            .await
    }
}

fn wanted(uri: &Uri) -> Outcome<Wanted> {
    Wanted::parse(query(uri).find(|(name, _)| name == "versionId").map(|(_, value)| value).as_deref())
}

/// The document of a metadata write: JSON with a `replicationInfo` (wire reference 1.6, step 3).
fn parse_document(body: &[u8]) -> Outcome<ObjectMd> {
    #[derive(Deserialize)]
    struct Shape<'a> {
        #[serde(rename = "replicationInfo", borrow)]
        replication: &'a RawValue,
    }
    let text = std::str::from_utf8(body).map_err(|_| Refusal::malformed_post())?;
    let shape: Shape<'_> = serde_json::from_str(text).map_err(|_| Refusal::malformed_post())?;
    if !shape.replication.get().starts_with('{') {
        return Err(Refusal::malformed_post());
    }
    ObjectMd::parse(text).map_err(|_| Refusal::malformed_post())
}

/// Which stored state a metadata write may replace (decision D3).
#[derive(Clone, Copy, Debug)]
enum Condition {
    /// The version must not exist.
    Missing,
    /// What it says must be this, whatever its replication status.
    Revision(Revision),
    /// Exactly this.
    State(StateTag),
}

impl Condition {
    fn parse(text: &str) -> Outcome<Self> {
        if text == "none" {
            return Ok(Self::Missing);
        }
        let revision = text.parse().map(Self::Revision);
        revision.or_else(|_| text.parse().map(Self::State)).map_err(|_| {
            Refusal::invalid_argument().with_message(format!(
                "{IF_REVISION} must be a revision, a state tag as {REVISION} gives it, or none"
            ))
        })
    }

    fn check(self, stored: Option<&ObjectMd>) -> Outcome<()> {
        let holds = match self {
            Self::Missing => stored.is_none(),
            Self::Revision(revision) => stored.is_some_and(|md| md.revision() == revision),
            Self::State(tag) => stored.is_some_and(|md| md.state_tag() == tag),
        };
        if holds { Ok(()) } else { Err(Refusal::precondition_failed()) }
    }
}

/// One metadata write, inside its commit.
struct MetadataWrite {
    bucket: BucketInfo,
    key: String,
    wanted: Wanted,
    stored: Option<ObjectMd>,
    /// Location and encryption stay those of the stored version.
    keeps_data: bool,
    data_store_name: String,
}

impl MetadataWrite {
    /// Answers the id that the version was written under, if it was written as a version (wire reference 1.6).
    fn apply(self, changes: &mut Changes<'_, '_>, md: ObjectMd) -> Outcome<Option<VersionId>> {
        let (bucket, key) = (self.bucket.name.as_str(), self.key.as_str());
        let mut md = md;
        if self.keeps_data {
            let stored = self.stored.as_ref().ok_or(Refusal::object_not_found())?;
            md = with_data_of(&md, stored);
        } else {
            self.attach(changes, &md)?;
        }
        let stored_id = self.stored.as_ref().and_then(ObjectMd::version_id).cloned();
        let master = versioning::master(changes, bucket, key)?;
        match (&self.wanted, stored_id) {
            (Wanted::Version(id), _) => {
                versioning::put_version(changes, bucket, key, &md, id)?;
                self.discard_old(changes, &md);
                Ok(Some(id.clone()))
            }
            (Wanted::Null, Some(id)) => {
                md = md.with_member("versionId", &backbeat_core::model::RawJson::string(id.as_str()))?;
                versioning::rewrite(changes, bucket, key, &versioning::with_flag(&md, "isNull")?)?;
                self.discard_old(changes, &md);
                Ok(Some(id))
            }
            (Wanted::Null, None) => {
                md = versioning::with_flag(&md.without_member("versionId"), "isNull")?;
                self.discard_covered(changes, master.as_ref(), &md)?;
                if self.bucket.versioning() == Some(VersioningStatus::Suspended) {
                    let md = versioning::put_null_master(changes, bucket, key, &md)?;
                    return Ok(md.version_id().cloned());
                }
                versioning::put_master(changes, bucket, key, &md)?;
                Ok(None)
            }
            (Wanted::Current, _) => {
                self.discard_covered(changes, master.as_ref(), &md)?;
                versioning::put_master(changes, bucket, key, &md)?;
                Ok(None)
            }
        }
    }

    /// Takes the data that the document mentions. Data of this site that is not there any more is refused: the
    /// version would not be readable.
    fn attach(&self, changes: &mut Changes<'_, '_>, md: &ObjectMd) -> Outcome<()> {
        let is_kept = |location: &Location| {
            self.stored
                .as_ref()
                .is_some_and(|stored| stored.locations().iter().any(|old| old.key == location.key))
        };
        for location in md.locations() {
            if *location.data_store_name != *self.data_store_name || is_kept(location) {
                continue;
            }
            if changes.data_owner(&location.key)? == DataOwner::Unknown {
                return Err(Refusal::location_not_found());
            }
            changes.attach(&location.key, &self.bucket.name, &self.key);
        }
        Ok(())
    }

    /// Data that the new document of the same version does not mention any more (wire reference 1.6, step 7).
    fn discard_old(&self, changes: &mut Changes<'_, '_>, md: &ObjectMd) {
        let Some(stored) = &self.stored else { return };
        if self.keeps_data || md.locations().is_empty() {
            return;
        }
        let is_new = |old: &Location| md.locations().iter().all(|new| new.key != old.key);
        if stored.locations().iter().all(is_new) {
            versioning::discard_data(changes, stored);
        }
    }

    /// Data of a null or unversioned master that a plain write replaces. Upstream leaks it.
    fn discard_covered(
        &self,
        changes: &mut Changes<'_, '_>,
        master: Option<&versioning::Master>,
        md: &ObjectMd,
    ) -> Outcome<()> {
        let Some(versioning::Master::Object(old)) = master else { return Ok(()) };
        let has_own_key = match old.version_id() {
            Some(id) => versioning::version(changes, &self.bucket.name, &self.key, id)?.is_some(),
            None => false,
        };
        if versioning::is_null(old) && !has_own_key {
            for location in old.locations() {
                if md.locations().iter().all(|new| new.key != location.key) {
                    changes.discard(&location.key);
                }
            }
        }
        Ok(())
    }
}

fn with_data_of(md: &ObjectMd, stored: &ObjectMd) -> ObjectMd {
    let text = |name: &str| stored.text(name).unwrap_or_default();
    md.with_location(stored.locations().to_vec()).with_encryption(&Encryption {
        algorithm: text("x-amz-server-side-encryption"),
        kms_key_id: text("x-amz-server-side-encryption-aws-kms-key-id"),
        customer_algorithm: text("x-amz-server-side-encryption-customer-algorithm"),
    })
}

/// Deletes data that no version of its object mentions. Unknown keys are fine; data in use stays, whoever asks.
fn delete_unreferenced(changes: &mut Changes<'_, '_>, data_key: &str) -> Outcome<()> {
    match changes.data_owner(data_key)? {
        DataOwner::Unknown => {}
        DataOwner::Awaited => changes.discard(data_key),
        DataOwner::Object { bucket, key } => {
            if is_referenced(changes, &bucket, &key, data_key)? {
                tracing::warn!(bucket, key, data_key, "kept data that was to be deleted: it is in use");
            } else {
                changes.discard(data_key);
            }
        }
    }
    Ok(())
}

/// Whether the master or a version of a key mentions some data.
fn is_referenced(records: &impl Records, bucket: &str, key: &str, data_key: &str) -> Outcome<bool> {
    let quoted = format!("\"{data_key}\"");
    if records.value(bucket, key)?.is_some_and(|json| json.contains(&quoted)) {
        return Ok(true);
    }
    let prefix = format!("{key}\0");
    let mut from = prefix.clone();
    loop {
        let page = records.values(bucket, &prefix, &from, 256)?;
        if page.iter().any(|(_, json)| json.contains(&quoted)) {
            return Ok(true);
        }
        match page.last() {
            Some((last, _)) if page.len() == 256 => from = format!("{last}\0"),
            Some(_) | None => return Ok(false),
        }
    }
}
