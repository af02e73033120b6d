//! Listing, deciding, writing.

use std::time::Duration;

use backbeat_backends::credentials::CredentialSource;
use backbeat_backends::objects::ObjectSite as _;
use backbeat_backends::objects::cloudserver::CloudServer;
use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::id::ObjectKey;
use backbeat_core::model::{
    ObjectMd, ObjectRef, ResyncDecision, Standing, StoredReplication, VersionRef, origin_op,
};
use backbeat_core::request::Condition;
use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use super::walk::{Key, Walk};
use super::{Job, Place, ResyncError, Seen, Tally, Trouble};
use crate::patience::Patience;
use crate::timestamp;

/// How often it is noted, and told, how far the work is.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);

/// Replicates existing versions once more.
#[derive(Debug)]
pub struct Work<'a, C> {
    /// What is to be done.
    pub job: &'a Job,
    /// Where.
    pub source: &'a CloudServer<C>,
    /// For how long whatever may work later is tried again.
    pub patience: Patience,
    /// Where it is noted how far the work is.
    pub place: Option<&'a Place>,
    /// What no other run is called.
    pub run: String,
    /// Versions in one page of a list.
    pub page_max: u32,
}

impl<C: CredentialSource> Work<'_, C> {
    /// Does all of it, from where it was if it was begun before. `progress` hears now and then how far it is: the last key that is
    /// done, and what was found.
    ///
    /// # Errors
    /// [`ResyncError`]: what was done until then stays done.
    pub async fn run(&self, mut progress: impl FnMut(&str, &Tally)) -> Result<Tally, ResyncError> {
        let begun = self.place.map(Place::read).transpose().map_err(place_failed)?.flatten();
        let (mut last, mut tally) = match begun {
            Some((key, tally)) => (Some(key), tally),
            None => (None, Tally::default()),
        };
        let rules = self.rules().await?;
        let keys = stream::try_unfold(Walk::behind(last.clone()), |walk| self.next_key(walk));
        let done = keys.map(|key| async {
            let (key, versions) = key?;
            let tally = self.replicate(&key, &versions, &rules).await?;
            Ok::<_, ResyncError>((key, tally))
        });
        // In order: what comes before a key that is done is done, too.
        let mut done = std::pin::pin!(done.buffered(self.job.concurrency.max(1)));
        let mut noted = Instant::now();
        let mut ended = Ok(());
        while let Some(one) = done.next().await {
            match one {
                Ok((key, of_key)) => {
                    tally.merge(of_key);
                    last = Some(key.as_str().to_owned());
                }
                Err(error) => {
                    ended = Err(error);
                    break;
                }
            }
            if noted.elapsed() >= NOTE_INTERVAL {
                noted = Instant::now();
                self.note(last.as_deref(), &tally)?;
                progress(last.as_deref().unwrap_or_default(), &tally);
            }
        }
        match ended {
            Ok(()) => {
                self.place.map_or(Ok(()), Place::remove).map_err(place_failed)?;
                Ok(tally)
            }
            Err(error) => {
                if let Err(error) = self.note(last.as_deref(), &tally) {
                    tracing::error!(%error, "how far the work is was not kept");
                }
                Err(error)
            }
        }
    }

    fn note(&self, last: Option<&str>, tally: &Tally) -> Result<(), ResyncError> {
        match (self.place, last) {
            (Some(place), Some(key)) => place.write(key, tally).map_err(place_failed),
            (None, _) | (_, None) => Ok(()),
        }
    }

    /// Asks until there is an answer, or for as long as patience lasts.
    async fn ask<T>(&self, doing: &str, mut attempt: impl AsyncFnMut() -> Ending<T>) -> Result<T, Trouble> {
        self.patience.with(doing, async || applied(attempt().await)).await
    }

    async fn rules(&self) -> Result<StoredReplication, ResyncError> {
        let bucket = &self.job.bucket;
        let doing = format!("reading the replication configuration of {bucket}");
        let found = self.ask(&doing, async || self.source.replication(bucket).await).await;
        let found = found.and_then(|rules| rules.ok_or(Trouble::NoRules)).and_then(|rules| {
            if self.job.resync.lacks_default(&rules) { Err(Trouble::NoDefault) } else { Ok(rules) }
        });
        found.map_err(|trouble| ResyncError { doing, trouble })
    }

    async fn next_key(&self, mut walk: Walk) -> Result<Option<(Key, Walk)>, ResyncError> {
        loop {
            if let Some(key) = walk.next() {
                return Ok(Some((key, walk)));
            }
            if walk.is_over() {
                return Ok(None);
            }
            let marker = walk.marker();
            let (Job { bucket, prefix, .. }, source) = (self.job, self.source);
            let doing = match marker {
                Some(marker) => format!("listing the versions of {bucket} behind {:?}", marker.key),
                None => format!("listing the versions of {bucket}"),
            };
            let asked = async || source.versions(bucket, prefix, marker, self.page_max).await;
            let page = self.ask(&doing, asked).await.and_then(|page| {
                if page.next.is_some() && page.next.as_ref() == marker {
                    let told = "the list of versions does not go on";
                    return Err(Trouble::Refused(Refusal::new(RefusalKind::Invalid, told)));
                }
                Ok(page)
            });
            walk.take(page.map_err(|trouble| ResyncError { doing, trouble })?);
        }
    }

    /// One version of a key after the other.
    async fn replicate(
        &self,
        key: &ObjectKey,
        versions: &[VersionRef],
        rules: &StoredReplication,
    ) -> Result<Tally, ResyncError> {
        let mut tally = Tally::default();
        for version in versions {
            let object = ObjectRef::new(self.job.bucket.clone(), key.clone(), version.clone());
            tally.note(&self.replicate_version(&object, rules).await?);
        }
        Ok(tally)
    }

    async fn replicate_version(
        &self,
        object: &ObjectRef,
        rules: &StoredReplication,
    ) -> Result<Seen, ResyncError> {
        let doing = format!("queueing {object}");
        let mut meant = None;
        let attempt = async || self.attempt(object, rules, &mut meant).await;
        match self.patience.with(&doing, attempt).await {
            Ok(seen) => Ok(seen),
            Err(trouble) if trouble.is_of_one_version() => {
                tracing::warn!(%object, %trouble, "this version is left out");
                Ok(Seen::Failed)
            }
            Err(trouble) => Err(ResyncError { doing, trouble }),
        }
    }

    /// Reads and writes once. What failed to be written is read again before it is written again: it may have changed, or be written.
    async fn attempt(
        &self,
        object: &ObjectRef,
        rules: &StoredReplication,
        meant: &mut Option<Standing>,
    ) -> Result<Seen, Trouble> {
        let md = match applied(self.source.read_metadata(object).await) {
            Ok(md) => md,
            Err(trouble) if trouble.is(RefusalKind::NotFound) => return Ok(Seen::Gone),
            Err(trouble) => return Err(trouble),
        };
        let (bytes, origin_op) = (md.content_length(), format!("{}{}", origin_op::RESYNCED, self.run));
        if let Some(standing) = meant.filter(|_| md.origin_op() == origin_op) {
            return Ok(Seen::Queued(standing, bytes));
        }
        if self.is_too_late(&md) {
            return Ok(Seen::Later);
        }
        let (standing, info) = match self.job.resync.decide(object.key.as_str(), &md, rules) {
            ResyncDecision::Queue(standing, info) => (standing, info),
            ResyncDecision::Leave(standing) => return Ok(Seen::Left(standing, bytes)),
            ResyncDecision::Replica => return Ok(Seen::Replica),
            ResyncDecision::Cold => return Ok(Seen::Cold),
            ResyncDecision::NoRule => return Ok(Seen::NoRule),
        };
        if self.job.is_dry {
            return Ok(Seen::Queued(standing, bytes));
        }
        *meant = Some(standing);
        let condition = Condition::tag(md.state_tag());
        let pending = md.with_replication_by(info, &origin_op);
        // Data that moved meanwhile stays where it is, and what was deleted meanwhile does not come back.
        match applied(self.source.write_metadata(object, &pending, Some(&condition), true).await) {
            Ok(()) => Ok(Seen::Queued(standing, bytes)),
            Err(trouble) if trouble.is(RefusalKind::Conflict) || trouble.is(RefusalKind::NotFound) => {
                Err(Trouble::Changed)
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// A version that does not say when it was modified is not taken for a late one.
    fn is_too_late(&self, md: &ObjectMd) -> bool {
        let modified = timestamp::parse_any(md.last_modified());
        self.job.before.zip(modified).is_some_and(|(before, modified)| modified >= before)
    }
}

fn applied<T>(ending: Ending<T>) -> Result<T, Trouble> {
    match ending {
        Ending::Applied(answer) => Ok(answer),
        Ending::Refused(refusal) => Err(Trouble::Refused(refusal)),
        Ending::Unknown => Err(Trouble::NoAnswer),
    }
}

fn place_failed(error: super::PlaceError) -> ResyncError {
    ResyncError { doing: "keeping how far the work is".to_owned(), trouble: error.into() }
}
