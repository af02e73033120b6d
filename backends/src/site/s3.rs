//! The S3 surface: every operation that the protocol library hands over.

use super::access::signer;
use super::acl::{Acl, Of};
use super::bucket::{self, Versioning, VersioningStatus};
use super::conditions::WriteCondition;
use super::error::{Outcome, Refusal};
use super::listing::{self, ENTRIES_MAX, Entry, Listing, Query};
use super::metadata::Site;
use super::object::{etag, shown_version, timestamp};
use super::versioning::Wanted;
use super::{access, acl, copy, lock, multipart, read, tags, write};
use backbeat_core::model::ObjectMd;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, Bucket, BucketVersioningStatus, CommonPrefix,
    CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CopyObjectInput, CopyObjectOutput,
    CreateBucketInput, CreateBucketOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput,
    DeleteBucketInput, DeleteBucketOutput, DeleteMarkerEntry, DeleteObjectInput, DeleteObjectOutput,
    DeleteObjectTaggingInput, DeleteObjectTaggingOutput, DeleteObjectsInput, DeleteObjectsOutput,
    DeletedObject, ETag, Error, GetBucketAclInput, GetBucketAclOutput, GetBucketLocationInput,
    GetBucketLocationOutput, GetBucketVersioningInput, GetBucketVersioningOutput, GetObjectAclInput,
    GetObjectAclOutput, GetObjectAttributesInput, GetObjectAttributesOutput, GetObjectInput,
    GetObjectLegalHoldInput, GetObjectLegalHoldOutput, GetObjectLockConfigurationInput,
    GetObjectLockConfigurationOutput, GetObjectOutput, GetObjectRetentionInput, GetObjectRetentionOutput,
    GetObjectTaggingInput, GetObjectTaggingOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput,
    HeadObjectOutput, ListBucketsInput, ListBucketsOutput, ListMultipartUploadsInput,
    ListMultipartUploadsOutput, ListObjectVersionsInput, ListObjectVersionsOutput, ListObjectsInput,
    ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, ListPartsInput, ListPartsOutput, Object,
    ObjectVersion, Owner, PutBucketAclInput, PutBucketAclOutput, PutBucketVersioningInput,
    PutBucketVersioningOutput, PutObjectAclInput, PutObjectAclOutput, PutObjectInput,
    PutObjectLegalHoldInput, PutObjectLegalHoldOutput, PutObjectLockConfigurationInput,
    PutObjectLockConfigurationOutput, PutObjectOutput, PutObjectRetentionInput, PutObjectRetentionOutput,
    PutObjectTaggingInput, PutObjectTaggingOutput, UploadPartCopyInput, UploadPartCopyOutput,
    UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Request, S3Response, S3Result};
use std::sync::Arc;

/// The operations over one site.
pub(super) struct Surface(pub(super) Arc<Site>);

fn owner(md: &ObjectMd) -> Owner {
    Owner { id: Some(md.owner_id().to_owned()), display_name: md.text("owner-display-name") }
}

fn size(md: &ObjectMd) -> Option<i64> {
    i64::try_from(md.content_length()).ok()
}

fn max_keys(asked: Option<i32>) -> Outcome<usize> {
    let asked = asked.map(usize::try_from).transpose().map_err(|_| Refusal::invalid_argument())?;
    Ok(asked.unwrap_or(ENTRIES_MAX).min(ENTRIES_MAX))
}

fn object(entry: &Entry, with_owner: bool) -> Object {
    Object {
        e_tag: Some(etag(entry.md.content_md5())),
        key: Some(entry.key.clone()),
        last_modified: timestamp(entry.md.last_modified()),
        owner: with_owner.then(|| owner(&entry.md)),
        size: size(&entry.md),
        storage_class: Some("STANDARD".to_owned().into()),
        ..Object::default()
    }
}

fn common_prefixes(listing: &Listing) -> Vec<CommonPrefix> {
    listing.prefixes.iter().map(|prefix| CommonPrefix { prefix: Some(prefix.clone()) }).collect()
}

/// Where the next page starts: after the last key or common prefix.
fn next_after(listing: &Listing) -> Option<String> {
    let last = listing.entries.last().map(|entry| entry.key.as_str());
    listing
        .is_truncated
        .then(|| last.max(listing.prefixes.last().map(String::as_str)).unwrap_or("").to_owned())
}

impl Surface {
    fn bucket<T>(&self, request: &S3Request<T>, name: &str) -> Outcome<bucket::BucketInfo> {
        let account = signer(&self.0, request)?;
        self.0.read(|txn| bucket::open(txn, name, &account))
    }

    fn objects<T>(&self, request: &S3Request<T>, name: &str, query: &Query) -> Outcome<Listing> {
        let account = signer(&self.0, request)?;
        self.0.read(|txn| {
            bucket::open(txn, name, &account)?;
            listing::objects(txn, name, query)
        })
    }
}

#[async_trait::async_trait]
impl S3 for Surface {
    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let account = signer(&self.0, &request)?;
        let acl = Acl::asked(&self.0, &request.headers, Of::Bucket)?;
        let has_lock = request.input.object_lock_enabled_for_bucket == Some(true);
        let name = request.input.bucket;
        if name == access::INTERNAL {
            return Err(Refusal { code: "InvalidBucketName", ..Refusal::invalid_argument() }
                .with_message("The specified bucket is not valid.")
                .into());
        }
        let location = self.0.config().data_store_name.clone();
        let output = CreateBucketOutput { location: Some(format!("/{name}")) };
        self.0
            .write(move |changes| bucket::create(changes, &name, &account, &location, acl, has_lock))
            .await?;
        Ok(S3Response::new(output))
    }

    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.bucket(&request, &request.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput {
            bucket_region: Some(self.0.config().data_store_name.clone()),
            ..HeadBucketOutput::default()
        }))
    }

    async fn list_buckets(
        &self,
        request: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let account = signer(&self.0, &request)?;
        let found = self.0.read(|txn| bucket::list(txn, &account.canonical_id))?;
        let buckets = found.into_iter().map(|(name, created)| Bucket {
            name: Some(name),
            creation_date: timestamp(&created),
            ..Bucket::default()
        });
        Ok(S3Response::new(ListBucketsOutput {
            buckets: Some(buckets.collect()),
            owner: Some(Owner { id: Some(account.canonical_id), display_name: Some(account.display_name) }),
            ..ListBucketsOutput::default()
        }))
    }

    async fn delete_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        let account = signer(&self.0, &request)?;
        let name = request.input.bucket;
        self.0
            .write(move |changes| {
                let bucket = bucket::open(changes, &name, &account)?;
                bucket::delete(changes, bucket)
            })
            .await?;
        Ok(S3Response::new(DeleteBucketOutput::default()))
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        let bucket = self.bucket(&request, &request.input.bucket)?;
        // The default region is spelled as nothing.
        let location = bucket.location_constraint.filter(|location| location != "us-east-1");
        Ok(S3Response::new(GetBucketLocationOutput { location_constraint: location.map(Into::into) }))
    }

    async fn get_bucket_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        let bucket = self.bucket(&request, &request.input.bucket)?;
        let status = bucket.versioning().map(|status| match status {
            VersioningStatus::Enabled => BucketVersioningStatus::from_static(BucketVersioningStatus::ENABLED),
            VersioningStatus::Suspended => {
                BucketVersioningStatus::from_static(BucketVersioningStatus::SUSPENDED)
            }
        });
        Ok(S3Response::new(GetBucketVersioningOutput { status, ..GetBucketVersioningOutput::default() }))
    }

    async fn put_bucket_versioning(
        &self,
        request: S3Request<PutBucketVersioningInput>,
    ) -> S3Result<S3Response<PutBucketVersioningOutput>> {
        let asked = request.input.versioning_configuration.status.as_ref();
        let status = match asked.map(BucketVersioningStatus::as_str) {
            Some(BucketVersioningStatus::ENABLED) => VersioningStatus::Enabled,
            Some(BucketVersioningStatus::SUSPENDED) => VersioningStatus::Suspended,
            Some(_) | None => return Err(Refusal::malformed_xml().into()),
        };
        let account = signer(&self.0, &request)?;
        bucket::change(&self.0, account, request.input.bucket, move |bucket| {
            if status == VersioningStatus::Suspended && bucket.replication_configuration.is_some() {
                return Err(Refusal::versioning_bound());
            }
            if status == VersioningStatus::Suspended && bucket.object_lock_enabled {
                return Err(Refusal::versioning_bound().with_message(
                    "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed.",
                ));
            }
            bucket.versioning_configuration = Some(Versioning { status });
            Ok(())
        })
        .await?;
        Ok(S3Response::new(PutBucketVersioningOutput::default()))
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        Ok(write::put(&self.0, request).await?)
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        read::get(&self.0, &request).await
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        read::head(&self.0, &request)
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let account = signer(&self.0, &request)?;
        let condition = WriteCondition::of_deletion(&request.headers)?;
        let may_bypass = lock::may_bypass(&request.headers);
        let input = request.input;
        let place = (input.bucket, input.key);
        let output = write::delete(&self.0, account, place, input.version_id, condition, may_bypass).await?;
        Ok(S3Response::new(output))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let account = signer(&self.0, &request)?;
        let name = request.input.bucket.clone();
        self.bucket(&request, &name)?;
        let may_bypass = lock::may_bypass(&request.headers);
        let delete = request.input.delete;
        if delete.objects.is_empty() || delete.objects.len() > ENTRIES_MAX {
            return Err(Refusal::malformed_xml().into());
        }
        let deletions = delete.objects.into_iter().map(|asked| {
            let (site, account, name) = (&self.0, account.clone(), name.clone());
            async move {
                let place = (name, asked.key.clone());
                let condition = WriteCondition::matching(asked.e_tag.as_ref().map(ETag::value));
                let version_id = asked.version_id.clone();
                let deleted = write::delete(site, account, place, version_id, condition, may_bypass).await;
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

    async fn list_objects(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = &request.input;
        let query = Query {
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone(),
            max: max_keys(input.max_keys)?,
            after: input.marker.clone().filter(|marker| !marker.is_empty()),
            after_version: None,
        };
        let listing = self.objects(&request, &input.bucket, &query)?;
        Ok(S3Response::new(ListObjectsOutput {
            name: Some(input.bucket.clone()),
            prefix: Some(query.prefix),
            marker: Some(input.marker.clone().unwrap_or_default()),
            max_keys: i32::try_from(query.max).ok(),
            is_truncated: Some(listing.is_truncated),
            contents: Some(listing.entries.iter().map(|entry| object(entry, true)).collect()),
            common_prefixes: Some(common_prefixes(&listing)),
            delimiter: query.delimiter,
            next_marker: next_after(&listing),
            ..ListObjectsOutput::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = &request.input;
        // A continuation token is the last key, in hexadecimal so that it survives any client.
        let token = input.continuation_token.as_deref().map(|token| {
            let key = hex::decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            key.ok_or(
                Refusal::invalid_argument().with_message("The continuation token provided is incorrect"),
            )
        });
        let query = Query {
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone(),
            max: max_keys(input.max_keys)?,
            after: token.transpose()?.or(input.start_after.clone()).filter(|after| !after.is_empty()),
            after_version: None,
        };
        let listing = self.objects(&request, &input.bucket, &query)?;
        let with_owner = input.fetch_owner == Some(true);
        let count = listing.entries.len() + listing.prefixes.len();
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket.clone()),
            prefix: Some(query.prefix),
            max_keys: i32::try_from(query.max).ok(),
            key_count: i32::try_from(count).ok(),
            continuation_token: input.continuation_token.clone(),
            is_truncated: Some(listing.is_truncated),
            next_continuation_token: next_after(&listing).map(hex::encode),
            contents: Some(listing.entries.iter().map(|entry| object(entry, with_owner)).collect()),
            common_prefixes: Some(common_prefixes(&listing)),
            delimiter: query.delimiter,
            start_after: input.start_after.clone(),
            ..ListObjectsV2Output::default()
        }))
    }

    async fn list_object_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let account = signer(&self.0, &request)?;
        let input = &request.input;
        let marker = input.version_id_marker.as_deref().filter(|marker| !marker.is_empty());
        let query = Query {
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone(),
            max: max_keys(input.max_keys)?,
            after: input.key_marker.clone().filter(|marker| !marker.is_empty()),
            after_version: marker.map(|marker| Wanted::parse(Some(marker))).transpose()?,
        };
        let listing = self.0.read(|txn| {
            bucket::open(txn, &input.bucket, &account)?;
            listing::versions(txn, &input.bucket, &query)
        })?;
        let shown = |entry: &Entry| shown_version(true, &entry.md);
        let (markers, versions): (Vec<_>, Vec<_>) =
            listing.entries.iter().partition(|entry| entry.md.is_delete_marker());
        let versions = versions.into_iter().map(|entry| ObjectVersion {
            e_tag: Some(etag(entry.md.content_md5())),
            is_latest: Some(entry.is_latest),
            key: Some(entry.key.clone()),
            last_modified: timestamp(entry.md.last_modified()),
            owner: Some(owner(&entry.md)),
            size: size(&entry.md),
            storage_class: Some("STANDARD".to_owned().into()),
            version_id: shown(entry),
            ..ObjectVersion::default()
        });
        let markers = markers.into_iter().map(|entry| DeleteMarkerEntry {
            is_latest: Some(entry.is_latest),
            key: Some(entry.key.clone()),
            last_modified: timestamp(entry.md.last_modified()),
            owner: Some(owner(&entry.md)),
            version_id: shown(entry),
        });
        let next_key = next_after(&listing);
        // After a common prefix there is no version to go on from.
        let last = listing.entries.last().filter(|entry| next_key.as_ref() == Some(&entry.key));
        Ok(S3Response::new(ListObjectVersionsOutput {
            name: Some(input.bucket.clone()),
            prefix: Some(query.prefix),
            key_marker: Some(input.key_marker.clone().unwrap_or_default()),
            version_id_marker: Some(input.version_id_marker.clone().unwrap_or_default()),
            max_keys: i32::try_from(query.max).ok(),
            is_truncated: Some(listing.is_truncated),
            next_version_id_marker: last.and_then(shown),
            next_key_marker: next_key,
            versions: Some(versions.collect()),
            delete_markers: Some(markers.collect()),
            common_prefixes: Some(common_prefixes(&listing)),
            delimiter: query.delimiter,
            ..ListObjectVersionsOutput::default()
        }))
    }

    async fn get_object_tagging(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<S3Response<GetObjectTaggingOutput>> {
        Ok(tags::of_object(&self.0, &request)?)
    }

    async fn put_object_tagging(
        &self,
        request: S3Request<PutObjectTaggingInput>,
    ) -> S3Result<S3Response<PutObjectTaggingOutput>> {
        Ok(tags::put(&self.0, request).await?)
    }

    async fn delete_object_tagging(
        &self,
        request: S3Request<DeleteObjectTaggingInput>,
    ) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
        Ok(tags::delete(&self.0, request).await?)
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        Ok(multipart::create(&self.0, request).await?)
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        Ok(multipart::upload_part(&self.0, request).await?)
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        Ok(multipart::complete(&self.0, request).await?)
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let account = signer(&self.0, &request)?;
        let input = request.input;
        multipart::abort(&self.0, account, input.bucket, input.key, input.upload_id).await?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        Ok(multipart::list_parts(&self.0, &request)?)
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        Ok(multipart::list_uploads(&self.0, &request)?)
    }

    async fn copy_object(
        &self,
        request: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        Ok(copy::object(&self.0, request).await?)
    }

    async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        Ok(copy::part(&self.0, request).await?)
    }

    async fn get_object_attributes(
        &self,
        request: S3Request<GetObjectAttributesInput>,
    ) -> S3Result<S3Response<GetObjectAttributesOutput>> {
        read::attributes(&self.0, &request)
    }

    async fn get_object_acl(
        &self,
        request: S3Request<GetObjectAclInput>,
    ) -> S3Result<S3Response<GetObjectAclOutput>> {
        Ok(acl::of_object(&self.0, &request)?)
    }

    async fn put_object_acl(
        &self,
        request: S3Request<PutObjectAclInput>,
    ) -> S3Result<S3Response<PutObjectAclOutput>> {
        Ok(acl::put_of_object(&self.0, request).await?)
    }

    async fn get_bucket_acl(
        &self,
        request: S3Request<GetBucketAclInput>,
    ) -> S3Result<S3Response<GetBucketAclOutput>> {
        Ok(acl::of_bucket(&self.0, &request)?)
    }

    async fn put_bucket_acl(
        &self,
        request: S3Request<PutBucketAclInput>,
    ) -> S3Result<S3Response<PutBucketAclOutput>> {
        Ok(acl::put_of_bucket(&self.0, request).await?)
    }

    async fn get_object_lock_configuration(
        &self,
        request: S3Request<GetObjectLockConfigurationInput>,
    ) -> S3Result<S3Response<GetObjectLockConfigurationOutput>> {
        Ok(lock::configuration(&self.0, &request)?)
    }

    async fn put_object_lock_configuration(
        &self,
        request: S3Request<PutObjectLockConfigurationInput>,
    ) -> S3Result<S3Response<PutObjectLockConfigurationOutput>> {
        Ok(lock::put_configuration(&self.0, request).await?)
    }

    async fn get_object_retention(
        &self,
        request: S3Request<GetObjectRetentionInput>,
    ) -> S3Result<S3Response<GetObjectRetentionOutput>> {
        Ok(lock::retention(&self.0, &request)?)
    }

    async fn put_object_retention(
        &self,
        request: S3Request<PutObjectRetentionInput>,
    ) -> S3Result<S3Response<PutObjectRetentionOutput>> {
        Ok(lock::put_retention(&self.0, request).await?)
    }

    async fn get_object_legal_hold(
        &self,
        request: S3Request<GetObjectLegalHoldInput>,
    ) -> S3Result<S3Response<GetObjectLegalHoldOutput>> {
        Ok(lock::legal_hold(&self.0, &request)?)
    }

    async fn put_object_legal_hold(
        &self,
        request: S3Request<PutObjectLegalHoldInput>,
    ) -> S3Result<S3Response<PutObjectLegalHoldOutput>> {
        Ok(lock::put_legal_hold(&self.0, request).await?)
    }
}
