//! The suite against the S3 of an embedded site, and what other servers say.

use backbeat_core::id::Bucket;

use super::conformance::S3Harness;
use super::*;
use crate::credentials::account::StaticCredentials;
use crate::objects::Versioning;
use crate::objects::tests::{Served, keys, limits};

/// The S3 of an embedded site, which gives what is written over it ids of its own.
struct Embedded {
    served: Served,
    site: S3Site<StaticCredentials>,
}

impl Embedded {
    async fn start() -> Self {
        let served = Served::in_process().await;
        let credentials = Arc::new(StaticCredentials::new(keys()));
        let site = S3Site::over(vec![served.client.clone()], credentials, limits(), S3Settings::default());
        Self { served, site }
    }
}

impl S3Harness for Embedded {
    type Credentials = StaticCredentials;

    fn site(&self) -> &S3Site<StaticCredentials> {
        &self.site
    }

    fn client(&self) -> &SignedClient {
        &self.served.client
    }

    fn bucket(&self) -> Bucket {
        "conformance-bucket".into()
    }

    async fn create_bucket(&self, versioning: Versioning) {
        self.served.create_bucket("conformance-bucket", versioning).await;
    }

    fn is_conditional(&self) -> bool {
        true
    }
}

crate::s3_conformance!(conformance_cases, embedded_site, Embedded::start().await);
