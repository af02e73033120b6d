//! Carries the plan out: keys in parallel, the actions of one key in order.

use super::content::Content;
use super::progress::Progress;
use super::site::Site;
use super::workload::{Action, ObjectPlan, Tags};
use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt, stream};

/// Keys written at the same time.
const WRITES_MAX: usize = 8;

/// A version as it should be now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// The key.
    pub(super) key: String,
    /// The id that the source gave it.
    pub(super) version: String,
    /// The bytes; nothing for a delete marker.
    pub(super) content: Option<Content>,
    /// The tags put last.
    pub(super) tags: Tags,
}

/// Writes everything; tells what is there now.
pub(super) async fn write(
    source: &Site,
    bucket: &str,
    plan: &[ObjectPlan],
    progress: &Progress,
) -> Result<Vec<Written>> {
    let written: Vec<Vec<Written>> = stream::iter(plan)
        .map(|object| write_object(source, bucket, object, progress))
        .buffered(WRITES_MAX)
        .try_collect()
        .await?;
    Ok(written.into_iter().flatten().collect())
}

async fn write_object(
    source: &Site,
    bucket: &str,
    object: &ObjectPlan,
    progress: &Progress,
) -> Result<Vec<Written>> {
    let key = object.key.as_str();
    let mut written: Vec<Written> = Vec::new();
    for action in &object.actions {
        let last = written.last_mut();
        match action {
            Action::Put { content, part_bytes, headers, tags } => {
                let version = match part_bytes {
                    Some(part) => source.put_parts(bucket, key, *content, *part, headers, tags).await?,
                    None => source.put(bucket, key, *content, headers, tags).await?,
                };
                progress.wrote(key, &version, content.bytes());
                let (key, content, tags) = (key.to_owned(), Some(*content), tags.clone());
                written.push(Written { key, version, content, tags });
            }
            Action::PutTags(tags) => {
                let last = last.context("the plan tags a key before it writes it")?;
                source.put_tags(bucket, key, &last.version, tags).await?;
                progress.changed(key, &last.version);
                last.tags.clone_from(tags);
            }
            Action::DeleteTags => {
                let last = last.context("the plan takes tags from a key before it writes it")?;
                source.delete_tags(bucket, key, &last.version).await?;
                progress.changed(key, &last.version);
                last.tags.clear();
            }
            Action::Delete => {
                let version = source.delete(bucket, key).await?;
                progress.wrote(key, &version, 0);
                written.push(Written { key: key.to_owned(), version, content: None, tags: Tags::new() });
            }
        }
    }
    Ok(written)
}
