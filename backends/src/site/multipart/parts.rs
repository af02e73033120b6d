//! Parts of uploads: received, recorded, listed, forgotten.

use super::{PART_NUMBER_MAX, SEPARATOR, checksum_of, overview};
use crate::site::access::{signer, trailers};
use crate::site::bucket::{self, uploads_of};
use crate::site::changes::{Changes, Records};
use crate::site::checksums::{Algorithm, Stored, put_part_checksum};
use crate::site::config::Account;
use crate::site::data::Incoming;
use crate::site::error::{Outcome, Refusal};
use crate::site::metadata::Site;
use crate::site::object::etag;
use crate::site::receive::{self, Expected};
use s3s::dto::{UploadPartInput, UploadPartOutput};
use s3s::{S3Request, S3Response};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One uploaded part as upstream writes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::site) struct PartRecord {
    #[serde(rename = "md-model-version")]
    model_version: u32,
    #[serde(rename = "partLocations")]
    pub(super) locations: Vec<PartLocation>,
    key: String,
    #[serde(rename = "last-modified")]
    pub(in crate::site) last_modified: String,
    #[serde(rename = "content-md5")]
    pub(in crate::site) md5: String,
    #[serde(rename = "content-length")]
    pub(in crate::site) size: u64,
    #[serde(rename = "owner-id")]
    owner_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::site) checksum: Option<Stored>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PartLocation {
    pub(super) key: String,
    #[serde(rename = "dataStoreName")]
    data_store_name: String,
}

pub(super) fn part_key(upload_id: &str, number: i32) -> String {
    format!("{upload_id}{SEPARATOR}{number:05}")
}

pub(in crate::site) fn parts(
    records: &impl Records,
    bucket: &str,
    upload_id: &str,
) -> Outcome<BTreeMap<i32, PartRecord>> {
    let prefix = format!("{upload_id}{SEPARATOR}");
    let rows = records.values(&uploads_of(bucket), &prefix, &prefix, usize::MAX)?;
    rows.into_iter()
        .map(|(key, json)| {
            let number = key[prefix.len()..].parse().map_err(|_| Refusal::internal())?;
            Ok((number, serde_json::from_str(&json).map_err(|_| Refusal::internal())?))
        })
        .collect()
}

/// Where a part goes.
#[derive(Clone, Debug)]
pub(in crate::site) struct Place {
    bucket: String,
    key: String,
    upload_id: String,
    number: i32,
}

impl Place {
    pub(in crate::site) fn new(bucket: String, key: String, upload_id: String, number: i32) -> Outcome<Self> {
        if !(1..=PART_NUMBER_MAX).contains(&number) {
            return Err(Refusal::invalid_argument()
                .with_message("Part number must be an integer between 1 and 10000, inclusive"));
        }
        Ok(Self { bucket, key, upload_id, number })
    }
}

/// The kind of checksum that parts of an upload in progress have.
pub(in crate::site) fn algorithm(
    site: &Site,
    account: &Account,
    place: &Place,
) -> Outcome<Option<Algorithm>> {
    site.read(|txn| {
        bucket::open(txn, &place.bucket, account)?;
        let started = overview(txn, &place.bucket, &place.key, &place.upload_id)?;
        Ok(checksum_of(&started.ok_or(Refusal::no_such_upload())?)?.map(|(algorithm, _)| algorithm))
    })
}

pub(in crate::site) async fn upload_part(
    site: &Arc<Site>,
    request: S3Request<UploadPartInput>,
) -> Outcome<S3Response<UploadPartOutput>> {
    let account = signer(site, &request)?;
    let mut expected = Expected::of(&request.headers, trailers(&request))?;
    let input = request.input;
    let place = Place::new(input.bucket, input.key, input.upload_id, input.part_number)?;
    if let Some(algorithm) = algorithm(site, &account, &place)? {
        if let Some(given) = expected.algorithm().filter(|given| *given != algorithm) {
            return Err(Refusal::invalid_request(format!(
                "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
                algorithm.as_str().to_ascii_lowercase(),
                given.as_str().to_ascii_lowercase()
            )));
        }
        expected = expected.computing(algorithm);
    }
    let (incoming, checksum) = receive::receive(site.data(), input.body, &expected).await?;
    let part = store_part(site, account, place, incoming, checksum.clone()).await?;
    let mut output = UploadPartOutput { e_tag: Some(etag(&part.md5)), ..UploadPartOutput::default() };
    if let Some(checksum) = checksum {
        put_part_checksum!(output, checksum.shown_of_part());
    }
    Ok(S3Response::new(output))
}

/// A part that was stored.
pub(in crate::site) struct StoredPart {
    pub(in crate::site) md5: String,
    pub(in crate::site) last_modified: String,
}

/// Makes received bytes a part, in place of an earlier one with its number.
pub(in crate::site) async fn store_part(
    site: &Arc<Site>,
    account: Account,
    place: Place,
    incoming: Incoming,
    checksum: Option<Stored>,
) -> Outcome<StoredPart> {
    let (size, md5) = (incoming.size(), incoming.md5());
    let stored = incoming.finish().await?;
    let store_name = site.config().data_store_name.clone();
    site.write(move |changes| {
        let Place { bucket: name, key, upload_id, number } = place;
        overview(changes, &name, &key, &upload_id)?.ok_or(Refusal::no_such_upload())?;
        let uploads = uploads_of(&name);
        let part = part_key(&upload_id, number);
        if let Some(old) = changes.value(&uploads, &part)? {
            let old: PartRecord = serde_json::from_str(&old).map_err(|_| Refusal::internal())?;
            discard(changes, &old);
        }
        let data_key = stored.key().to_owned();
        changes.add_data(stored);
        changes.attach(&data_key, &name, &key)?;
        let record = PartRecord {
            model_version: 3,
            locations: vec![PartLocation { key: data_key, data_store_name: store_name }],
            key: part.clone(),
            last_modified: changes.now(),
            md5,
            size,
            owner_id: account.canonical_id,
            checksum,
        };
        changes.put(&uploads, &part, serde_json::to_string(&record).map_err(|_| Refusal::internal())?)?;
        Ok(StoredPart { md5: record.md5, last_modified: record.last_modified })
    })
    .await
}

pub(super) fn discard(changes: &mut Changes<'_, '_>, part: &PartRecord) {
    for location in &part.locations {
        changes.discard(&location.key);
    }
}
