//! `backbeat config`: look at the configuration before anything runs with it.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Exit, Failure, Global};
use crate::config::{Config, ConfigError, Finding, Origin};
use crate::logging::{self, LogFilter};

/// Check or show the configuration.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  backbeat config check --config conf/config.json
  BACKBEAT__EXTENSIONS__REPLICATION__QUEUEPROCESSOR__CONCURRENCY=20 backbeat config show --origin")]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say what is wrong: errors end with exit code 2, unknown keys are warnings.
    #[command(after_help = "Example:\n  backbeat config check --config conf/config.json")]
    Check,
    /// Print the configuration in effect, secrets hidden.
    #[command(after_help = "Example:\n  backbeat config show --origin --json")]
    Show {
        /// Say for every value where it comes from.
        #[arg(long)]
        origin: bool,
    },
    /// Print what a configuration may hold as a JSON Schema, for editors and pipelines.
    #[command(after_help = "Example:\n  backbeat config schema > backbeat.schema.json")]
    Schema,
}

/// Loads the configuration that `global` names, with the environment over it.
pub(super) fn load(global: &Global) -> Result<Config, Failure> {
    Config::load(global.config.as_deref(), std::env::vars()).map_err(|error| Failure::new(Exit::Usage, error))
}

/// Starts logging as `config` says, and says what is odd about it. The filter can be changed.
pub(super) fn log(config: &Config) -> LogFilter {
    let level = config.value("/log/logLevel").and_then(|level| level.as_str()).unwrap_or("info");
    let filter = logging::start(level);
    for (finding, origin) in &config.warnings {
        tracing::warn!(key = finding.key, %origin, "{}", finding.message);
    }
    filter
}

pub(super) fn run(arguments: &Arguments, global: &Global) -> Result<Exit, Failure> {
    match arguments.action {
        Action::Check => check(global),
        Action::Show { origin } => show(global, origin),
        Action::Schema => Ok(schema(global)),
    }
}

fn check(global: &Global) -> Result<Exit, Failure> {
    let (errors, warnings) = match Config::load(global.config.as_deref(), std::env::vars()) {
        Ok(config) => (Vec::new(), config.warnings),
        Err(ConfigError::Invalid { errors, warnings }) => (errors, warnings),
        Err(error @ (ConfigError::Read { .. } | ConfigError::Json { .. } | ConfigError::Missing { .. })) => {
            return Err(Failure::new(Exit::Usage, error));
        }
    };
    let exit = if errors.is_empty() { Exit::Done } else { Exit::Usage };
    if global.json {
        let list = |findings: &[(Finding, Origin)]| -> Vec<_> {
            let each = findings.iter().map(|(finding, origin)| {
                json!({"origin": origin.to_string(), "key": finding.key, "message": finding.message})
            });
            each.collect()
        };
        let valid = errors.is_empty();
        println!("{}", json!({"valid": valid, "errors": list(&errors), "warnings": list(&warnings)}));
        return Ok(exit);
    }
    for (severity, findings) in [("error", &errors), ("warning", &warnings)] {
        for (finding, origin) in findings {
            println!("{severity}: {origin}: {}: {}", finding.key, finding.message);
        }
    }
    if errors.is_empty() {
        println!("valid, {} warnings", warnings.len());
    }
    Ok(exit)
}

fn show(global: &Global, with_origin: bool) -> Result<Exit, Failure> {
    let config = load(global)?;
    match (global.json, with_origin) {
        (true, false) => println!("{}", config.to_json()),
        (false, false) => println!("{:#}", config.to_json()),
        (true, true) => {
            let entries = config.entries().into_iter().map(
                |(key, value, origin)| json!({"key": key, "value": value, "origin": origin.to_string()}),
            );
            println!("{}", serde_json::Value::Array(entries.collect()));
        }
        (false, true) => {
            for (key, value, origin) in config.entries() {
                println!("{key} = {value}  # {origin}");
            }
        }
    }
    Ok(Exit::Done)
}

fn schema(global: &Global) -> Exit {
    let schema = Config::json_schema();
    if global.json {
        println!("{schema}");
    } else {
        println!("{schema:#}");
    }
    Exit::Done
}
