//! Holds a configuration against the schema, and says for every trouble where it is and what to do.

use serde_json::Value;

use super::schema::{Key, Kind};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The value cannot be used.
    Error,
    /// Everything goes on without it.
    Warning,
}

/// Something that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The path of the key, for example `extensions.replication.topic`.
    pub key: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// Everything that is wrong with `value` as a section with `keys`.
pub(super) fn findings(value: &Value, keys: &[Key]) -> Vec<Finding> {
    let mut found = Vec::new();
    section(value, keys, "", Severity::Warning, &mut found);
    found
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// A key that is needed and missing is as bad as `missing`: where the defaults lie under a section, it is only odd.
fn section(value: &Value, keys: &[Key], path: &str, missing: Severity, found: &mut Vec<Finding>) {
    let Value::Object(members) = value else {
        return refuse(path, "must be an object", value, found);
    };
    for (name, value) in members {
        let path = join(path, name);
        if let Some(key) = keys.iter().find(|key| key.name == name) {
            check(value, key.kind, &path, found);
        } else {
            let names = keys.iter().map(|key| key.name);
            let hint = match nearest(name, names) {
                Some(near) => format!("unknown key, did you mean `{near}`?"),
                None => "unknown key, it has no effect".to_owned(),
            };
            found.push(Finding { severity: Severity::Warning, key: path, message: hint });
        }
    }
    for key in keys.iter().filter(|key| key.needed && !members.contains_key(key.name)) {
        let message = match missing {
            Severity::Error => "missing; entries of a list have no defaults",
            Severity::Warning => "missing; the embedded stack has a default, other daemons need it",
        };
        found.push(Finding { severity: missing, key: join(path, key.name), message: message.to_owned() });
    }
}

fn refuse(path: &str, rule: &str, value: &Value, found: &mut Vec<Finding>) {
    let what = match value {
        Value::Null => "null",
        Value::Bool(_) => "a flag",
        Value::Number(_) => "this number",
        Value::String(_) => "this text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    let message = format!("{rule}, found {what}");
    found.push(Finding { severity: Severity::Error, key: path.to_owned(), message });
}

fn check(value: &Value, kind: Kind, path: &str, found: &mut Vec<Finding>) {
    let text = value.as_str();
    let (usable, rule) = match kind {
        Kind::Any => return,
        Kind::Section(keys) => return section(value, keys, path, Severity::Warning, found),
        Kind::Either(one, other) => return either(value, [*one, *other], path, found),
        Kind::List(kind) => {
            for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                let path = format!("{path}[{index}]");
                if let Kind::Section(keys) = kind {
                    section(item, keys, &path, Severity::Error, found);
                } else {
                    check(item, *kind, &path, found);
                }
            }
            (value.is_array(), "must be a list".to_owned())
        }
        Kind::Text => {
            (text.is_some_and(|text| !text.is_empty()), "must be text that is not empty".to_owned())
        }
        Kind::OptionalText => (text.is_some(), "must be text".to_owned()),
        Kind::TextOf(length) => (
            text.is_some_and(|text| text.chars().count() == length),
            format!("must be text of exactly {length} characters (pad it with spaces)"),
        ),
        Kind::Word(words) => {
            (text.is_some_and(|text| words.contains(&text)), format!("must be one of {}", words.join(", ")))
        }
        Kind::Flag => (value.is_boolean(), "must be true or false".to_owned()),
        Kind::Whole(min, max) => {
            let usable = value.as_u64().is_some_and(|number| (min..=max).contains(&number));
            (usable, format!("must be a whole number from {min} to {max}"))
        }
        Kind::Number(min) => (
            value.as_f64().is_some_and(|number| number >= min),
            format!("must be a number of at least {min}"),
        ),
    };
    if !usable {
        refuse(path, &rule, value, found);
    }
}

/// Takes the first of two kinds that fits, or else what is wrong with the first.
fn either(value: &Value, kinds: [Kind; 2], path: &str, found: &mut Vec<Finding>) {
    let [first, second] = kinds.map(|kind| {
        let mut found = Vec::new();
        check(value, kind, path, &mut found);
        found
    });
    let is_usable = |found: &[Finding]| found.iter().all(|each| each.severity == Severity::Warning);
    found.extend(if is_usable(&first) || !is_usable(&second) { first } else { second });
}

/// The name that `name` was probably meant to be.
pub(super) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    names
        .map(|candidate| (distance(&wanted, &candidate.to_lowercase()), candidate))
        .min()
        .filter(|&(distance, candidate)| distance * 3 <= candidate.len().max(3))
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions and replacements that make one text of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::ROOT;
    use serde_json::json;

    fn found(value: &Value) -> Vec<(Severity, String, String)> {
        findings(value, ROOT)
            .into_iter()
            .filter(|finding| !finding.message.starts_with("missing"))
            .map(|finding| (finding.severity, finding.key, finding.message))
            .collect()
    }

    #[test]
    fn an_unknown_key_is_reported_with_the_nearest_known_one() {
        let config = json!({"extensions": {"replication": {"replicationStatusTopik": "x", "zzzzz": 1}}});
        let found = found(&config);
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|(severity, ..)| *severity == Severity::Warning));
        assert!(found.iter().any(|(_, key, message)| key == "extensions.replication.replicationStatusTopik"
            && message.contains("`replicationStatusTopic`")));
    }

    #[test]
    fn a_wrong_value_is_named_with_its_rule() {
        let config = json!({"replicationGroupId": "RG1", "kafka": {"hosts": ""},
            "extensions": {"replication": {"queueProcessor": {"concurrency": 0},
                "replayTopics": [{"topicName": "t", "retries": "x"}]}}});
        let keys: Vec<String> = found(&config).into_iter().map(|(_, key, _)| key).collect();
        assert_eq!(
            keys,
            [
                "extensions.replication.queueProcessor.concurrency",
                "extensions.replication.replayTopics[0].retries",
                "kafka.hosts",
                "replicationGroupId"
            ]
        );
    }

    #[test]
    fn either_form_of_a_probe_server_is_taken() {
        for probe in [json!({"port": 4043}), json!([{"port": 4043, "site": "a"}])] {
            let config = json!({"queuePopulator": {"probeServer": probe}});
            assert_eq!(found(&config), []);
        }
        assert_eq!(found(&json!({"queuePopulator": {"probeServer": 7}})).len(), 1);
    }

    #[test]
    fn distances_are_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(nearest("hostz", ["hosts", "site"].into_iter()), Some("hosts"));
        assert_eq!(nearest("x", ["hosts", "site"].into_iter()), None);
    }
}
