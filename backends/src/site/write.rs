//! Writing and deleting objects on the S3 surface.

use super::access::{signer, trailers};
use super::attributes::{Acl, Lock, Of, lock, tags};
use super::bucket;
use super::buckets;
use super::checksums::put_checksum;
use super::conditions::WriteCondition;
use super::config::Account;
use super::data::Stored;
use super::error::{Outcome, Refusal};
use super::headers::ContentHeaders;
use super::listing::ENTRIES_MAX;
use super::metadata::Site;
use super::object::{NewObject, check_key, etag, shown_version};
use super::random::random_hex;
use super::receive::{self, Expected};
use super::revision;
use super::versioning::{self, Wanted};
use crate::timestamp::system_ms;
use backbeat_core::model::Location;
use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag,
    Error, PutObjectInput, PutObjectOutput,
};
use s3s::{S3Request, S3Response};
use std::sync::Arc;

pub(super) async fn put(
    site: &Arc<Site>,
    request: S3Request<PutObjectInput>,
) -> Outcome<S3Response<PutObjectOutput>> {
    let account = signer(site, &request)?;
    let trailers = trailers(&request);
    let (name, key) = (request.input.bucket, request.input.key);
    check_key(&key)?;
    let bucket = site.read(|txn| bucket::open(txn, &name, &account))?;
    let content = ContentHeaders::of(&request.headers)?;
    let tags = tags::asked(&request.headers)?;
    let acl = Acl::asked(site, &request.headers, Of::Object)?.unwrap_or_else(|| Acl::private(Of::Object));
    let condition = WriteCondition::of(&request.headers)?;
    let lock = Lock::asked(&request.headers, system_ms())?;
    bucket.lock(lock, system_ms())?;
    let expected = Expected::of(&request.headers, trailers)?;
    let (incoming, checksum) = receive::receive(site.data(), request.input.body, &expected).await?;
    let (size, md5) = (incoming.size(), incoming.md5());
    let data_store_name = site.config().data_store_name.clone();
    let stored = if size == 0 { None } else { Some(incoming.finish().await?) };
    let location = |stored: &Stored| Location::new(stored.key(), 0, size, &data_store_name, 1, &md5);
    let locations = stored.iter().map(location).collect();
    let object = NewObject {
        owner_id: account.canonical_id.clone(),
        owner_name: account.display_name.clone(),
        key,
        headers: content,
        size,
        md5: md5.clone(),
        locations,
        tags,
        acl,
        lock,
        checksum: checksum.clone(),
        upload_id: None,
        is_delete_marker: false,
        origin_op: "s3:ObjectCreated:Put",
        data_store_name,
        micro_version_id: random_hex::<8>()?,
    };
    let data = stored.into_iter().collect();
    let written = revision::Write { bucket: name, account, condition, object, data }.commit(site).await?;
    let mut output = PutObjectOutput {
        e_tag: Some(etag(&md5)),
        version_id: written.version_id,
        ..PutObjectOutput::default()
    };
    if let Some(checksum) = checksum {
        put_checksum!(output, checksum.shown());
    }
    Ok(S3Response::new(output))
}

async fn delete_one(
    site: &Arc<Site>,
    account: Account,
    (name, key): (String, String),
    version_id: Option<String>,
    condition: WriteCondition,
    may_bypass: bool,
) -> Outcome<DeleteObjectOutput> {
    check_key(&key)?;
    let wanted = Wanted::parse(version_id.as_deref())?;
    let origin_op = "s3:ObjectRemoved:DeleteMarkerCreated";
    let marker = NewObject::marker(&account, key, origin_op, &site.config().data_store_name)?;
    site.write(move |changes| {
        let bucket = bucket::open(changes, &name, &account)?;
        let key = marker.key.as_str();
        condition.check(versioning::lookup(changes, &name, key, &wanted)?.as_ref())?;
        if wanted == Wanted::Current && bucket.is_versioned() {
            let md = revision::store(changes, &bucket, &marker, &account)?;
            return Ok(DeleteObjectOutput {
                delete_marker: Some(true),
                version_id: shown_version(true, &md),
                ..DeleteObjectOutput::default()
            });
        }
        if let Some(md) = versioning::lookup(changes, &name, key, &wanted)? {
            Lock::of(&md).check_delete(changes.now_ms, may_bypass)?;
        }
        let removed = versioning::remove(changes, &name, key, &wanted)?;
        let was_marker = removed.is_some_and(|md| md.is_delete_marker());
        Ok(DeleteObjectOutput {
            delete_marker: was_marker.then_some(true),
            version_id,
            ..DeleteObjectOutput::default()
        })
    })
    .await
}

pub(super) async fn delete(
    site: &Arc<Site>,
    request: S3Request<DeleteObjectInput>,
) -> Outcome<S3Response<DeleteObjectOutput>> {
    let account = signer(site, &request)?;
    let condition = WriteCondition::of_deletion(&request.headers)?;
    let may_bypass = lock::may_bypass(&request.headers);
    let input = request.input;
    let place = (input.bucket, input.key);
    let output = delete_one(site, account, place, input.version_id, condition, may_bypass).await?;
    Ok(S3Response::new(output))
}

pub(super) async fn delete_many(
    site: &Arc<Site>,
    request: S3Request<DeleteObjectsInput>,
) -> Outcome<S3Response<DeleteObjectsOutput>> {
    let account = signer(site, &request)?;
    let name = request.input.bucket.clone();
    buckets::open(site, &request, &name)?;
    let may_bypass = lock::may_bypass(&request.headers);
    let delete = request.input.delete;
    if delete.objects.is_empty() || delete.objects.len() > ENTRIES_MAX {
        return Err(Refusal::malformed_xml());
    }
    let deletions = delete.objects.into_iter().map(|asked| {
        let (site, account, name) = (site, account.clone(), name.clone());
        async move {
            let place = (name, asked.key.clone());
            let condition = WriteCondition::matching(asked.e_tag.as_ref().map(ETag::value));
            let version_id = asked.version_id.clone();
            let deleted = delete_one(site, account, place, version_id, condition, may_bypass).await;
            (asked, deleted)
        }
    });
    // Together, so that they share commits.
    let mut output = DeleteObjectsOutput { deleted: Some(Vec::new()), ..DeleteObjectsOutput::default() };
    for (asked, deleted) in futures_util::future::join_all(deletions).await {
        match deleted {
            Ok(_) if delete.quiet == Some(true) => {}
            Ok(deleted) => {
                let is_new_marker = asked.version_id.is_none() && deleted.delete_marker == Some(true);
                output.deleted.get_or_insert_default().push(DeletedObject {
                    delete_marker: deleted.delete_marker,
                    delete_marker_version_id: deleted.version_id.filter(|_| is_new_marker),
                    key: Some(asked.key),
                    version_id: asked.version_id,
                });
            }
            Err(refusal) => output.errors.get_or_insert_default().push(Error {
                code: Some(refusal.code.to_owned()),
                key: Some(asked.key),
                message: Some(refusal.message.into_owned()),
                version_id: asked.version_id,
            }),
        }
    }
    Ok(S3Response::new(output))
}
