//! Access control lists of buckets and objects: kept and shown as CloudServer keeps and shows them. They grant nothing here: who
//! may use a bucket is decided by its owner alone.

use super::access;
use super::attributes::{Acl, Of};
use super::bucket;
use super::config::Account;
use super::error::{Outcome, Refusal};
use super::headers::insert;
use super::metadata::Site;
use super::object::shown_version;
use super::random::random_hex;
use super::versioning::{self, Wanted};
use backbeat_core::model::RawJson;
use http::HeaderMap;
use s3s::dto::{
    AccessControlPolicy, GetBucketAclInput, GetBucketAclOutput, GetObjectAclInput, GetObjectAclOutput, Owner,
    PutBucketAclInput, PutBucketAclOutput, PutObjectAclInput, PutObjectAclOutput,
};
use s3s::{S3Request, S3Response};
use std::sync::Arc;

/// The list that a request asks for, in headers or in its document.
fn wanted(
    site: &Site,
    headers: &HeaderMap,
    document: Option<AccessControlPolicy>,
    owner: &str,
    of: Of,
) -> Outcome<Acl> {
    match (Acl::asked(site, headers, of)?, document) {
        (Some(acl), _) => Ok(acl),
        (None, Some(policy)) => Acl::of_document(site, policy, owner, of),
        (None, None) => Err(Refusal { code: "MissingSecurityHeader", ..Refusal::invalid_argument() }
            .with_message("Your request was missing a required header.")),
    }
}

pub(super) fn of_bucket(
    site: &Site,
    request: &S3Request<GetBucketAclInput>,
) -> Outcome<S3Response<GetBucketAclOutput>> {
    let account = access::signer(site, request)?;
    let bucket = site.read(|txn| bucket::open(txn, &request.input.bucket, &account))?;
    let owner =
        Owner { id: Some(bucket.owner.clone()), display_name: Some(bucket.owner_display_name.clone()) };
    let grants = bucket.acl.grants(site, &owner, &bucket.owner);
    Ok(S3Response::new(GetBucketAclOutput { grants: Some(grants), owner: Some(owner) }))
}

pub(super) async fn put_of_bucket(
    site: &Arc<Site>,
    request: S3Request<PutBucketAclInput>,
) -> Outcome<S3Response<PutBucketAclOutput>> {
    let account = access::signer(site, &request)?;
    let input = request.input;
    let bucket = site.read(|txn| bucket::open(txn, &input.bucket, &account))?;
    let acl = wanted(site, &request.headers, input.access_control_policy, &bucket.owner, Of::Bucket)?;
    bucket::change(site, account, input.bucket, move |bucket| {
        bucket.acl = acl;
        Ok(())
    })
    .await?;
    Ok(S3Response::new(PutBucketAclOutput::default()))
}

pub(super) fn of_object(
    site: &Site,
    request: &S3Request<GetObjectAclInput>,
) -> Outcome<S3Response<GetObjectAclOutput>> {
    let account = access::signer(site, request)?;
    let input = &request.input;
    let wanted = Wanted::parse(input.version_id.as_deref())?;
    let (bucket, md) = site.read(|txn| {
        let bucket = bucket::open(txn, &input.bucket, &account)?;
        let md = versioning::object(txn, &input.bucket, &input.key, &wanted)?;
        Ok((bucket, md))
    })?;
    let owner = Owner { id: Some(md.owner_id().to_owned()), display_name: md.text("owner-display-name") };
    let grants = Acl::of(&md).grants(site, &owner, &bucket.owner);
    let output =
        GetObjectAclOutput { grants: Some(grants), owner: Some(owner), ..GetObjectAclOutput::default() };
    Ok(S3Response::new(output))
}

/// A new list for an object. As at the baseline it is no matter of replication, and a list that changes nothing is not
/// written (wire reference 2.3).
pub(super) async fn put_of_object(
    site: &Arc<Site>,
    request: S3Request<PutObjectAclInput>,
) -> Outcome<S3Response<PutObjectAclOutput>> {
    let account: Account = access::signer(site, &request)?;
    let input = request.input;
    let (name, key, version_id) = (input.bucket, input.key, input.version_id);
    let which = Wanted::parse(version_id.as_deref())?;
    let md = site.read(|txn| {
        bucket::open(txn, &name, &account)?;
        versioning::object(txn, &name, &key, &which)
    })?;
    let acl = wanted(site, &request.headers, input.access_control_policy, md.owner_id(), Of::Object)?;
    let json = RawJson::parse(&acl.to_json()?).map_err(|_| Refusal::internal())?;
    let micro_version_id = RawJson::string(&random_hex::<8>()?);
    let version_id = site
        .write(move |changes| {
            let bucket = bucket::open(changes, &name, &account)?;
            let md = versioning::object(changes, &name, &key, &which)?;
            let shown = shown_version(bucket.is_versioned(), &md);
            if Acl::of(&md) == acl {
                return Ok(shown);
            }
            let changed = md
                .with_member("acl", &json)?
                .with_member("microVersionId", &micro_version_id)?
                .with_origin_op("s3:ObjectAcl:Put");
            versioning::rewrite(changes, &name, &key, &changed)?;
            Ok(shown)
        })
        .await?;
    let mut response = S3Response::new(PutObjectAclOutput::default());
    insert(&mut response.headers, "x-amz-version-id", version_id.as_deref());
    Ok(response)
}
