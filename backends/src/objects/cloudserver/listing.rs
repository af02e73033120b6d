//! What a source holds: the versions of a bucket, and its replication configuration as it stands there.

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::id::{Bucket, ObjectKey};
use backbeat_core::model::{StoredReplication, VersionId, VersionRef};
use http::Method;

use super::super::answer::unreadable;
use super::super::s3::listing::{self, Versions};
use super::CloudServer;
use crate::credentials::CredentialSource;
use crate::http::Request;

/// A page of the versions of a bucket, by key, and of each key the newest first. Delete markers are among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionPage {
    /// The versions.
    pub versions: Vec<(ObjectKey, VersionRef)>,
    /// Where the next page begins; none if this is the last one.
    pub next: Option<VersionMarker>,
}

/// A place in the list of versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionMarker {
    /// What comes next is behind this key, or among its versions.
    pub key: String,
    /// The version of it that comes before what is next; empty if all of them do.
    pub version: String,
}

impl<C: CredentialSource> CloudServer<C> {
    /// The versions of keys that begin with `prefix`, behind `after`. `page_max` of them at most, by which the server may bound
    /// itself further.
    pub async fn versions(
        &self,
        bucket: &Bucket,
        prefix: &str,
        after: Option<&VersionMarker>,
        page_max: u32,
    ) -> Ending<VersionPage> {
        let mut request = Request::new(Method::GET, format!("/{bucket}"))
            .query("versions", "")
            .query("prefix", prefix)
            // XML cannot hold all that keys can.
            .query("encoding-type", "url")
            .query("max-keys", page_max.to_string());
        if let Some(marker) = after {
            request = request.query("key-marker", &*marker.key);
            if !marker.version.is_empty() {
                request = request.query("version-id-marker", &*marker.version);
            }
        }
        self.call(request, |answer| {
            listing::versions(answer.body(), true)
                .map_or_else(|| unreadable("the list of versions is not understood"), page)
        })
        .await
    }

    /// The replication configuration of a bucket; none if it has none.
    pub async fn replication(&self, bucket: &Bucket) -> Ending<Option<StoredReplication>> {
        let request = Request::new(Method::GET, format!("/{bucket}")).query("replication", "");
        let ending = self.call(request, |answer| {
            let document = std::str::from_utf8(answer.body()).ok();
            document
                .and_then(StoredReplication::read)
                .map_or_else(|| unreadable("replication configuration"), |found| Ending::Applied(Some(found)))
        });
        match ending.await {
            Ending::Refused(refusal) if refusal.code == "ReplicationConfigurationNotFoundError" => {
                Ending::Applied(None)
            }
            ending @ (Ending::Applied(_) | Ending::Refused(_) | Ending::Unknown) => ending,
        }
    }
}

fn page(listed: Versions) -> Ending<VersionPage> {
    let mut versions = Vec::with_capacity(listed.listed.len());
    for one in listed.listed {
        let version = match one.id.as_str() {
            "" | "null" => VersionRef::Null,
            id => match VersionId::decode(id) {
                Ok(id) => VersionRef::Version(id),
                Err(error) => {
                    let told = format!("the version id {id} of {}: {error}", one.key);
                    return Ending::Refused(Refusal::new(RefusalKind::Invalid, told));
                }
            },
        };
        versions.push((ObjectKey::from(one.key), version));
    }
    let next = listed.next.map(|(key, version)| VersionMarker { key, version });
    if listed.is_truncated && next.is_none() {
        return unreadable("the list of versions goes on, and does not say where");
    }
    Ending::Applied(VersionPage { versions, next })
}
