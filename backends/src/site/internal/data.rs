//! Data of replicas: bytes first, the metadata that mentions them later (wire reference 1.4).

use super::answer::json;
use super::request::{Target, header, wanted};
use crate::site::bucket;
use crate::site::changes::Changes;
use crate::site::config::Account;
use crate::site::error::{Outcome, Refusal};
use crate::site::metadata::Site;
use crate::site::receive::{self, Expected};
use http::StatusCode;
use s3s::{Body, S3Request, S3Response};

pub(super) async fn write(
    site: &Site,
    request: S3Request<Body>,
    target: &Target,
    account: &Account,
) -> Outcome<S3Response<Body>> {
    wanted(&request.uri)?;
    site.read(|txn| bucket::open(txn, &target.bucket, account))?;
    if header(&request.headers, "x-scal-canonical-id").is_none() {
        return Err(Refusal::bad_request("missing x-scal-canonical-id header"));
    }
    let md5 = header(&request.headers, "content-md5")
        .ok_or(Refusal::bad_request("missing content-md5 header"))?
        .to_owned();
    let length = header(&request.headers, "content-length").and_then(|length| length.parse().ok());
    let expected = Expected::length(length.ok_or(Refusal::missing_length())?);
    let (incoming, _) = receive::receive(site.data(), Some(request.input), &expected).await?;
    // Hexadecimal here, unlike on S3 routes.
    if incoming.md5() != md5 {
        return Err(Refusal::bad_digest());
    }
    let stored = incoming.finish().await?;
    let key = stored.key().to_owned();
    match site.data().wait_for_metadata(stored) {
        Ok(due) if due.is_empty() => {}
        Ok(due) => {
            let admit = move |changes: &mut Changes<'_, '_>| {
                due.iter().try_for_each(|key| changes.data_owner(key).map(drop)).map_err(Refusal::from)
            };
            site.write(admit).await?;
        }
        Err(stored) => {
            site.write(move |changes| {
                changes.add_data(stored);
                Ok(())
            })
            .await?;
        }
    }
    let name = serde_json::Value::from(site.config().data_store_name.as_str());
    Ok(json(StatusCode::OK, format!("[{{\"key\":\"{key}\",\"dataStoreName\":{name}}}]")))
}
