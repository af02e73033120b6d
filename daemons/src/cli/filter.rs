//! `backbeat filter`: what the populator would queue.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Result, bail};
use backbeat_core::model::{Decision, FilterConfig, LogRecord, PopulatorEntry, decide};
use clap::Args;
use serde::Serialize;

use super::lines;

/// Show what the populator would queue for journal entries given as JSON lines.
///
/// A line of standard input is either one entry, {"type","bucket","key","value",...}, or one journal record,
/// {"timestamp","db","entries"}. Every message that would be published is one line {"topic","key","message"}
/// of standard output. A line that cannot be understood is named on standard error and skipped; then the exit code is 1.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    backbeat filter < entries.jsonl\n  \
    backbeat filter --topic backbeat-replication --cold-location tape < records.jsonl | wc -l")]
pub struct Filter {
    /// Topic that the messages are for.
    #[arg(long, default_value = "backbeat-replication")]
    topic: String,
    /// Location whose objects are not replicated (repeatable). Left out: the cold location that upstream ships with.
    #[arg(long = "cold-location", value_name = "NAME", default_value = "location-dmf-v1")]
    cold_locations: Vec<String>,
}

#[derive(Serialize)]
struct Published<'a> {
    topic: &'a str,
    key: &'a str,
    message: &'a str,
}

impl Filter {
    /// Runs the command on standard input and output.
    pub fn run(&self) -> Result<ExitCode> {
        let config = FilterConfig {
            cold_locations: self.cold_locations.iter().cloned().collect(),
            ..FilterConfig::default()
        };
        lines::run(|line, output| self.turn(line, &config, output))
    }

    fn turn(&self, line: &str, config: &FilterConfig, output: &mut dyn Write) -> Result<()> {
        if line.trim().is_empty() {
            return Ok(());
        }
        // Entries have no member `entries`, records no `bucket`: a line that is no record is read as an entry.
        let record = match LogRecord::parse(line) {
            Ok(record) => record,
            Err(error) => {
                let entry = PopulatorEntry::parse(line)?;
                if [&entry.kind, &entry.bucket, &entry.key, &entry.value]
                    .iter()
                    .any(|field| field.is_present())
                {
                    return self.publish(&entry, config, output);
                }
                bail!("neither an entry nor a record: {error}");
            }
        };
        let mut unreadable = Vec::new();
        for (index, entry) in record.populator_entries().enumerate() {
            if let Err(error) = self.publish(&entry, config, output) {
                if error.is::<std::io::Error>() {
                    return Err(error);
                }
                unreadable.push(format!("entry {index}: {error:#}"));
            }
        }
        if !unreadable.is_empty() {
            bail!(unreadable.join("; "));
        }
        Ok(())
    }

    fn publish(&self, entry: &PopulatorEntry, config: &FilterConfig, output: &mut dyn Write) -> Result<()> {
        match decide(entry, config) {
            Decision::Ignore(_) => Ok(()),
            Decision::Unreadable(reason) => bail!(reason),
            Decision::Publish(publish) => {
                let message = entry.message();
                let line = Published { topic: &self.topic, key: &publish.key, message: &message };
                let mut line = serde_json::to_string(&line)?;
                line.push('\n');
                output.write_all(line.as_bytes())?;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> (Result<()>, String) {
        let filter = Filter { topic: "t".to_owned(), cold_locations: Vec::new() };
        let mut output = Vec::new();
        let result = filter.turn(line, &FilterConfig::default(), &mut output);
        (result, String::from_utf8(output).expect("JSON is UTF-8"))
    }

    const VALUE: &str = r#""{\"replicationInfo\":{\"status\":\"PENDING\"}}""#;

    #[test]
    fn entries_and_records_are_told_apart() {
        let entry = format!(r#"{{"type":"put","bucket":"b","key":"k","value":{VALUE}}}"#);
        let (result, output) = run(&entry);
        result.expect("published");
        let line: serde_json::Value = serde_json::from_str(&output).expect("one JSON line");
        assert_eq!((line["topic"].as_str(), line["key"].as_str()), (Some("t"), Some("b%2Fk")));
        assert_eq!(line["message"].as_str(), Some(entry.as_str()));
        let record =
            format!(r#"{{"db":"b","entries":[{{"key":"k","value":{VALUE}}},{{"key":"x","value":"{{"}}]}}"#);
        let (result, output) = run(&record);
        assert_eq!(output.lines().count(), 1);
        assert!(result.expect_err("the second entry is broken").to_string().starts_with("entry 1: "));
        for neither in ["nonsense", "{}", r#"{"entries":[]}"#] {
            assert!(run(neither).0.is_err(), "{neither}");
        }
    }
}
