//! Deleting data by its locations (wire reference 1.9).

use super::answer::json;
use super::multiple_backend::seconds;
use super::request::{Target, header};
use crate::site::changes::{Changes, Records};
use crate::site::cloud::Cloud;
use crate::site::data::DataOwner;
use crate::site::error::{Outcome, Refusal};
use crate::site::metadata::Site;
use crate::site::receive;
use http::{HeaderMap, StatusCode};
use s3s::{Body, S3Request, S3Response};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Largest list of locations to delete.
const LOCATIONS_BYTES_MAX: usize = 16 << 20;

/// A location to delete. Only what is in a cloud has versions.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Place {
    key: String,
    data_store_name: Option<String>,
    data_store_version_id: Option<String>,
}

impl Place {
    fn version_id(&self) -> Option<&str> {
        self.data_store_version_id.as_deref().filter(|id| !id.is_empty())
    }
}

pub(super) fn parse(body: &[u8]) -> Outcome<Vec<Place>> {
    #[derive(Deserialize)]
    struct Listed {
        #[serde(rename = "Locations")]
        locations: Vec<Place>,
    }
    let listed: Listed = serde_json::from_slice(body).map_err(|_| Refusal::malformed_post())?;
    Ok(listed.locations)
}

/// Deletes what a request lists: data of this site, objects of its cloud locations.
pub(super) async fn delete(
    site: &Site,
    request: S3Request<Body>,
    target: &Target,
) -> Outcome<S3Response<Body>> {
    let headers = request.headers;
    let places = parse(&receive::collect(request.input, LOCATIONS_BYTES_MAX).await?)?;
    let class = header(&headers, "x-scal-storage-class").and_then(|name| site.location(name));
    if let (Some(first), Some(location)) = (places.first(), class)
        && first.version_id().is_none()
    {
        if target.bucket.is_empty() || target.key.is_empty() {
            return Err(Refusal::method_not_allowed());
        }
        let is_tagged = tag_unmodified(location, &first.key, &headers).await?;
        return Ok(json(StatusCode::OK, if is_tagged { "{}" } else { "null" }));
    }
    let mut own = Vec::new();
    for place in places {
        let location = place.data_store_name.as_deref().and_then(|name| site.location(name));
        match location {
            Some(location) => location.delete(&place.key, place.version_id()).await?,
            None => own.push(place.key),
        }
    }
    if !own.is_empty() {
        site.write(move |changes| {
            for key in own {
                delete_unreferenced(changes, &key)?;
            }
            Ok(())
        })
        .await?;
    }
    Ok(json(StatusCode::OK, "null"))
}

/// Tags an object of a cloud that keeps no versions, for the cloud to delete it, unless it changed after the time that
/// the request names. Answers whether it was tagged.
async fn tag_unmodified(location: &Cloud, key: &str, headers: &HeaderMap) -> Outcome<bool> {
    let Some(since) = header(headers, "if-unmodified-since") else { return Ok(false) };
    let since = seconds(since).ok_or(Refusal::invalid_argument())?;
    let tags: BTreeMap<String, String> = serde_json::from_str(header(headers, "x-scal-tags").unwrap_or("{}"))
        .map_err(|_| Refusal::malformed_post())?;
    let Some(known) = location.head(key, None).await? else { return Ok(false) };
    if seconds(&known.last_modified).is_none_or(|changed| changed > since) {
        return Ok(false);
    }
    let tags: Vec<_> = tags.into_iter().collect();
    location.tag(key, None, Some(&tags)).await?;
    Ok(true)
}

/// Deletes data that no version of its object mentions. Unknown keys are fine; data in use stays, whoever asks.
fn delete_unreferenced(changes: &mut Changes<'_, '_>, data_key: &str) -> Outcome<()> {
    match changes.data_owner(data_key)? {
        None => {}
        Some(DataOwner::Awaited) => changes.discard(data_key),
        Some(DataOwner::Object { bucket, key }) => {
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
