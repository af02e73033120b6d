//! The keys that a configuration may have (replication reference section 11), and what their values must be.
//!
//! Sections of extensions that this version does not run yet are known by name and passed over.

/// What a value must be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Anything: a section that is not looked into.
    Any,
    /// Text that is not empty.
    Text,
    /// Text that may be empty.
    OptionalText,
    /// Text of exactly so many characters.
    TextOf(usize),
    /// One of these words.
    Word(&'static [&'static str]),
    /// True or false.
    Flag,
    /// A whole number within these bounds.
    Whole(u64, u64),
    /// A number of at least this.
    Number(f64),
    /// An object with these members.
    Section(&'static [Key]),
    /// A list of these.
    List(&'static Kind),
    /// Either of two.
    Either(&'static Kind, &'static Kind),
}

/// A key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// Its name.
    pub(super) name: &'static str,
    /// What its value must be.
    pub(super) kind: Kind,
    /// Whether the daemons that talk to real services need it.
    pub(super) needed: bool,
}

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, needed: false }
}

const fn needed(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, needed: true }
}

const PORT: Kind = Kind::Whole(1, 65_535);
const PORT_OR_ANY: Kind = Kind::Whole(0, 65_535);
const COUNT: Kind = Kind::Whole(1, 1_000_000);
const SESSION_TIME: Kind = Kind::Whole(1_000, 1_800_000);
const TRANSPORT: Kind = Kind::Word(&["http", "https"]);
const HOST_AND_PORT: &[Key] = &[needed("host", Kind::Text), needed("port", PORT)];
const PROBE_ONE: Kind =
    Kind::Section(&[key("bindAddress", Kind::Text), needed("port", PORT_OR_ANY), key("site", Kind::Text)]);
const PROBE: Kind = Kind::Either(&PROBE_ONE, &Kind::List(&PROBE_ONE));
const CERTIFICATES: Kind = Kind::Section(&[
    key("key", Kind::OptionalText),
    key("cert", Kind::OptionalText),
    key("ca", Kind::OptionalText),
]);
const LOGIN: Kind = Kind::Section(&[
    needed("username", Kind::Text),
    key("password", Kind::OptionalText),
    key("passwordFile", Kind::Text),
]);
const SASL: Kind = Kind::Section(&[
    needed("mechanism", Kind::Word(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])),
    needed("username", Kind::Text),
    key("password", Kind::OptionalText),
    key("passwordFile", Kind::Text),
]);
const CHANGE_STREAM: Kind = Kind::Section(&[
    key("topic", Kind::Text),
    key("consumerGroupId", Kind::Text),
    key("logName", Kind::Text),
]);
const RETRY: Kind = Kind::Section(&[
    key("maxRetries", Kind::Whole(0, 4_294_967_295)),
    key("timeoutS", Kind::Number(0.0)),
    key(
        "backoff",
        Kind::Section(&[
            key("min", Kind::Number(0.0)),
            key("max", Kind::Number(0.0)),
            key("jitter", Kind::Number(0.0)),
            key("factor", Kind::Number(1.0)),
        ]),
    ),
]);
const STS: Kind = Kind::Section(&[
    needed("host", Kind::Text),
    needed("port", PORT),
    key("transport", TRANSPORT),
    key("accessKey", Kind::Text),
    key("secretKey", Kind::Text),
    key("externalFile", Kind::Text),
]);
const AUTH: Kind = Kind::Section(&[
    needed("type", Kind::Word(&["account", "role", "service", "assumeRole"])),
    key("account", Kind::Text),
    key("roleName", Kind::Text),
    key(
        "vault",
        Kind::Section(&[
            key("host", Kind::Text),
            key("port", PORT),
            key("adminPort", PORT),
            key("adminCredentialsFile", Kind::Text),
        ]),
    ),
    key("sts", STS),
]);
const BOOTSTRAP_SITE: Kind = Kind::Section(&[
    needed("site", Kind::Text),
    key("servers", Kind::List(&Kind::Text)),
    key("type", Kind::Text),
    key("default", Kind::Flag),
    key("echo", Kind::Flag),
    key("transport", TRANSPORT),
    key("region", Kind::Text),
    key("auth", AUTH),
    key("conditionalWrites", Kind::Flag),
    key("storageClass", Kind::Text),
    key(
        "serverSideEncryption",
        Kind::Section(&[needed("algorithm", Kind::Text), key("kmsKeyId", Kind::Text)]),
    ),
]);
const REPLAY_TOPIC: Kind =
    Kind::Section(&[needed("topicName", Kind::Text), needed("retries", Kind::Whole(1, 1_000))]);

const REPLICATION: &[Key] = &[
    needed(
        "source",
        Kind::Section(&[
            key("transport", TRANSPORT),
            needed("s3", Kind::Section(HOST_AND_PORT)),
            needed("auth", AUTH),
        ]),
    ),
    needed(
        "destination",
        Kind::Section(&[
            key("transport", TRANSPORT),
            needed("auth", AUTH),
            key("bootstrapList", Kind::List(&BOOTSTRAP_SITE)),
        ]),
    ),
    needed("topic", Kind::Text),
    key("dataMoverTopic", Kind::OptionalText),
    needed("replicationStatusTopic", Kind::Text),
    needed("replicationFailedTopic", Kind::Text),
    key("monitorReplicationFailures", Kind::Flag),
    key("monitorReplicationFailureExpiryTimeS", Kind::Number(1.0)),
    key("replayTopics", Kind::List(&REPLAY_TOPIC)),
    needed(
        "queueProcessor",
        Kind::Section(&[
            needed("groupId", Kind::Text),
            key(
                "retry",
                Kind::Section(&[
                    key("aws_s3", RETRY),
                    key("azure", RETRY),
                    key("gcp", RETRY),
                    key("scality", RETRY),
                ]),
            ),
            key("concurrency", COUNT),
            key("mpuPartsConcurrency", COUNT),
            key("minMPUSizeMB", Kind::Number(0.001)),
            key("probeServer", PROBE),
            key("circuitBreaker", Kind::Any),
            key("sourceCheckIfSizeGreaterThanMB", Kind::Number(0.001)),
        ]),
    ),
    needed(
        "replicationStatusProcessor",
        Kind::Section(&[
            needed("groupId", Kind::Text),
            key("retry", RETRY),
            key("concurrency", COUNT),
            key("probeServer", PROBE),
        ]),
    ),
    key("objectSizeMetrics", Kind::List(&Kind::Number(0.0))),
    key("lane", Kind::Section(&[key("maxQueued", COUNT)])),
];

/// Every key at the top.
pub(super) const ROOT: &[Key] = &[
    needed("replicationGroupId", Kind::TextOf(7)),
    key("transport", TRANSPORT),
    key("s3", Kind::Section(HOST_AND_PORT)),
    key("vaultAdmin", Kind::Section(HOST_AND_PORT)),
    key(
        "log",
        Kind::Section(&[
            key("logLevel", Kind::Word(&["error", "warn", "info", "debug", "trace"])),
            key("dumpLevel", Kind::Word(&["error", "warn", "info", "debug", "trace"])),
        ]),
    ),
    key("metrics", Kind::Section(&[needed("topic", Kind::Text), key("groupIdPrefix", Kind::Text)])),
    key(
        "server",
        Kind::Section(&[
            key("host", Kind::Text),
            key("port", PORT_OR_ANY),
            key("healthChecks", Kind::Section(&[key("allowFrom", Kind::List(&Kind::Text))])),
        ]),
    ),
    key("certFilePaths", CERTIFICATES),
    key("internalCertFilePaths", CERTIFICATES),
    needed(
        "zookeeper",
        Kind::Section(&[
            needed("connectionString", Kind::Text),
            key("autoCreateNamespace", Kind::Flag),
            key("sessionTimeoutMs", SESSION_TIME),
            key("tls", CERTIFICATES),
            key("auth", LOGIN),
        ]),
    ),
    needed(
        "kafka",
        Kind::Section(&[
            needed("hosts", Kind::Text),
            key(
                "backlogMetrics",
                Kind::Section(&[key("zkPath", Kind::Text), key("intervalS", Kind::Number(1.0))]),
            ),
            key("maxRequestSize", Kind::Whole(1, 2_147_483_647)),
            key("site", Kind::Text),
            key("compressionType", Kind::Text),
            key("requiredAcks", Kind::Either(&Kind::Text, &Kind::Number(-1.0))),
            key("partitions", Kind::Whole(1, 10_000)),
            key("replicationFactor", Kind::Whole(1, 100)),
            key("sessionTimeoutMs", SESSION_TIME),
            key("tls", CERTIFICATES),
            key("sasl", SASL),
            key("properties", Kind::Any),
        ]),
    ),
    key(
        "redis",
        Kind::Section(&[
            key("host", Kind::Text),
            key("port", PORT),
            key("name", Kind::Text),
            key("password", Kind::OptionalText),
            key("sentinelPassword", Kind::OptionalText),
            key("passwordFile", Kind::Text),
            key("sentinelPasswordFile", Kind::Text),
            key("tls", CERTIFICATES),
            key("sentinels", Kind::Either(&Kind::Text, &Kind::List(&Kind::Section(HOST_AND_PORT)))),
        ]),
    ),
    key(
        "queuePopulator",
        Kind::Section(&[
            key("auth", AUTH),
            key("cronRule", Kind::Text),
            key("strictCron", Kind::Flag),
            key("batchMaxRead", COUNT),
            key("batchTimeoutMs", Kind::Number(1.0)),
            needed("zookeeperPath", Kind::Text),
            needed("logSource", Kind::Word(&["bucketd", "mongo", "ingestion", "dmd", "kafka"])),
            key("subscribeToLogSourceDispatcher", Kind::Flag),
            key("exhaustLogSource", Kind::Flag),
            key(
                "bucketd",
                Kind::Section(&[
                    needed("host", Kind::Text),
                    needed("port", PORT),
                    key("transport", TRANSPORT),
                    key("raftSessions", Kind::List(&Kind::Whole(0, 4_294_967_295))),
                ]),
            ),
            key("bootstrap", Kind::Word(&["oldest", "end"])),
            key(
                "dmd",
                Kind::Section(&[
                    needed("host", Kind::Text),
                    needed("port", PORT),
                    key("logName", Kind::Text),
                ]),
            ),
            key("mongo", Kind::Any),
            key(
                "kafka",
                Kind::Section(&[
                    key("topic", Kind::Text),
                    key("consumerGroupId", Kind::Text),
                    key("logName", Kind::Text),
                    key("replication", CHANGE_STREAM),
                    key("lifecycle", CHANGE_STREAM),
                    key("notification", CHANGE_STREAM),
                ]),
            ),
            key("probeServer", PROBE),
            key("circuitBreaker", Kind::Any),
        ]),
    ),
    key(
        "extensions",
        Kind::Section(&[
            key("replication", Kind::Section(REPLICATION)),
            key("gc", Kind::Any),
            key("lifecycle", Kind::Any),
            key("ingestion", Kind::Any),
            key("notification", Kind::Any),
            key("mongoProcessor", Kind::Any),
            key("oplogPopulator", Kind::Any),
        ]),
    ),
    key(
        "embedded",
        Kind::Section(&[key(
            "site",
            Kind::Section(&[
                key("connections", Kind::Whole(1, 100_000)),
                key("headBytes", Kind::Whole(8192, 1 << 20)),
                key("headTimeoutS", Kind::Number(0.1)),
                key("bodyTimeoutS", Kind::Number(0.1)),
                key("answerTimeoutS", Kind::Number(0.1)),
                key("dataBytes", Kind::Whole(0, u64::MAX)),
                key("journalRecords", Kind::Whole(0, u64::MAX)),
                key("journalHours", Kind::Whole(0, u64::MAX)),
            ]),
        )]),
    ),
    key("localCache", Kind::Any),
    key("healthcheckServer", Kind::Any),
    key("mongo", Kind::Any),
    key("management", Kind::Any),
];
