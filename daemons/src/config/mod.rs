//! The configuration: the embedded defaults, a `config.json` as existing installations have it, and environment variables
//! of the form `BACKBEAT__SECTION__KEY=value`, each over the one before.

mod json_schema;
mod locations;
mod replication;
mod schema;
mod sections;
pub(crate) mod settings;
mod validate;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

pub use locations::Locations;
pub use replication::{Backoff, ReplayTopic, Replication, Retry};
pub use sections::{
    Auth, BacklogMetrics, Bootstrap, BootstrapSite, Bucketd, Certificates, ChangeStream, Destination, Dmd,
    Encryption, HostAndPort, Kafka, Login, Metrics, ProbePlace, ProbeServer, QueuePopulator, Redis, S3_SITE,
    S3Options, Sasl, Sentinels, Source, Sts, Transport, ZooKeeper,
};
pub use validate::{Finding, Severity};

use schema::{Key, Kind, ROOT};

/// What environment variables that override a key begin with.
const ENVIRONMENT_PREFIX: &str = "BACKBEAT__";

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The embedded defaults.
    Default,
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "${name}"),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {file}: {source}")]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not JSON.
    #[error("the configuration file {file} is not JSON: {source}")]
    Json {
        /// The file.
        file: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A daemon needs what is not there.
    #[error("{key}: {message}; add it to the configuration")]
    Missing {
        /// The path of the section.
        key: String,
        /// What of it is missing.
        message: String,
    },
    /// Values that cannot be used.
    #[error("{}", list(errors))]
    Invalid {
        /// What cannot be used.
        errors: Vec<(Finding, Origin)>,
        /// What is odd besides.
        warnings: Vec<(Finding, Origin)>,
    },
}

fn list(findings: &[(Finding, Origin)]) -> String {
    let lines =
        findings.iter().map(|(finding, origin)| format!("{origin}: {}: {}", finding.key, finding.message));
    lines.collect::<Vec<_>>().join("\n")
}

/// A configuration with the origin of everything in it.
#[derive(Clone, Debug)]
pub struct Config {
    value: Value,
    file: Option<PathBuf>,
    origins: BTreeMap<String, Origin>,
    /// What is odd about it, without being unusable.
    pub warnings: Vec<(Finding, Origin)>,
}

impl Config {
    /// What a configuration may hold, as a JSON Schema.
    pub fn json_schema() -> Value {
        json_schema::json_schema()
    }

    /// The embedded defaults, `file` over them if there is one, `environment` over both.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let defaults = serde_json::from_str(include_str!("embedded.json")).expect("the defaults are JSON");
        let mut config = Self {
            value: Value::Object(serde_json::Map::new()),
            file: file.map(Path::to_owned),
            origins: BTreeMap::new(),
            warnings: Vec::new(),
        };
        config.overlay(&defaults, &Origin::Default);
        let mut errors = Vec::new();
        if let Some(file) = file {
            let origin = Origin::File(file.to_owned());
            // A configuration without replay topics has none (replication reference 11.6).
            if let Some(Value::Object(replication)) = config.value.pointer_mut("/extensions/replication") {
                replication.remove("replayTopics");
            }
            let value = read(file)?;
            config.take_findings(validate::findings(&value, ROOT), &origin, &mut errors);
            config.overlay(&value, &origin);
        }
        let mut environment: Vec<(String, String)> =
            environment.into_iter().filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX)).collect();
        environment.sort();
        for (name, text) in environment {
            let origin = Origin::Environment(name.clone());
            match override_of(&name, &text) {
                Ok(value) => {
                    let found = validate::findings(&value, ROOT);
                    let found = found.into_iter().filter(|finding| finding.severity == Severity::Error);
                    config.take_findings(found.collect(), &origin, &mut errors);
                    config.overlay(&value, &origin);
                }
                Err(finding) => config.take_findings(vec![finding], &origin, &mut errors),
            }
        }
        if errors.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError::Invalid { errors, warnings: config.warnings })
        }
    }

    /// The section `extensions.replication`.
    pub fn replication(&self) -> Replication {
        let section = self.value.pointer("/extensions/replication").cloned().unwrap_or_default();
        serde_json::from_value(section).expect("what passed validation over the defaults can be read")
    }

    /// The section at a path like `extensions.replication.source`, for daemons that cannot do without.
    ///
    /// # Errors
    /// The section, or something in it, is missing.
    pub fn section<T: DeserializeOwned>(&self, key: &str) -> Result<T, ConfigError> {
        let missing = |message: String| ConfigError::Missing { key: key.to_owned(), message };
        let value = self.value(&format!("/{}", key.replace('.', "/")));
        let value = value.ok_or_else(|| missing("missing".to_owned()))?;
        T::deserialize(value).map_err(|error| missing(error.to_string()))
    }

    /// The file that was read, if one was.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The value at a JSON pointer.
    pub fn value(&self, pointer: &str) -> Option<&Value> {
        self.value.pointer(pointer)
    }

    /// Every value with its path and origin, secrets hidden.
    pub fn entries(&self) -> Vec<(String, Value, Origin)> {
        let mut entries = Vec::new();
        self.collect(&self.value, "", &mut entries);
        entries
    }

    /// The whole, secrets hidden.
    pub fn to_json(&self) -> Value {
        let mut shown = self.value.clone();
        hide(&mut shown);
        shown
    }

    fn collect(&self, value: &Value, path: &str, entries: &mut Vec<(String, Value, Origin)>) {
        if let Value::Object(members) = value {
            for (name, value) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                self.collect(value, &path, entries);
            }
            return;
        }
        let origin = self.origins.get(path).cloned().unwrap_or(Origin::Default);
        let mut shown = value.clone();
        hide(&mut shown);
        let secret = path.rsplit('.').next().is_some_and(is_secret);
        entries.push((path.to_owned(), if secret { hidden() } else { shown }, origin));
    }

    fn take_findings(
        &mut self,
        findings: Vec<Finding>,
        origin: &Origin,
        errors: &mut Vec<(Finding, Origin)>,
    ) {
        for finding in findings {
            match finding.severity {
                Severity::Error => errors.push((finding, origin.clone())),
                Severity::Warning => self.warnings.push((finding, origin.clone())),
            }
        }
    }

    /// Lays `value` over what is there: sections member by member, everything else as a whole.
    fn overlay(&mut self, value: &Value, origin: &Origin) {
        overlay(
            &mut self.value,
            value,
            &mut |path| {
                self.origins.insert(path, origin.clone());
            },
            "",
        );
    }
}

/// Puts `value` over `place`, and tells the path of every value that it puts there. Names may have dots in them.
fn overlay(place: &mut Value, value: &Value, told: &mut dyn FnMut(String), path: &str) {
    let Value::Object(members) = value else {
        *place = value.clone();
        return told(path.to_owned());
    };
    if !place.is_object() {
        *place = Value::Object(serde_json::Map::new());
    }
    for (name, value) in members {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        overlay(&mut place[name.as_str()], value, told, &path);
    }
}

fn read(file: &Path) -> Result<Value, ConfigError> {
    let text = std::fs::read_to_string(file)
        .map_err(|source| ConfigError::Read { file: file.to_owned(), source })?;
    serde_json::from_str(&text).map_err(|source| ConfigError::Json { file: file.to_owned(), source })
}

fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    // Where a secret is, is none.
    !name.ends_with("file") && (name.contains("password") || name.contains("secret"))
}

fn hidden() -> Value {
    Value::String("<secret>".to_owned())
}

fn hide(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                if is_secret(name) { *value = hidden() } else { hide(value) }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The configuration that consists of one environment variable. Names are matched without regard to case.
fn override_of(name: &str, text: &str) -> Result<Value, Finding> {
    let refuse = |message: String| Finding { severity: Severity::Error, key: name.to_owned(), message };
    let (mut keys, mut path, mut kind) = (ROOT, Vec::new(), Kind::Section(ROOT));
    for segment in name.trim_start_matches(ENVIRONMENT_PREFIX).split("__") {
        let found: Option<&Key> = keys.iter().find(|key| key.name.eq_ignore_ascii_case(segment));
        let Some(key) = found else {
            if matches!(kind, Kind::Any) {
                path.push(segment.to_owned());
                continue;
            }
            let hint = match validate::nearest(segment, keys.iter().map(|key| key.name)) {
                Some(near) => format!("names no known key, did you mean `{}`?", near.to_uppercase()),
                None => "names no known key".to_owned(),
            };
            return Err(refuse(hint));
        };
        path.push(key.name.to_owned());
        kind = key.kind;
        keys = if let Kind::Section(keys) = kind { keys } else { &[] };
    }
    let value = match kind {
        Kind::Text | Kind::OptionalText | Kind::TextOf(_) | Kind::Word(_) => Value::String(text.to_owned()),
        Kind::Any | Kind::Either(..) => {
            serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
        }
        Kind::Flag | Kind::Whole(..) | Kind::Number(_) | Kind::Section(_) | Kind::List(_) => {
            serde_json::from_str(text).map_err(|_| refuse("its value must be written as JSON".to_owned()))?
        }
    };
    Ok(path.into_iter().rev().fold(value, |value, name| Value::Object([(name, value)].into_iter().collect())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_defaults_stand_alone() {
        let config = Config::load(None, []).expect("the defaults are valid");
        assert_eq!(config.warnings, []);
        assert_eq!(config.replication().topic, "backbeat-replication");
        assert!(config.entries().iter().all(|(_, _, origin)| *origin == Origin::Default));
        let found = validate::findings(&config.value, ROOT);
        assert!(found.iter().all(|finding| finding.message.starts_with("missing")), "{found:?}");
    }

    #[test]
    fn entries_of_lists_must_be_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("config.json");
        let text = r#"{"extensions":{"replication":{"replayTopics":[{"topicName":"t"}]}}}"#;
        std::fs::write(&file, text).expect("written");
        let error = Config::load(Some(&file), []).expect_err("nothing says how many retries");
        let shown = error.to_string();
        assert!(shown.contains("extensions.replication.replayTopics[0].retries: missing"), "{shown}");
    }

    #[test]
    fn an_empty_section_is_one_all_the_same() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("config.json");
        std::fs::write(&file, r#"{"redis":{}}"#).expect("written");
        let config = Config::load(Some(&file), []).expect("nothing in it is needed");
        assert!(config.section::<Redis>("redis").is_ok());
        let missing = config.section::<Kafka>("kafka").err().expect("no hosts").to_string();
        assert_eq!(missing, "kafka: missing; add it to the configuration");
    }

    #[test]
    fn names_with_dots_hide_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("config.json");
        let text = r#"{"extensions":{"replication":{"lane":{"maxQueued.":1,"maxQueued.x":{"y":2},"":3}}}}"#;
        std::fs::write(&file, text).expect("written");
        let config = Config::load(Some(&file), []).expect("odd, but usable");
        assert_eq!(config.warnings.iter().filter(|(found, _)| found.message.contains("unknown")).count(), 3);
        assert_eq!(config.replication().lane.max_queued, 32);
    }

    #[test]
    fn numbers_that_nothing_could_count_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("config.json");
        let text = r#"{"extensions":{"replication":{"queueProcessor":{"retry":{"scality":{"maxRetries":5000000000}}}}}}"#;
        std::fs::write(&file, text).expect("written");
        let error = Config::load(Some(&file), []).expect_err("more than fits");
        assert!(error.to_string().contains("maxRetries"), "{error}");
    }

    #[test]
    fn a_file_goes_over_the_defaults_and_the_environment_over_both() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("config.json");
        let text = r#"{"kafka":{"hosts":"a:9092"},"extensions":{"replication":{"topic":"t",
            "queueProcessor":{"groupId":"g","concurrency":3}}},"redis":{"password":"hush"}}"#;
        std::fs::write(&file, text).expect("written");
        let environment = environment(&[
            ("BACKBEAT__KAFKA__HOSTS", "b:9092"),
            ("BACKBEAT__EXTENSIONS__REPLICATION__QUEUEPROCESSOR__CONCURRENCY", "7"),
            ("OTHER", "x"),
        ]);
        let config = Config::load(Some(&file), environment).expect("valid");
        let replication = config.replication();
        assert_eq!((replication.topic.as_str(), replication.queue_processor.concurrency), ("t", 7));
        assert_eq!(replication.queue_processor.parts_concurrency, 10, "what is not said stays");
        let entries = config.entries();
        let of = |path: &str| entries.iter().find(|(key, ..)| key == path).expect(path);
        assert_eq!(of("kafka.hosts").2, Origin::Environment("BACKBEAT__KAFKA__HOSTS".to_owned()));
        assert_eq!(of("extensions.replication.topic").2, Origin::File(file.clone()));
        assert_eq!(of("redis.password").1, hidden());
        assert!(!config.to_json().to_string().contains("hush"));
    }

    #[test]
    fn what_cannot_be_used_is_named_with_its_place() {
        let bad = environment(&[
            ("BACKBEAT__KAFKA__HOTS", "b"),
            ("BACKBEAT__EXTENSIONS__REPLICATION__LANE__MAXQUEUED", "many"),
            ("BACKBEAT__REPLICATIONGROUPID", "short"),
        ]);
        let error = Config::load(None, bad).expect_err("three mistakes").to_string();
        assert!(error.contains("BACKBEAT__KAFKA__HOTS") && error.contains("`HOSTS`"), "{error}");
        assert!(error.contains("MAXQUEUED") && error.contains("replicationGroupId"), "{error}");
        let error = Config::load(Some(Path::new("/does/not/exist")), []).expect_err("no file").to_string();
        assert!(error.contains("/does/not/exist"), "{error}");
    }
}
