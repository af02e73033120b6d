//! What all daemons of a process share: the configuration with its files, and the connections to Kafka, ZooKeeper and
//! Redis.

use std::sync::Arc;
use std::time::Duration;

use backbeat_backends::clock::WallClock;
use backbeat_backends::coordination::NodePath;
use backbeat_backends::coordination::lasting::Lasting;
use backbeat_backends::coordination::zookeeper::ZooKeeperConfig;
use backbeat_backends::queue::kafka::{KafkaConfig, KafkaQueue, KafkaSecurity, KafkaUser, SaslMechanism};
use backbeat_backends::stats::redis::{RedisAddress, RedisConfig, RedisPlace, RedisStats};

use backbeat_core::id::Topic;
use tokio::task::JoinHandle;

use super::secrets::{beside, no_password, password, tls, tls_files};
use super::{StartError, topics};
use crate::config::{
    BacklogMetrics, Config, Kafka, Locations, Metrics, Redis, Replication, Sasl, Sentinels, ZooKeeper,
    settings,
};
use crate::driver::BACKLOG_PATH_DEFAULT;
use crate::driver::counters::Counters;
use crate::driver::{Clock, Publisher, Topics};
use crate::logging::LogFilter;
use crate::metrics::Registry;

/// The store that daemons coordinate through.
pub(super) type Coordination = Lasting<ZooKeeperConfig>;

/// What all daemons of a process share.
pub(super) struct Services {
    pub(super) config: Config,
    pub(super) replication: Replication,
    pub(super) locations: Locations,
    pub(super) queue: Arc<KafkaQueue>,
    pub(super) publisher: Publisher<KafkaQueue>,
    pub(super) coordination: Arc<Coordination>,
    /// For those who need sessions of their own.
    pub(super) zookeeper: ZooKeeperConfig,
    /// Redis may be away: nothing of the replication waits for it.
    pub(super) stats: Arc<RedisStats>,
    pub(super) topics: Topics,
    /// Where the data mover's requests come.
    pub(super) data_mover_topic: Option<Topic>,
    /// Where counts are published, and what the names of their consumers' groups begin with.
    pub(super) counts: Metrics,
    /// Partitions of the replication topic, and of those that go with it.
    pub(super) partitions: u32,
    /// How far consumers are is written below this node, so often.
    pub(super) backlog: (NodePath, Duration),
    /// How Kafka is reached.
    pub(super) kafka: KafkaConfig,
    pub(super) clock: Clock,
    pub(super) wall: WallClock,
    pub(super) counters: Counters,
    pub(super) metrics: Registry,
    /// Which log lines are written.
    pub(super) log: LogFilter,
}

impl Services {
    /// Connects to everything that the daemons cannot work without, and makes sure of the topics. The task publishes
    /// counts; it ends, once all of them are published, when the services are dropped.
    pub(super) async fn connect(
        config: Config,
        log: LogFilter,
    ) -> Result<(Self, JoinHandle<()>), StartError> {
        let kafka: Kafka = config.section("kafka")?;
        let zookeeper: ZooKeeper = config.section("zookeeper")?;
        let redis: Redis = match config.value("/redis") {
            Some(_) => config.section("redis")?,
            None => Redis::default(),
        };
        let redis = redis_config(&config, &redis)?;
        let locations = locations(&config)?;
        let replication = config.replication();

        let zookeeper = zookeeper_config(&config, zookeeper)?;
        let coordination = Lasting::open(zookeeper.clone()).await?;
        let backlog = backlog(&kafka.backlog_metrics)?;
        let cluster = kafka_config(&config, &kafka)?;
        let queue = Arc::new(KafkaQueue::open(cluster.clone()).await?);
        let topics = settings::topics(&config);
        let counts: Metrics = config.section("metrics")?;
        let data_mover_topic = replication.data_mover_topic.as_deref().filter(|topic| !topic.is_empty());
        let data_mover_topic = data_mover_topic.map(Topic::from);
        let others = data_mover_topic.iter().cloned().chain([Topic::from(counts.topic.as_str())]);
        let others: Vec<Topic> = others.collect();
        let partitions = topics::provide(&*queue, &topics, &others, kafka.partitions).await?;
        let wall = WallClock::system();
        let metrics = Registry::default();
        let publisher = Publisher::new(Arc::clone(&queue), metrics.clone());
        let (counters, counting) =
            Counters::publishing(publisher.clone(), Topic::from(counts.topic.as_str()), wall.clone());
        let services = Self {
            config,
            replication,
            locations,
            publisher,
            queue,
            coordination: Arc::new(coordination),
            zookeeper,
            stats: Arc::new(RedisStats::new(redis)),
            topics,
            data_mover_topic,
            counts,
            partitions,
            backlog,
            kafka: cluster,
            clock: Clock::start(wall.clone()),
            wall,
            counters,
            metrics,
            log,
        };
        Ok((services, counting))
    }
}

/// The locations, none if there is no file of them.
pub(crate) fn locations(config: &Config) -> Result<Locations, StartError> {
    let file = beside(config, "locationConfig.json");
    if !file.exists() {
        tracing::info!(file = %file.display(), "no locations are configured: none is cold, none transient");
        return Ok(Locations::default());
    }
    Ok(Locations::read(&file)?)
}

/// Where and how often backlogs are written.
fn backlog(section: &BacklogMetrics) -> Result<(NodePath, Duration), StartError> {
    let path = section.zk_path.as_deref().unwrap_or(BACKLOG_PATH_DEFAULT);
    let node = NodePath::new(path)
        .map_err(|error| StartError::Configuration(format!("kafka.backlogMetrics.zkPath: {error}")))?;
    let interval = Duration::try_from_secs_f64(section.interval_s.unwrap_or(60.0));
    Ok((node, interval.unwrap_or(Duration::from_mins(1)).max(Duration::from_secs(1))))
}

fn zookeeper_config(root: &Config, zookeeper: ZooKeeper) -> Result<ZooKeeperConfig, StartError> {
    const KEY: &str = "zookeeper.auth";
    let mut config = ZooKeeperConfig::new(zookeeper.connection_string);
    config.makes_namespace = zookeeper.auto_create_namespace;
    if let Some(time) = zookeeper.session_timeout_ms {
        config.session_time = Duration::from_millis(time);
    }
    config.tls = tls(root, "zookeeper.tls", zookeeper.tls.as_ref())?;
    if let Some(auth) = zookeeper.auth {
        let password = password(root, KEY, auth.password.as_deref(), auth.password_file.as_deref())?;
        config.digest = Some((auth.username, password.ok_or_else(|| no_password(KEY))?));
    }
    Ok(config)
}

fn kafka_config(root: &Config, kafka: &Kafka) -> Result<KafkaConfig, StartError> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut config = KafkaConfig::new(kafka.hosts.as_str());
    config.topic_prefix = variable("KAFKA_TOPIC_PREFIX").unwrap_or_default();
    config.replication_factor = kafka.replication_factor;
    config.rack.clone_from(&kafka.site);
    config.security = KafkaSecurity {
        tls: kafka.tls.as_ref().map(|files| tls_files(root, "kafka.tls", files)).transpose()?,
        sasl: kafka.sasl.as_ref().map(|sasl| kafka_user(root, sasl)).transpose()?,
    };
    config.properties.clone_from(&kafka.properties);
    if let Some(contexts) = variable("RDKAFKA_DEBUG_LOGS") {
        config.properties.insert("debug".to_owned(), contexts);
    }
    if let Some(time) = kafka.session_timeout_ms {
        config.session_time_max = Duration::from_millis(time);
    }
    if let Some(bytes) = kafka.max_request_size {
        config.message_bytes_max = bytes;
    }
    Ok(config)
}

fn kafka_user(root: &Config, sasl: &Sasl) -> Result<KafkaUser, StartError> {
    const KEY: &str = "kafka.sasl";
    let mechanism = SaslMechanism::ALL.into_iter().find(|known| known.name() == sasl.mechanism);
    let unknown = || {
        let known = SaslMechanism::ALL.map(SaslMechanism::name).join(", ");
        StartError::Configuration(format!("{KEY}.mechanism: {} is none of {known}", sasl.mechanism))
    };
    let mechanism = mechanism.ok_or_else(unknown)?;
    let password = password(root, KEY, sasl.password.as_deref(), sasl.password_file.as_deref())?;
    let password = password.ok_or_else(|| no_password(KEY))?;
    Ok(KafkaUser { mechanism, name: sasl.username.clone(), password })
}

fn redis_config(root: &Config, redis: &Redis) -> Result<RedisConfig, StartError> {
    let secret = |text: &Option<String>, file: &Option<String>| {
        password(root, "redis", text.as_deref(), file.as_deref())
    };
    let unusable = |server: &str| {
        StartError::Configuration(format!("redis.sentinels: {server:?} is not of the form host:port"))
    };
    let sentinels = match &redis.sentinels {
        None => None,
        Some(Sentinels::List(servers)) => Some(
            servers
                .iter()
                .map(|server| RedisAddress { host: server.host.clone(), port: server.port })
                .collect(),
        ),
        Some(Sentinels::Text(text)) => {
            let address = |server: &str| {
                let (host, port) = server.trim().rsplit_once(':').ok_or_else(|| unusable(server))?;
                let port = port.parse().map_err(|_| unusable(server))?;
                Ok(RedisAddress { host: host.to_owned(), port })
            };
            Some(text.split(',').map(address).collect::<Result<Vec<_>, StartError>>()?)
        }
    };
    let place = match sentinels {
        Some(addresses) => RedisPlace::Sentinels {
            addresses,
            name: redis.name.clone().unwrap_or_else(|| "backbeat".to_owned()),
            password: secret(&redis.sentinel_password, &redis.sentinel_password_file)?,
        },
        None => RedisPlace::Server(RedisAddress {
            host: redis.host.clone().unwrap_or_else(|| "127.0.0.1".to_owned()),
            port: redis.port.unwrap_or(6_379),
        }),
    };
    let mut config = RedisConfig::new(place);
    config.password = secret(&redis.password, &redis.password_file)?;
    config.tls = tls(root, "redis.tls", redis.tls.as_ref())?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Result<RedisPlace, String> {
        let redis = serde_json::from_str(text).expect("a section");
        let root = Config::load(None, []).expect("the defaults are valid");
        redis_config(&root, &redis).map(|config| config.place).map_err(|error| error.to_string())
    }

    #[test]
    fn sentinels_come_as_text_or_as_a_list() {
        let text = place(r#"{"sentinels":"a:1, b:2","name":"main"}"#).expect("usable");
        let list = place(r#"{"sentinels":[{"host":"a","port":1},{"host":"b","port":2}],"name":"main"}"#);
        assert_eq!(text, list.expect("usable"));
        let error = place(r#"{"sentinels":"a"}"#).expect_err("no port");
        assert_eq!(error, "redis.sentinels: \"a\" is not of the form host:port");
    }

    #[test]
    fn without_a_section_redis_is_on_this_machine() {
        let server = RedisAddress { host: "127.0.0.1".to_owned(), port: 6_379 };
        assert_eq!(place("{}"), Ok(RedisPlace::Server(server)));
    }
}
