//! Objects on cloud locations (wire reference 1.7, 1.8): written, tagged and deleted through the site that names them.

use super::answer::json;
use super::request::{Target, header, wanted};
use crate::http::Body as Sent;
use crate::site::bucket;
use crate::site::cloud::{Attributes, Cloud, KIND};
use crate::site::config::Account;
use crate::site::error::{Outcome, Refusal};
use crate::site::metadata::Site;
use crate::site::receive;
use crate::site::uri::parameter;
use crate::site::versioning::{self, Wanted};
use crate::timestamp;
use backbeat_core::model::VersionId;
use http::{HeaderMap, StatusCode};
use s3s::dto::{Timestamp, TimestampFormat};
use s3s::{Body, S3Request, S3Response};
use serde::Deserialize;
use serde_json::{Value, json as value};
use std::collections::BTreeMap;

/// Largest list of parts: 10,000 of them.
const PARTS_BYTES_MAX: usize = 4 << 20;

/// The operations, by method and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    PutObject,
    PutPart,
    Initiate,
    Complete,
    Abort,
    Delete,
    PutTagging,
    DeleteTagging,
}

impl Operation {
    fn of(method: &str, name: &str) -> Outcome<Self> {
        Ok(match (method, name) {
            ("PUT", "putobject") => Self::PutObject,
            ("PUT", "putpart") => Self::PutPart,
            ("POST", "initiatempu") => Self::Initiate,
            ("POST", "completempu") => Self::Complete,
            ("POST", "puttagging") => Self::PutTagging,
            ("DELETE", "abortmpu") => Self::Abort,
            ("DELETE", "deleteobject") => Self::Delete,
            ("DELETE", "deleteobjecttagging") => Self::DeleteTagging,
            _ => return Err(Refusal::method_not_allowed()),
        })
    }
}

/// The headers of a request, checked in upstream's order.
struct Asked<'a> {
    headers: &'a HeaderMap,
    location: &'a Cloud,
}

impl<'a> Asked<'a> {
    fn of(site: &'a Site, headers: &'a HeaderMap, operation: Operation) -> Outcome<Self> {
        let has = |name: &str| headers.contains_key(name);
        let need = |name: &str, problem: &str| {
            if has(name) { Ok(()) } else { Err(Refusal::bad_request(problem)) }
        };
        need("x-scal-storage-type", "missing x-scal-storage-type header")?;
        let types = header(headers, "x-scal-storage-type").unwrap_or_default();
        if operation == Operation::PutPart {
            need("x-scal-part-number", "missing part-number header")?;
        }
        if matches!(operation, Operation::PutPart | Operation::Complete | Operation::Abort) {
            need("x-scal-upload-id", "missing upload-id header")?;
        }
        if operation == Operation::PutObject {
            need("x-scal-canonical-id", "missing x-scal-canonical-id header")?;
        }
        if operation == Operation::PutTagging && types != "azure" && types != "gcp" {
            need("x-scal-data-store-version-id", "missing x-scal-data-store-version-id header")?;
            need("x-scal-source-bucket", "missing x-scal-source-bucket header")?;
            need("x-scal-replication-endpoint-site", "missing x-scal-replication-endpoint-site")?;
        }
        if operation == Operation::PutObject {
            need("content-md5", "missing content-md5 header")?;
        }
        need("x-scal-storage-class", "missing x-scal-storage-class header")?;
        let name = header(headers, "x-scal-storage-class").unwrap_or_default();
        let location = site.location(name).filter(|_| types.split(',').any(|kind| kind == KIND));
        let location = location
            .ok_or(Refusal::invalid_request("invalid request: invalid location constraint in request"))?;
        Ok(Self { headers, location })
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        header(self.headers, name).filter(|text| !text.is_empty())
    }

    /// A header that holds a JSON object of texts.
    fn map(&self, name: &str) -> Outcome<Vec<(String, String)>> {
        let Some(text) = self.text(name) else { return Ok(Vec::new()) };
        let map: BTreeMap<String, String> =
            serde_json::from_str(text).map_err(|_| Refusal::malformed_post())?;
        Ok(map.into_iter().collect())
    }

    /// What the object is written with at the cloud.
    fn attributes(&self) -> Outcome<Attributes> {
        let mut headers =
            BTreeMap::from([("x-amz-meta-scal-replication-status".to_owned(), "REPLICA".to_owned())]);
        if let Some(id) = self.text("x-scal-version-id") {
            headers.insert("x-amz-meta-scal-version-id".to_owned(), id.to_owned());
        }
        for (name, value) in self.map("x-scal-user-metadata")? {
            // Anything else would be a header with a meaning of its own.
            let name = name.to_ascii_lowercase();
            if !name.starts_with("x-amz-meta-") {
                return Err(Refusal::malformed_post());
            }
            headers.insert(name, value);
        }
        for name in ["content-type", "cache-control", "content-disposition", "content-encoding"] {
            if let Some(value) = self.text(&format!("x-scal-{name}")) {
                headers.insert(name.to_owned(), value.to_owned());
            }
        }
        let tags = self.map("x-scal-tags")?;
        if !tags.is_empty() {
            let pair = |(key, value): &(String, String)| {
                let encode = |text| crate::http::percent_encode(text, false);
                format!("{}={}", encode(key), encode(value))
            };
            headers.insert("x-amz-tagging".into(), tags.iter().map(pair).collect::<Vec<_>>().join("&"));
        }
        Ok(Attributes(headers.into_iter().collect()))
    }

    /// The hexadecimal MD5 of the body, if one is given. Base64, as on S3 routes, is no such digest.
    fn md5(&self) -> Outcome<Option<[u8; 16]>> {
        let Some(text) = self.text("content-md5") else { return Ok(None) };
        let bytes = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Some).ok_or(Refusal::bad_digest())
    }

    fn length(&self) -> Outcome<u64> {
        let length = header(self.headers, "content-length").and_then(|text| text.parse().ok());
        length.filter(|length| *length <= receive::SIZE_MAX).ok_or(Refusal::missing_length())
    }
}

/// Answers one operation.
pub(super) async fn data(
    site: &Site,
    request: S3Request<Body>,
    target: &Target,
    account: &Account,
) -> Outcome<S3Response<Body>> {
    let name = parameter(&request.uri, "operation").unwrap_or_default();
    let operation = Operation::of(request.method.as_str(), &name)?;
    wanted(&request.uri)?;
    let asked = Asked::of(site, &request.headers, operation)?;
    let location = asked.location;
    let key = location.key(&target.bucket, &target.key);
    let answer = match operation {
        Operation::PutObject => {
            let md5 = asked.md5()?.ok_or(Refusal::bad_digest())?;
            let attributes = asked.attributes()?;
            let size = asked.length()?;
            let body = Sent::stream(size, request.input);
            // The cloud checks the digest, so that nothing is stored that does not match it.
            let version =
                location.put(&key, body, &base64_simd::STANDARD.encode_to_string(md5), &attributes).await?;
            written(location, &key, Some(size), &format!("1:{}", hex::encode(md5)), version)
        }
        Operation::Initiate => {
            let upload_id = location.initiate(&key, &asked.attributes()?).await?;
            value!({ "uploadId": upload_id })
        }
        Operation::PutPart => {
            let number = asked.text("x-scal-part-number").unwrap_or_default();
            let parsed = number.parse().map_err(|_| Refusal::invalid_argument())?;
            let body = Sent::stream(asked.length()?, request.input);
            let md5 = asked.md5()?.map(|md5| base64_simd::STANDARD.encode_to_string(md5));
            let upload_id = asked.text("x-scal-upload-id").unwrap_or_default();
            let tag = location.put_part(&key, upload_id, parsed, body, md5.as_deref()).await?;
            value!({ "partNumber": number, "ETag": tag })
        }
        Operation::Complete => {
            let upload_id = asked.text("x-scal-upload-id").unwrap_or_default();
            let body = receive::collect(request.input, PARTS_BYTES_MAX).await?;
            let parts = parts(&body)?;
            let (tag, version) = location.complete(&key, upload_id, &parts).await?;
            let size = location.head(&key, version.as_deref()).await?.map(|known| known.size);
            written(location, &key, size, &tag, version)
        }
        Operation::Abort => {
            location.abort(&key, asked.text("x-scal-upload-id").unwrap_or_default()).await?;
            value!({})
        }
        Operation::Delete => {
            location.delete(&key, None).await?;
            value!({})
        }
        Operation::PutTagging | Operation::DeleteTagging => {
            let tags = if operation == Operation::PutTagging {
                asked.text("x-scal-tags").ok_or(Refusal::malformed_post())?;
                Some(asked.map("x-scal-tags")?)
            } else {
                None
            };
            let version = cloud_version(site, &asked, target, account)?;
            let version = location.tag(&key, version.as_deref(), tags.as_deref()).await?;
            version.map_or_else(|| value!({}), |version| value!({ "versionId": version }))
        }
    };
    Ok(json(StatusCode::OK, answer.to_string()))
}

/// Which version at the cloud is to be tagged: the one named, else the one that the source's metadata knows of.
fn cloud_version(
    site: &Site,
    asked: &Asked<'_>,
    target: &Target,
    account: &Account,
) -> Outcome<Option<String>> {
    if let Some(id) = asked.text("x-scal-data-store-version-id") {
        return Ok(Some(id.to_owned()));
    }
    let Some(source) = asked.text("x-scal-source-bucket") else { return Ok(None) };
    // The id is the internal one here, never decoded (observed page).
    let wanted = match asked.text("x-scal-source-version-id") {
        Some(id) => Wanted::Version(VersionId::from(id)),
        None => Wanted::Current,
    };
    let md = site.read(|txn| {
        bucket::open(txn, source, account)?;
        versioning::lookup(txn, source, &target.key, &wanted)
    })?;
    let md = md.ok_or(Refusal::no_such_key())?;
    let name = asked.text("x-scal-replication-endpoint-site").unwrap_or_default();
    let backend = md.replication().backends().iter().find(|backend| backend.site.as_str() == name);
    let id = backend.map(|backend| backend.data_store_version_id.to_string());
    Ok(id.filter(|id| !id.is_empty()))
}

/// Where an object was written, as metadata keeps it.
fn written(location: &Cloud, key: &str, size: Option<u64>, tag: &str, version: Option<String>) -> Value {
    let mut place = value!({
        "dataStoreName": location.name(),
        "dataStoreType": KIND,
        "key": key,
        "start": 0,
        "dataStoreETag": tag,
    });
    if let Some(size) = size {
        place["size"] = size.into();
    }
    if let Some(version) = &version {
        place["dataStoreVersionId"] = version.as_str().into();
    }
    value!({ "versionId": version.unwrap_or_default(), "location": [place] })
}

/// The parts of a completion: every value wrapped in an array.
pub(super) fn parts(body: &[u8]) -> Outcome<Vec<(u32, String)>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Listed {
        part_number: [Value; 1],
        #[serde(rename = "ETag")]
        e_tag: [String; 1],
    }
    let listed: Vec<Listed> = serde_json::from_slice(body).map_err(|_| Refusal::malformed_post())?;
    let part = |listed: Listed| {
        let [number] = listed.part_number;
        let text = number.as_str().map_or_else(|| number.to_string(), str::to_owned);
        let [tag] = listed.e_tag;
        text.parse().map(|number| (number, tag)).map_err(|_| Refusal::malformed_post())
    };
    listed.into_iter().map(part).collect()
}

/// A location as other routes name it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    key: String,
    data_store_name: String,
    data_store_version_id: Option<String>,
}

/// When the first of some locations was written last.
pub(super) async fn metadata(site: &Site, request: &S3Request<Body>) -> Outcome<S3Response<Body>> {
    wanted(&request.uri)?;
    let invalid = || Refusal::invalid_request("x-scal-locations header is invalid");
    let listed = header(&request.headers, "x-scal-locations").ok_or_else(invalid)?;
    let listed: Vec<Place> = serde_json::from_str(listed).map_err(|_| invalid())?;
    let place = listed.into_iter().next().ok_or_else(invalid)?;
    let location = site.location(&place.data_store_name).ok_or(Refusal::not_implemented())?;
    let known = location.head(&place.key, place.data_store_version_id.as_deref()).await?;
    let known = known.ok_or(Refusal::object_not_found())?;
    let date = seconds(&known.last_modified).ok_or(Refusal::internal())?;
    let answer = value!({ "lastModified": timestamp::iso(date * 1000) });
    Ok(json(StatusCode::OK, answer.to_string()))
}

/// Seconds since the epoch of an HTTP date.
pub(super) fn seconds(date: &str) -> Option<u64> {
    let date = Timestamp::parse(TimestampFormat::HttpDate, date).ok()?;
    let mut text = Vec::new();
    date.format(TimestampFormat::EpochSeconds, &mut text).ok()?;
    let text = String::from_utf8(text).ok()?;
    text.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_as_numbers_or_texts() {
        let read =
            parts(br#"[{"PartNumber":["1"],"ETag":["a"]},{"PartNumber":[2],"ETag":["b"],"Size":[3]}]"#);
        assert_eq!(read.unwrap(), [(1, "a".to_owned()), (2, "b".to_owned())]);
        for wrong in ["{bad", "[{}]", r#"[{"PartNumber":["x"],"ETag":["a"]}]"#, "null"] {
            assert_eq!(parts(wrong.as_bytes()).unwrap_err().code, "MalformedPOSTRequest");
        }
    }

    #[test]
    fn dates_of_clouds_are_read() {
        assert_eq!(seconds("Fri, 20 Nov 2026 16:38:25 GMT"), Some(1_795_192_705));
        assert_eq!(seconds("yesterday"), None);
    }
}
