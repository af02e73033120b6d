//! Stats in Redis, under the keys that are asked for: what upstream's processes read and write in place.
//!
//! All calls share one connection, on which they do not wait for each other. What changes several things is one script,
//! so that it happens as a whole. A server that cannot be reached is `Unavailable` within the time that dialing may
//! take, and at once for those who ask soon after; nothing is tried again here.

mod link;
mod listening;
mod outcome;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::time::Span;
use bytes::Bytes;
use redis::{Cmd, FromRedisValue, cmd, pipe};

use self::link::Link;
use super::{ScoreRange, Scored, Stats, Subscription};
use crate::credentials::Secret;
use crate::tls::Tls;

/// The largest whole number up to which Redis, whose scores are floating point, tells all apart.
const SCORE_MAX: i64 = 1 << 53;

/// Adds and sets the expiry anew. The sum is read as text: numbers of scripts are floating point.
const ADD: &str = "redis.call('INCRBY', KEYS[1], ARGV[1]) redis.call('PEXPIRE', KEYS[1], ARGV[2]) \
                   return redis.call('GET', KEYS[1])";

/// Puts a member into a set, which gets its expiry when it is made (replication reference 6.6).
const SORTED_ADD: &str = "local is_there = redis.call('EXISTS', KEYS[1]) \
                          redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2]) \
                          if is_there == 0 then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end return 1";

/// Which server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisPlace {
    /// This one.
    Server(RedisAddress),
    /// The one that sentinels name as the master.
    Sentinels {
        /// Where sentinels are; asked in this order.
        addresses: Vec<RedisAddress>,
        /// What they call the master.
        name: String,
        /// The sentinels' own password.
        password: Option<Secret>,
    },
}

/// A host, by name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisAddress {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// How to reach Redis.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// Which server.
    pub place: RedisPlace,
    /// The server's password.
    pub password: Option<Secret>,
    /// Servers and sentinels are spoken to over TLS.
    pub tls: Option<Tls>,
    /// What every key and channel begins with; empty where others are to find them.
    pub prefix: String,
    /// How long finding the server and connecting to it may take.
    pub dial_time_max: Duration,
    /// How long an answer may take.
    pub answer_time_max: Duration,
}

impl RedisConfig {
    /// The server at `place`, without password or prefix.
    pub fn new(place: RedisPlace) -> Self {
        Self {
            place,
            password: None,
            tls: None,
            prefix: String::new(),
            dial_time_max: Duration::from_secs(2),
            answer_time_max: Duration::from_secs(5),
        }
    }
}

/// A stats store in Redis; clones share its connection.
#[derive(Clone, Debug)]
pub struct RedisStats(Arc<Link>);

impl RedisStats {
    /// The store. Nothing is dialed before the first call. Calls are made within a tokio runtime.
    pub fn new(config: RedisConfig) -> Self {
        Self(Arc::new(Link::new(config)))
    }

    fn named(&self, key: &str) -> String {
        format!("{}{key}", self.0.config().prefix)
    }

    /// A command that changes something.
    async fn change<T: FromRedisValue>(&self, command: Cmd) -> Ending<T> {
        let (number, mut connection) = match self.0.connection().await {
            Ok(connected) => connected,
            Err(refusal) => return Ending::Refused(refusal),
        };
        let answer = command.query_async(&mut connection).await;
        self.0.ending(number, answer).await
    }

    /// A command that changes nothing: without an answer, nothing was done.
    async fn look<T: FromRedisValue>(&self, command: Cmd) -> Ending<T> {
        match self.change(command).await {
            Ending::Unknown => Ending::Refused(Refusal::new(RefusalKind::Unavailable, "NoAnswer")),
            ending @ (Ending::Applied(_) | Ending::Refused(_)) => ending,
        }
    }
}

/// Milliseconds to live; Redis knows no life of zero.
fn millis(life: Span) -> u64 {
    life.as_millis().max(1)
}

fn script(text: &str, key: &str) -> Cmd {
    let mut command = cmd("EVAL");
    command.arg(text).arg(1).arg(key);
    command
}

/// One end of a range.
fn bound(score: i64) -> String {
    match score {
        score if score < -SCORE_MAX => "-inf".to_owned(),
        score if score > SCORE_MAX => "+inf".to_owned(),
        score => score.to_string(),
    }
}

/// The score that Redis gives as text. Fractions, which others may have stored, are cut off.
fn score(text: &str) -> i64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "cuts off the fraction, and stops at the largest numbers"
    )]
    let cut = || text.parse::<f64>().unwrap_or_default() as i64;
    text.parse().unwrap_or_else(|_| cut())
}

impl Stats for RedisStats {
    async fn add(&self, key: &str, delta: i64, life: Option<Span>) -> Ending<i64> {
        let key = self.named(key);
        let mut command = match life {
            Some(_) => script(ADD, &key),
            None => cmd("INCRBY"),
        };
        match life {
            Some(life) => command.arg(delta).arg(millis(life)),
            None => command.arg(key).arg(delta),
        };
        self.change(command).await
    }

    async fn values(&self, keys: &[&str]) -> Ending<Vec<Option<Bytes>>> {
        if keys.is_empty() {
            return Ending::Applied(Vec::new());
        }
        let (number, mut connection) = match self.0.connection().await {
            Ok(connected) => connected,
            Err(refusal) => return Ending::Refused(refusal),
        };
        let mut commands = pipe();
        for key in keys {
            commands.cmd("GET").arg(self.named(key));
        }
        let answer = commands.query_async::<Vec<Option<Vec<u8>>>>(&mut connection).await;
        match self.0.ending(number, answer).await {
            Ending::Applied(values) => {
                Ending::Applied(values.into_iter().map(|value| value.map(Bytes::from)).collect())
            }
            Ending::Refused(refusal) => Ending::Refused(refusal),
            Ending::Unknown => Ending::Refused(Refusal::new(RefusalKind::Unavailable, "NoAnswer")),
        }
    }

    async fn set(&self, key: &str, value: Bytes, life: Option<Span>) -> Ending<()> {
        let mut command = cmd("SET");
        command.arg(self.named(key)).arg(value.as_ref());
        if let Some(life) = life {
            command.arg("PX").arg(millis(life));
        }
        self.change(command).await
    }

    async fn set_if_absent(&self, key: &str, value: Bytes, life: Option<Span>) -> Ending<bool> {
        let mut command = cmd("SET");
        command.arg(self.named(key)).arg(value.as_ref()).arg("NX");
        if let Some(life) = life {
            command.arg("PX").arg(millis(life));
        }
        self.change::<Option<String>>(command).await.map(|done| done.is_some())
    }

    async fn delete(&self, key: &str) -> Ending<bool> {
        let mut command = cmd("DEL");
        command.arg(self.named(key));
        self.change::<u64>(command).await.map(|count| count > 0)
    }

    async fn sorted_add(&self, key: &str, entry: Scored, life: Option<Span>) -> Ending<()> {
        if !(-SCORE_MAX..=SCORE_MAX).contains(&entry.score) {
            return Ending::Refused(Refusal::new(RefusalKind::Invalid, "ScoreOutOfRange"));
        }
        let key = self.named(key);
        let mut command = match life {
            Some(_) => script(SORTED_ADD, &key),
            None => cmd("ZADD"),
        };
        match life {
            Some(life) => command.arg(entry.score).arg(entry.member).arg(millis(life)),
            None => command.arg(key).arg(entry.score).arg(entry.member),
        };
        self.change::<i64>(command).await.map(|_| ())
    }

    async fn sorted_range(&self, key: &str, range: ScoreRange) -> Ending<Vec<Scored>> {
        let (lowest, highest) = (bound(range.score_min), bound(range.score_max));
        let mut command = if range.descending { cmd("ZREVRANGEBYSCORE") } else { cmd("ZRANGEBYSCORE") };
        command.arg(self.named(key));
        if range.descending {
            command.arg(highest).arg(lowest);
        } else {
            command.arg(lowest).arg(highest);
        }
        // All that are left, for Redis.
        let limit = i64::try_from(range.limit).unwrap_or(-1);
        command.arg("WITHSCORES").arg("LIMIT").arg(range.skip).arg(limit);
        let scored = |(member, text): (String, String)| Scored { member, score: score(&text) };
        self.look::<Vec<(String, String)>>(command).await.map(|all| all.into_iter().map(scored).collect())
    }

    async fn sorted_score(&self, key: &str, member: &str) -> Ending<Option<i64>> {
        let mut command = cmd("ZSCORE");
        command.arg(self.named(key)).arg(member);
        self.look::<Option<String>>(command).await.map(|text| text.map(|text| score(&text)))
    }

    async fn sorted_count(&self, key: &str) -> Ending<u64> {
        let mut command = cmd("ZCARD");
        command.arg(self.named(key));
        self.look(command).await
    }

    async fn sorted_remove(&self, key: &str, member: &str) -> Ending<bool> {
        let mut command = cmd("ZREM");
        command.arg(self.named(key)).arg(member);
        self.change::<u64>(command).await.map(|count| count > 0)
    }

    async fn publish(&self, channel: &str, message: Bytes) -> Ending<()> {
        let mut command = cmd("PUBLISH");
        command.arg(self.named(channel)).arg(message.as_ref());
        self.change::<u64>(command).await.map(|_| ())
    }

    async fn subscribe(&self, channel: &str) -> Ending<Subscription> {
        match listening::listen(Arc::clone(&self.0), self.named(channel)).await {
            Ok(subscription) => Ending::Applied(subscription),
            Err(refusal) => Ending::Refused(refusal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_read_and_bounded_as_redis_writes_them() {
        assert_eq!(score("1727786096789"), 1_727_786_096_789);
        assert_eq!(score("-3"), -3);
        assert_eq!(score("2.75"), 2);
        assert_eq!(score("1e+17"), 100_000_000_000_000_000);
        assert_eq!(score("inf"), i64::MAX);
        assert_eq!(bound(i64::MIN), "-inf");
        assert_eq!(bound(i64::MAX), "+inf");
        assert_eq!(bound(1_727_786_096_789), "1727786096789");
    }

    #[test]
    fn passwords_are_not_shown() {
        let address = RedisAddress { host: "redis.example".to_owned(), port: 6379 };
        let sentinels = RedisPlace::Sentinels {
            addresses: vec![address],
            name: "backbeat".to_owned(),
            password: Some(Secret::new("one-of-two")),
        };
        let mut config = RedisConfig::new(sentinels);
        config.password = Some(Secret::new("two-of-two"));
        let shown = format!("{config:?} {:?}", RedisStats::new(config.clone()));
        assert!(shown.contains("redis.example"), "{shown}");
        assert!(!shown.contains("of-two"), "{shown}");
    }
}
