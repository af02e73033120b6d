//! Buckets and their configuration, over S3.

use http::Method;

use super::{AdminError, absent, ask};
use crate::http::{Body, Request, SignedClient};
use crate::objects::s3::md5_of;
use crate::objects::{Versioning, bucket_state};

/// The buckets of a store.
#[derive(Clone, Debug)]
pub struct Buckets {
    client: SignedClient,
}

impl Buckets {
    /// Those that `client` reaches.
    pub fn new(client: SignedClient) -> Self {
        Self { client }
    }

    /// Host and port of the store.
    pub fn endpoint(&self) -> &str {
        self.client.endpoint()
    }

    /// Whether a bucket keeps versions; `None` if there is no such bucket.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn versioning(&self, bucket: &str) -> Result<Option<Versioning>, AdminError> {
        let Some(answer) = absent(self.get(bucket, "versioning").await, "NoSuchBucket")? else {
            return Ok(None);
        };
        let state = bucket_state(&answer).ok_or_else(|| self.unreadable("a versioning configuration"))?;
        Ok(Some(state.versioning))
    }

    /// Makes a bucket, in the region `location` where the store wants that said. One that is ours already is fine.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn create(&self, bucket: &str, location: Option<&str>) -> Result<(), AdminError> {
        let mut request = Request::new(Method::PUT, format!("/{bucket}"));
        if let Some(location) = location {
            let document = format!(
                "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LocationConstraint>{}</LocationConstraint></CreateBucketConfiguration>",
                quick_xml::escape::escape(location)
            );
            request = request.header("content-md5", md5_of(&document)).body(Body::full(document));
        }
        absent(ask(&self.client, request).await, "BucketAlreadyOwnedByYou").map(|_| ())
    }

    /// Has a bucket keep versions.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn enable_versioning(&self, bucket: &str) -> Result<(), AdminError> {
        let document = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>Enabled</Status></VersioningConfiguration>";
        self.put(bucket, "versioning", document).await
    }

    /// The replication configuration of a bucket, as it stands there; `None` if it has none.
    ///
    /// # Errors
    /// [`AdminError`], also if there is no such bucket.
    pub async fn replication(&self, bucket: &str) -> Result<Option<String>, AdminError> {
        let answer = self.get(bucket, "replication").await;
        let Some(answer) = absent(answer, "ReplicationConfigurationNotFoundError")? else {
            return Ok(None);
        };
        let document = String::from_utf8(answer.to_vec());
        document.map(Some).map_err(|_| self.unreadable("a replication configuration"))
    }

    /// Puts a replication configuration in the place of whatever is there.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn put_replication(&self, bucket: &str, document: &str) -> Result<(), AdminError> {
        self.put(bucket, "replication", document).await
    }

    async fn get(&self, bucket: &str, what: &str) -> Result<bytes::Bytes, AdminError> {
        ask(&self.client, Request::new(Method::GET, format!("/{bucket}")).query(what, "")).await
    }

    async fn put(&self, bucket: &str, what: &str, document: &str) -> Result<(), AdminError> {
        let request = Request::new(Method::PUT, format!("/{bucket}"))
            .query(what, "")
            .header("content-type", "application/xml")
            .header("content-md5", md5_of(document))
            .body(Body::full(document.to_owned()));
        ask(&self.client, request).await.map(|_| ())
    }

    fn unreadable(&self, what: &'static str) -> AdminError {
        AdminError::Unreadable { endpoint: self.endpoint().to_owned(), what }
    }
}
