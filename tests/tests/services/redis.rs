//! Stats in Redis.

use anyhow::{Context as _, Result, ensure};
use backbeat_backends::conformance::{applied, refused, run};
use backbeat_backends::credentials::Secret;
use backbeat_backends::stats::conformance::StatsHarness;
use backbeat_backends::stats::redis::{RedisAddress, RedisConfig, RedisPlace, RedisStats};
use backbeat_backends::stats::{Heard, ScoreRange, Scored, Stats as _};
use backbeat_backends::stats_conformance;
use backbeat_core::call::{Ending, RefusalKind};
use backbeat_core::time::Span;
use backbeat_tests::services::{OwnRedis, Services, redis_program, unique};
use backbeat_tests::suite::Test;
use bytes::Bytes;
use std::time::Duration;

/// A Redis that does not answer for so long is none, on the slowest machine.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) fn tests(services: &Services) -> Vec<Test> {
    let address = services.address("REDIS");
    let place = address.clone().unwrap_or_default();
    let make = || {
        let place = place.clone();
        move || Shared::at(place)
    };
    let cases = stats_conformance!(conformance_list, redis, make());
    let mut tests = crate::conformance(cases, &address);
    let own = redis_program();
    for (name, test) in [
        ("redis::one_that_is_down_is_unavailable_and_back_when_it_is", down_and_back as fn() -> Result<()>),
        ("redis::a_password_is_needed_and_never_shown", password),
        ("redis::the_master_is_the_one_that_sentinels_name", sentinel),
        ("redis::values_and_sets_are_where_others_look_for_them", wire),
    ] {
        tests.push(Test::new(name, own.clone(), test));
    }
    tests
}

fn config(address: &str) -> RedisConfig {
    let (host, port) = address.rsplit_once(':').expect("an address is host:port");
    let port = port.parse().expect("a port is a number");
    let mut config = RedisConfig::new(RedisPlace::Server(RedisAddress { host: host.to_owned(), port }));
    config.dial_time_max = PATIENCE;
    config.answer_time_max = PATIENCE;
    config
}

pub(crate) fn config_of(server: &OwnRedis) -> RedisConfig {
    config(&format!("127.0.0.1:{}", server.port()))
}

/// A connection that nothing of ours is in the way of.
pub(crate) async fn direct(address: &str) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(format!("redis://{address}")).expect("the address is one");
    let settings = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    client.get_multiplexed_async_connection_with_config(&settings).await.expect("the server is there")
}

/// Keys of its own on the shared server.
struct Shared {
    stats: RedisStats,
    prefix: String,
    direct: redis::aio::MultiplexedConnection,
}

impl Shared {
    async fn at(address: String) -> Self {
        let prefix = format!("{}:", unique());
        let mut config = config(&address);
        config.prefix.clone_from(&prefix);
        Self { stats: RedisStats::new(config), prefix, direct: direct(&address).await }
    }
}

impl StatsHarness for Shared {
    type Stats = RedisStats;

    fn stats(&self) -> &RedisStats {
        &self.stats
    }

    /// Nobody waits: what the server keeps as the rest of each life becomes so much less.
    async fn pass(&self, span: Span) {
        const SHORTEN: &str = "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do \
                               local left = redis.call('PTTL', key) \
                               if left >= 0 then redis.call('PEXPIRE', key, left - ARGV[2]) end end return 1";
        let mut shorten = redis::cmd("EVAL");
        shorten.arg(SHORTEN).arg(0).arg(format!("{}*", self.prefix)).arg(span.as_millis());
        shorten.query_async::<i64>(&mut self.direct.clone()).await.expect("the server is there");
    }
}

/// Asks again until it is applied.
async fn back(stats: &RedisStats) -> i64 {
    loop {
        match stats.add("count", 1, None).await {
            Ending::Applied(sum) => return sum,
            Ending::Refused(refusal) => {
                assert!(refusal.kind.is_transient(), "{refusal:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ending::Unknown => {}
        }
    }
}

fn down_and_back() -> Result<()> {
    let mut server = OwnRedis::start(&[])?;
    let stats = RedisStats::new(config_of(&server));
    run(async {
        assert_eq!(applied(stats.add("count", 5, None).await), 5);
        let mut listener = applied(stats.subscribe("channel").await);
        server.kill().expect("it is killed");
        // The connection in hand may still look good: then nobody knows.
        match stats.add("count", 1, None).await {
            Ending::Unknown => {}
            Ending::Refused(refusal) => assert_eq!(refusal.kind, RefusalKind::Unavailable),
            Ending::Applied(sum) => panic!("a dead server counted to {sum}"),
        }
        assert_eq!(refused(stats.add("count", 1, None).await), RefusalKind::Unavailable);
        assert_eq!(refused(stats.values(&["count"]).await), RefusalKind::Unavailable);
        assert_eq!(refused(stats.subscribe("channel").await), RefusalKind::Unavailable);
        server.resume().expect("it starts again");
        assert_eq!(back(&stats).await, 1, "this server keeps nothing");
        // The listener is back by itself, and is told.
        assert_eq!(listener.next().await, Heard::Missed(1));
        applied(stats.publish("channel", Bytes::from_static(b"again")).await);
        assert_eq!(listener.next().await, Heard::Message(Bytes::from_static(b"again")));
    });
    Ok(())
}

fn password() -> Result<()> {
    let server = OwnRedis::start(&["requirepass open-sesame"])?;
    let with = |password: Option<&str>| {
        let mut config = config_of(&server);
        config.password = password.map(Secret::new);
        RedisStats::new(config)
    };
    run(async {
        assert_eq!(applied(with(Some("open-sesame")).add("count", 1, None).await), 1);
        for wrong in [None, Some("shut-sesame")] {
            match with(wrong).add("count", 1, None).await {
                Ending::Refused(refusal) => {
                    assert_eq!(refusal.kind, RefusalKind::Denied);
                    assert!(!refusal.code.contains("sesame"), "{}", refusal.code);
                }
                Ending::Applied(_) | Ending::Unknown => panic!("{wrong:?} is not refused"),
            }
        }
    });
    Ok(())
}

fn sentinel() -> Result<()> {
    let master = OwnRedis::start(&["requirepass open-sesame"])?;
    let monitor = format!("sentinel monitor backbeat 127.0.0.1 {} 1", master.port());
    let sentinel = OwnRedis::start_sentinel(&[
        &monitor,
        "sentinel auth-pass backbeat open-sesame",
        "requirepass watchman",
    ])?;
    let nobody = OwnRedis::start(&[]).and_then(|mut gone| gone.kill().map(|()| gone))?;
    let address = |server: &OwnRedis| RedisAddress { host: "127.0.0.1".to_owned(), port: server.port() };
    let at = |name: &str, password: &str| {
        let mut config = config_of(&master);
        config.place = RedisPlace::Sentinels {
            addresses: vec![address(&nobody), address(&sentinel)],
            name: name.to_owned(),
            password: Some(Secret::new(password)),
        };
        config.password = Some(Secret::new("open-sesame"));
        RedisStats::new(config)
    };
    run(async {
        let stats = at("backbeat", "watchman");
        assert_eq!(applied(stats.add("count", 1, None).await), 1);
        let mut listener = applied(stats.subscribe("channel").await);
        applied(stats.publish("channel", Bytes::from_static(b"heard")).await);
        assert_eq!(listener.next().await, Heard::Message(Bytes::from_static(b"heard")));
        assert_eq!(refused(at("other", "watchman").add("count", 1, None).await), RefusalKind::Unavailable);
        assert_eq!(refused(at("backbeat", "thief").add("count", 1, None).await), RefusalKind::Denied);
    });
    Ok(())
}

/// What upstream's processes would find: kinds, keys, expiries.
fn wire() -> Result<()> {
    let server = OwnRedis::start(&[])?;
    let stats = RedisStats::new(config_of(&server));
    run(async {
        let check = async {
            let day = Some(Span::from_secs(86_400));
            applied(stats.add("paris:bb:crr:ops:requests:1727784000000", 3, day).await);
            applied(stats.add("paris:bb:crr:opspending", -1, None).await);
            let member = Scored { member: "b:k:v".to_owned(), score: 1_727_786_096_789 };
            applied(stats.sorted_add("bb:crr:failed:paris:1727784000000", member.clone(), day).await);
            let client = redis::Client::open(format!("redis://127.0.0.1:{}", server.port()))?;
            let settings = redis::AsyncConnectionConfig::new()
                .set_connection_timeout(Some(PATIENCE))
                .set_response_timeout(Some(PATIENCE));
            let mut direct = client.get_multiplexed_async_connection_with_config(&settings).await?;
            let (count, life, pending, forever, score, set_life): (String, i64, String, i64, String, i64) =
                redis::pipe()
                    .cmd("GET")
                    .arg("paris:bb:crr:ops:requests:1727784000000")
                    .cmd("TTL")
                    .arg("paris:bb:crr:ops:requests:1727784000000")
                    .cmd("GET")
                    .arg("paris:bb:crr:opspending")
                    .cmd("TTL")
                    .arg("paris:bb:crr:opspending")
                    .cmd("ZSCORE")
                    .arg("bb:crr:failed:paris:1727784000000")
                    .arg("b:k:v")
                    .cmd("TTL")
                    .arg("bb:crr:failed:paris:1727784000000")
                    .query_async(&mut direct)
                    .await?;
            ensure!((count.as_str(), pending.as_str(), forever) == ("3", "-1", -1));
            ensure!(score == "1727786096789" && (80_000..=86_400).contains(&life), "{score} {life}");
            ensure!((80_000..=86_400).contains(&set_life), "{set_life}");
            // A set that upstream made: fractions are cut off, and one kind of thing stays one.
            redis::cmd("ZADD").arg("theirs").arg("7.5").arg("b:k:").query_async::<i64>(&mut direct).await?;
            let theirs = applied(stats.sorted_range("theirs", ScoreRange::ALL).await);
            ensure!(theirs == [Scored { member: "b:k:".to_owned(), score: 7 }], "{theirs:?}");
            ensure!(refused(stats.add("theirs", 1, day).await) == RefusalKind::Conflict);
            ensure!(refused(stats.values(&["theirs"]).await) == RefusalKind::Conflict);
            let untouched: i64 = redis::cmd("TTL").arg("theirs").query_async(&mut direct).await?;
            ensure!(untouched == -1, "a refused addition changed the expiry");
            anyhow::Ok(())
        };
        check.await.context("what others find in Redis").expect("it is where they look");
    });
    Ok(())
}
