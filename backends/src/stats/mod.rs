//! The stats port: counters, values and sorted sets that expire, and messages to whoever listens.
//!
//! It holds the statistics of the API, the failed entries that can be retried, and carries pause and resume. Nothing
//! here is the only copy of anything that matters (decision D6). The port promises what Redis promises and nothing more.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod embedded;
pub mod memory;
#[cfg(feature = "redis")]
pub mod redis;
mod table;

use std::future::Future;

use backbeat_core::call::Ending;
use backbeat_core::time::Span;
use bytes::Bytes;
use tokio::sync::broadcast;

/// A member of a sorted set with its score.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scored {
    /// The member, unique in its set.
    pub member: String,
    /// Its score: milliseconds since the Unix epoch in the failed sets.
    pub score: i64,
}

/// Which members of a sorted set: by score (both ends included), then so many from the start on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScoreRange {
    /// The lowest score.
    pub score_min: i64,
    /// The highest score.
    pub score_max: i64,
    /// Highest score first.
    pub descending: bool,
    /// How many to leave out at the start.
    pub skip: usize,
    /// How many to give, at most.
    pub limit: usize,
}

impl ScoreRange {
    /// Every member, lowest score first.
    pub const ALL: Self =
        Self { score_min: i64::MIN, score_max: i64::MAX, descending: false, skip: 0, limit: usize::MAX };
}

/// Messages of one channel since the subscription.
#[derive(Debug)]
pub struct Subscription(Feed);

#[derive(Debug)]
enum Feed {
    Messages(broadcast::Receiver<Bytes>),
    Told(broadcast::Receiver<Heard>),
}

/// What a subscription gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A message.
    Message(Bytes),
    /// So many messages were missed: the subscriber was too slow, or the connection was lost. Read the state anew.
    Missed(u64),
    /// The store is gone.
    Closed,
}

impl Subscription {
    /// A subscription fed by `messages`; for adapters.
    pub fn new(messages: broadcast::Receiver<Bytes>) -> Self {
        Self(Feed::Messages(messages))
    }

    /// A subscription fed by what is to be heard, for adapters whose connections break.
    pub fn told(heard: broadcast::Receiver<Heard>) -> Self {
        Self(Feed::Told(heard))
    }

    /// The next message. Cancel safe.
    pub async fn next(&mut self) -> Heard {
        let heard = match &mut self.0 {
            Feed::Messages(messages) => messages.recv().await.map(Heard::Message),
            Feed::Told(heard) => heard.recv().await,
        };
        match heard {
            Ok(heard) => heard,
            Err(broadcast::error::RecvError::Lagged(count)) => Heard::Missed(count),
            Err(broadcast::error::RecvError::Closed) => Heard::Closed,
        }
    }
}

/// The store.
///
/// A key holds one kind of thing: using it as another is `Refused(Conflict)` with code `WRONGTYPE`. A key past its
/// expiry is as if it had never been. `Refused(Unavailable)`: the store cannot be reached, nothing was done. `Unknown`:
/// a change may or may not have happened, or may not survive a restart; statistics live with either.
pub trait Stats: Send + Sync + 'static {
    /// Adds to a counter, from zero if it does not exist, and gives the sum. `life` sets its expiry anew.
    fn add(&self, key: &str, delta: i64, life: Option<Span>) -> impl Future<Output = Ending<i64>> + Send;

    /// The values of several keys, in order; a counter as decimal text.
    fn values(&self, keys: &[&str]) -> impl Future<Output = Ending<Vec<Option<Bytes>>>> + Send;

    /// Sets a value; without `life` it stays for ever.
    fn set(&self, key: &str, value: Bytes, life: Option<Span>) -> impl Future<Output = Ending<()>> + Send;

    /// Sets a value if there is none, and says whether it did: the lock of the retry API.
    fn set_if_absent(
        &self,
        key: &str,
        value: Bytes,
        life: Option<Span>,
    ) -> impl Future<Output = Ending<bool>> + Send;

    /// Deletes whatever is at `key`, and says whether there was something.
    fn delete(&self, key: &str) -> impl Future<Output = Ending<bool>> + Send;

    /// Puts a member into a sorted set, or moves it to another score. `life` counts only when this makes the set: later
    /// additions do not prolong it (replication reference 6.6).
    fn sorted_add(
        &self,
        key: &str,
        entry: Scored,
        life: Option<Span>,
    ) -> impl Future<Output = Ending<()>> + Send;

    /// Members of a sorted set by score, equal scores by member; nothing if there is no such set.
    fn sorted_range(&self, key: &str, range: ScoreRange) -> impl Future<Output = Ending<Vec<Scored>>> + Send;

    /// The score of a member, if it is in the set.
    fn sorted_score(&self, key: &str, member: &str) -> impl Future<Output = Ending<Option<i64>>> + Send;

    /// How many members a sorted set has.
    fn sorted_count(&self, key: &str) -> impl Future<Output = Ending<u64>> + Send;

    /// Takes a member out, and says whether it was in. The last one takes the set with it.
    fn sorted_remove(&self, key: &str, member: &str) -> impl Future<Output = Ending<bool>> + Send;

    /// Tells those who listen to `channel` now. Nothing is kept for others.
    fn publish(&self, channel: &str, message: Bytes) -> impl Future<Output = Ending<()>> + Send;

    /// Listens to a channel from now on.
    fn subscribe(&self, channel: &str) -> impl Future<Output = Ending<Subscription>> + Send;
}
