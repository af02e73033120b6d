//! What is known about buckets for a short while, so that not every copy asks again (hazard BH9).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::call::Ending;
use crate::id::Bucket;
use crate::request::{BucketRules, SiteReply, SiteRequest};
use crate::time::{Instant, Span};

/// Buckets remembered at most; the one learnt first is forgotten first.
const BUCKETS_MAX: usize = 1_024;

#[derive(Debug)]
struct Known<T> {
    by_bucket: BTreeMap<Bucket, (Instant, T)>,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self { by_bucket: BTreeMap::new() }
    }
}

impl<T> Known<T> {
    fn learn(&mut self, now: Instant, bucket: Bucket, fact: T) {
        self.by_bucket.insert(bucket, (now, fact));
        if self.by_bucket.len() > BUCKETS_MAX {
            let oldest =
                self.by_bucket.iter().min_by_key(|(_, (since, _))| *since).map(|(bucket, _)| bucket.clone());
            if let Some(oldest) = oldest {
                self.by_bucket.remove(&oldest);
            }
        }
    }

    fn recall(&self, now: Instant, ttl: Span, bucket: &Bucket) -> Option<&T> {
        let (since, fact) = self.by_bucket.get(bucket)?;
        (now.since(*since) < ttl).then_some(fact)
    }
}

/// Facts about source and target buckets. Only good news is remembered: a bucket that lacks something is asked each time,
/// so that it works as soon as it is mended.
#[derive(Debug, Default)]
pub(super) struct Facts {
    rules: Known<Arc<BucketRules>>,
    ready_targets: Known<()>,
}

impl Facts {
    /// The answer to `request` from memory, if it is known and not older than `ttl`.
    pub(super) fn answer(&self, now: Instant, ttl: Span, request: &SiteRequest) -> Option<SiteReply> {
        match request {
            SiteRequest::ReadRules { bucket } => {
                let rules = self.rules.recall(now, ttl, bucket)?;
                Some(SiteReply::Rules(Ending::Applied(rules.clone())))
            }
            SiteRequest::CheckBucket { bucket } => {
                self.ready_targets.recall(now, ttl, bucket)?;
                Some(SiteReply::Bucket(Ending::Applied(())))
            }
            SiteRequest::ReadMetadata { .. }
            | SiteRequest::WriteMetadata { .. }
            | SiteRequest::MovePart(_)
            | SiteRequest::DeleteData { .. }
            | SiteRequest::Minting(_) => None,
        }
    }

    /// Remembers the replication configuration of a source bucket.
    pub(super) fn learn_rules(&mut self, now: Instant, bucket: Bucket, rules: Arc<BucketRules>) {
        self.rules.learn(now, bucket, rules);
    }

    /// Remembers that a target bucket exists and keeps versions.
    pub(super) fn learn_target(&mut self, now: Instant, bucket: Bucket) {
        self.ready_targets.learn(now, bucket, ());
    }
}
