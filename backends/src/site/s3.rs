//! The S3 surface: every operation that the protocol library hands over.

use super::access::signer;
use super::acl::{Acl, Of};
use super::bucket::{self, Versioning, VersioningStatus};
use super::conditions::WriteCondition;
use super::error::{Outcome, Refusal};
use super::headers::insert;
use super::listing::ENTRIES_MAX;
use super::metadata::Site;
use super::object::timestamp;
use super::{
    access, acl, copy, cors, form, lifecycle, lists, lock, multipart, notification, read, tags, uploads,
    write,
};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, Bucket, BucketVersioningStatus,
    CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CopyObjectInput, CopyObjectOutput,
    CreateBucketInput, CreateBucketOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput,
    DeleteBucketCorsInput, DeleteBucketCorsOutput, DeleteBucketInput, DeleteBucketLifecycleInput,
    DeleteBucketLifecycleOutput, DeleteBucketOutput, DeleteBucketTaggingInput, DeleteBucketTaggingOutput,
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectTaggingInput, DeleteObjectTaggingOutput,
    DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag, Error, GetBucketAclInput,
    GetBucketAclOutput, GetBucketCorsInput, GetBucketCorsOutput, GetBucketLifecycleConfigurationInput,
    GetBucketLifecycleConfigurationOutput, GetBucketLocationInput, GetBucketLocationOutput,
    GetBucketNotificationConfigurationInput, GetBucketNotificationConfigurationOutput, GetBucketTaggingInput,
    GetBucketTaggingOutput, GetBucketVersioningInput, GetBucketVersioningOutput, GetObjectAclInput,
    GetObjectAclOutput, GetObjectAttributesInput, GetObjectAttributesOutput, GetObjectInput,
    GetObjectLegalHoldInput, GetObjectLegalHoldOutput, GetObjectLockConfigurationInput,
    GetObjectLockConfigurationOutput, GetObjectOutput, GetObjectRetentionInput, GetObjectRetentionOutput,
    GetObjectTaggingInput, GetObjectTaggingOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput,
    HeadObjectOutput, ListBucketsInput, ListBucketsOutput, ListMultipartUploadsInput,
    ListMultipartUploadsOutput, ListObjectVersionsInput, ListObjectVersionsOutput, ListObjectsInput,
    ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, ListPartsInput, ListPartsOutput, Owner,
    PostObjectInput, PostObjectOutput, PutBucketAclInput, PutBucketAclOutput, PutBucketCorsInput,
    PutBucketCorsOutput, PutBucketLifecycleConfigurationInput, PutBucketLifecycleConfigurationOutput,
    PutBucketNotificationConfigurationInput, PutBucketNotificationConfigurationOutput, PutBucketTaggingInput,
    PutBucketTaggingOutput, PutBucketVersioningInput, PutBucketVersioningOutput, PutObjectAclInput,
    PutObjectAclOutput, PutObjectInput, PutObjectLegalHoldInput, PutObjectLegalHoldOutput,
    PutObjectLockConfigurationInput, PutObjectLockConfigurationOutput, PutObjectOutput,
    PutObjectRetentionInput, PutObjectRetentionOutput, PutObjectTaggingInput, PutObjectTaggingOutput,
    UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Request, S3Response, S3Result};
use std::sync::Arc;

/// Buckets of one answer at most, where an answer is asked for in pages.
const BUCKETS_MAX: usize = 10_000;

/// The operations over one site.
pub(super) struct Surface(pub(super) Arc<Site>);

impl Surface {
    fn bucket<T>(&self, request: &S3Request<T>, name: &str) -> Outcome<bucket::BucketInfo> {
        let account = signer(&self.0, request)?;
        self.0.read(|txn| bucket::open(txn, name, &account))
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
        let input = &request.input;
        let asked = input.max_buckets.map(usize::try_from).transpose().ok().flatten();
        let max = match (input.max_buckets, asked) {
            (None, _) => usize::MAX,
            (Some(_), Some(max)) if (1..=BUCKETS_MAX).contains(&max) => max,
            (Some(_), _) => {
                let message = "Argument max-buckets must be an integer between 1 and 10000";
                return Err(Refusal::invalid_argument().with_message(message).into());
            }
        };
        let prefix = input.prefix.as_deref().unwrap_or_default();
        // A continuation token is the last name of the page before.
        let after = input.continuation_token.as_deref().unwrap_or_default();
        let mut found = self.0.read(|txn| bucket::list(txn, &account.canonical_id))?;
        found.retain(|(name, _)| name.starts_with(prefix) && name.as_str() > after);
        let is_truncated = found.len() > max;
        found.truncate(max);
        let next = found.last().filter(|_| is_truncated).map(|(name, _)| name.clone());
        let buckets = found.into_iter().map(|(name, created)| Bucket {
            name: Some(name),
            creation_date: timestamp(&created),
            ..Bucket::default()
        });
        Ok(S3Response::new(ListBucketsOutput {
            buckets: Some(buckets.collect()),
            owner: Some(Owner { id: Some(account.canonical_id), display_name: Some(account.display_name) }),
            continuation_token: next,
            prefix: request.input.prefix,
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

    async fn post_object(
        &self,
        request: S3Request<PostObjectInput>,
    ) -> S3Result<S3Response<PostObjectOutput>> {
        let headers = form::headers(&request.input)?;
        let mut request = request.map_input(form::input);
        request.headers = headers;
        let written = write::put(&self.0, request).await?;
        let mut shown = S3Response::new(PostObjectOutput::default());
        // The protocol library says nothing of what was stored in the headers of its answer.
        let tag = written.output.e_tag.as_ref().map(|tag| format!("\"{}\"", tag.value()));
        insert(&mut shown.headers, "etag", tag.as_deref());
        insert(&mut shown.headers, "x-amz-version-id", written.output.version_id.as_deref());
        shown.output.e_tag = written.output.e_tag;
        Ok(shown)
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
        Ok(uploads::parts(&self.0, &request)?)
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        Ok(uploads::in_progress(&self.0, &request)?)
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

    async fn list_objects(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        Ok(lists::objects(&self.0, &request)?)
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        Ok(lists::objects_v2(&self.0, &request)?)
    }

    async fn list_object_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        Ok(lists::versions(&self.0, &request)?)
    }

    async fn get_bucket_lifecycle_configuration(
        &self,
        request: S3Request<GetBucketLifecycleConfigurationInput>,
    ) -> S3Result<S3Response<GetBucketLifecycleConfigurationOutput>> {
        Ok(lifecycle::of_bucket(&self.0, &request)?)
    }

    async fn put_bucket_lifecycle_configuration(
        &self,
        request: S3Request<PutBucketLifecycleConfigurationInput>,
    ) -> S3Result<S3Response<PutBucketLifecycleConfigurationOutput>> {
        Ok(lifecycle::put(&self.0, request).await?)
    }

    async fn delete_bucket_lifecycle(
        &self,
        request: S3Request<DeleteBucketLifecycleInput>,
    ) -> S3Result<S3Response<DeleteBucketLifecycleOutput>> {
        Ok(lifecycle::delete(&self.0, request).await?)
    }

    async fn get_bucket_notification_configuration(
        &self,
        request: S3Request<GetBucketNotificationConfigurationInput>,
    ) -> S3Result<S3Response<GetBucketNotificationConfigurationOutput>> {
        Ok(notification::of_bucket(&self.0, &request)?)
    }

    async fn put_bucket_notification_configuration(
        &self,
        request: S3Request<PutBucketNotificationConfigurationInput>,
    ) -> S3Result<S3Response<PutBucketNotificationConfigurationOutput>> {
        Ok(notification::put(&self.0, request).await?)
    }

    async fn get_bucket_cors(
        &self,
        request: S3Request<GetBucketCorsInput>,
    ) -> S3Result<S3Response<GetBucketCorsOutput>> {
        Ok(cors::of_bucket(&self.0, &request)?)
    }

    async fn put_bucket_cors(
        &self,
        request: S3Request<PutBucketCorsInput>,
    ) -> S3Result<S3Response<PutBucketCorsOutput>> {
        Ok(cors::put(&self.0, request).await?)
    }

    async fn delete_bucket_cors(
        &self,
        request: S3Request<DeleteBucketCorsInput>,
    ) -> S3Result<S3Response<DeleteBucketCorsOutput>> {
        Ok(cors::delete(&self.0, request).await?)
    }

    async fn get_bucket_tagging(
        &self,
        request: S3Request<GetBucketTaggingInput>,
    ) -> S3Result<S3Response<GetBucketTaggingOutput>> {
        Ok(tags::of_bucket(&self.0, &request)?)
    }

    async fn put_bucket_tagging(
        &self,
        request: S3Request<PutBucketTaggingInput>,
    ) -> S3Result<S3Response<PutBucketTaggingOutput>> {
        Ok(tags::put_of_bucket(&self.0, request).await?)
    }

    async fn delete_bucket_tagging(
        &self,
        request: S3Request<DeleteBucketTaggingInput>,
    ) -> S3Result<S3Response<DeleteBucketTaggingOutput>> {
        Ok(tags::delete_of_bucket(&self.0, request).await?)
    }
}
