//! Golden vectors: every case of every file, compared with what the model does.
//!
//! `BACKBEAT_VECTORS_DIR` names another folder of files of the same names. Where this project differs on purpose,
//! `tests/vectors/differences.json` says so, case by case.

mod compare;
mod differences;
mod keys;
mod populator_filter;
mod queue_routing;
mod ranges;
mod replication_configuration;
mod status_processor;
mod status_transitions;
mod version_id;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use differences::Differences;

/// A file of vectors. Cases stay text, because the order of their members matters to some.
#[derive(Deserialize)]
struct VectorFile {
    count: usize,
    cases: Vec<Box<RawValue>>,
    #[serde(default)]
    sequences: Vec<Box<RawValue>>,
    #[serde(flatten)]
    shared: serde_json::Map<String, Value>,
}

/// What a case fails with: what was expected and what came.
type Outcome = Result<(), String>;

/// Checks one case, given the members of the file that all cases share.
type Check = fn(case: &str, shared: &Value) -> Outcome;

fn check_of(file: &str) -> Option<(Check, Option<Check>)> {
    Some(match file {
        "version-id.json" => (version_id::check, None),
        "log-keys.json" => (keys::check, None),
        "replication-populator-filter.json" => (populator_filter::check, None),
        "replication-status-transitions.json" => {
            (status_transitions::check, Some(status_transitions::check_sequence as Check))
        }
        "replication-queue-routing.json" => (queue_routing::check, None),
        "replication-status-processor.json" => (status_processor::check, None),
        "replication-configuration.json" => (replication_configuration::check, None),
        "multipart-ranges.json" => (ranges::check, None),
        _ => return None,
    })
}

fn own_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let other = std::env::var_os("BACKBEAT_VECTORS_DIR").map(PathBuf::from);
    let folder = other.clone().unwrap_or_else(own_folder);
    match trials(&folder, other.is_none()) {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(error) => {
            eprintln!("vectors: {error}");
            ExitCode::FAILURE
        }
    }
}

fn trials(folder: &Path, own: bool) -> Result<Vec<Trial>, String> {
    let differences = Differences::read(&own_folder().join("differences.json"))?;
    let listing = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files: Vec<PathBuf> = listing.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let mut trials = Vec::new();
    for path in files {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name == "differences.json" {
            continue;
        }
        let Some((check, check_sequence)) = check_of(&name) else {
            trials.push(failing(
                format!("{name}: not covered"),
                "no check exists for this file of vectors".to_owned(),
            ));
            continue;
        };
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let file: VectorFile =
            serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        if file.count != file.cases.len() {
            let reason = format!("the file announces {} cases and has {}", file.count, file.cases.len());
            trials.push(failing(format!("{name}: count"), reason));
        }
        let shared = Arc::new(Value::Object(file.shared));
        let sequences =
            file.sequences.into_iter().enumerate().map(|(index, case)| ("sequences", index, case));
        let cases = file.cases.into_iter().enumerate().map(|(index, case)| ("cases", index, case));
        for (list, index, case) in cases.chain(sequences) {
            let check = if list == "cases" { Some(check) } else { check_sequence };
            let value: Value =
                serde_json::from_str(case.get()).map_err(|error| format!("{name}: {error}"))?;
            let title = value
                .get("description")
                .or_else(|| value.get("inputDescription"))
                .or_else(|| value.get("op"));
            let title = title.and_then(Value::as_str).unwrap_or("");
            let mut label = format!("{name} {list}[{index}] {title}");
            let Some(check) = check else {
                trials.push(failing(label, "no check exists for sequences in this file".to_owned()));
                continue;
            };
            if let Some(reason) = differences.covers(&name, &value) {
                label = format!("{label} (differs on purpose: {reason})");
                trials.push(Trial::test(label, || Ok(())));
                continue;
            }
            let shared = shared.clone();
            trials.push(Trial::test(label, move || check(case.get(), &shared).map_err(Failed::from)));
        }
    }
    if trials.is_empty() {
        return Err(format!("{}: no files of vectors", folder.display()));
    }
    if own {
        for unmatched in differences.unmatched() {
            trials.push(failing(format!("differences.json {unmatched}"), "matches no case".to_owned()));
        }
    }
    Ok(trials)
}

fn failing(name: String, reason: String) -> Trial {
    Trial::test(name, move || Err(Failed::from(reason)))
}
