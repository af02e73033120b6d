//! A registry of metrics and its text form, version 0.0.4 (decision D17).
//!
//! Names are wire names of dashboards and alerts that exist, so nothing is appended to them. One registry serves one
//! process; daemons in it tell their series apart by labels.

pub mod names;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations in buckets with these upper bounds.
    Histogram(&'static [f64]),
}

/// A metric: name, meaning and kind. Its labels are those of its series.
#[derive(Debug)]
pub struct Family {
    /// The name as scraped.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// What it is.
    pub kind: Kind,
}

type Labels = Vec<(&'static str, String)>;

#[derive(Debug)]
enum Value {
    Counter(u64),
    Gauge(f64),
    Histogram { counts: Vec<u64>, sum: f64 },
}

#[derive(Debug)]
struct Series {
    family: &'static Family,
    /// In the order of their labels, which are few: a series that is there is found without a copy of its labels.
    by_labels: Vec<(Labels, Value)>,
}

/// Metrics of a process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Registry(Arc<Mutex<BTreeMap<&'static str, Series>>>);

impl Registry {
    /// Adds to a counter.
    pub fn add(&self, family: &'static Family, labels: &[(&'static str, &str)], by: u64) {
        self.with(family, labels, |value| {
            if let Value::Counter(count) = value {
                *count = count.saturating_add(by);
            }
        });
    }

    /// Sets a gauge.
    pub fn set(&self, family: &'static Family, labels: &[(&'static str, &str)], to: f64) {
        self.with(family, labels, |value| {
            if let Value::Gauge(gauge) = value {
                *gauge = to;
            }
        });
    }

    /// Observes a value.
    pub fn observe(&self, family: &'static Family, labels: &[(&'static str, &str)], seen: f64) {
        self.with(family, labels, |value| {
            if let (Value::Histogram { counts, sum }, Kind::Histogram(bounds)) = (value, family.kind) {
                let bucket = bounds.iter().position(|&bound| seen <= bound).unwrap_or(bounds.len());
                counts[bucket] += 1;
                *sum += seen;
            }
        });
    }

    /// The value of a counter, for tests and the web page.
    pub fn counter(&self, family: &'static Family, labels: &[(&'static str, &str)]) -> u64 {
        let mut found = 0;
        self.with(family, labels, |value| {
            if let Value::Counter(count) = value {
                found = *count;
            }
        });
        found
    }

    /// All metrics as text.
    pub fn encode(&self) -> String {
        let series = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = String::new();
        for Series { family, by_labels } in series.values() {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            line(&mut out, format_args!("# HELP {} {}", family.name, family.help));
            line(&mut out, format_args!("# TYPE {} {kind}", family.name));
            for (labels, value) in by_labels {
                encode_series(&mut out, family, labels, value);
            }
        }
        out
    }

    fn with(
        &self,
        family: &'static Family,
        labels: &[(&'static str, &str)],
        change: impl FnOnce(&mut Value),
    ) {
        let mut series = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let series = series.entry(family.name).or_insert_with(|| Series { family, by_labels: Vec::new() });
        let found = series.by_labels.binary_search_by(|(known, _)| {
            known.iter().map(|(name, value)| (*name, value.as_str())).cmp(labels.iter().copied())
        });
        let index = found.unwrap_or_else(|index| {
            let labels = labels.iter().map(|&(name, value)| (name, value.to_owned())).collect();
            let value = match family.kind {
                Kind::Counter => Value::Counter(0),
                Kind::Gauge => Value::Gauge(0.0),
                Kind::Histogram(bounds) => Value::Histogram { counts: vec![0; bounds.len() + 1], sum: 0.0 },
            };
            series.by_labels.insert(index, (labels, value));
            index
        });
        change(&mut series.by_labels[index].1);
    }
}

fn encode_series(out: &mut String, family: &Family, labels: &Labels, value: &Value) {
    let name = family.name;
    match value {
        Value::Counter(count) => line(out, format_args!("{name}{} {count}", braces(labels, None))),
        Value::Gauge(gauge) => line(out, format_args!("{name}{} {gauge}", braces(labels, None))),
        Value::Histogram { counts, sum } => {
            let Kind::Histogram(bounds) = family.kind else { return };
            let mut total = 0;
            let bounds = bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
            for (bound, count) in bounds.zip(counts) {
                total += count;
                line(out, format_args!("{name}_bucket{} {total}", braces(labels, Some(&bound))));
            }
            line(out, format_args!("{name}_sum{} {sum}", braces(labels, None)));
            line(out, format_args!("{name}_count{} {total}", braces(labels, None)));
        }
    }
}

fn braces(labels: &Labels, bound: Option<&str>) -> String {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let labels = labels.iter().map(|(name, value)| (*name, value.as_str()));
    let pairs: Vec<String> = labels
        .chain(bound.map(|bound| ("le", bound)))
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
        .collect();
    if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    static OPS: Family = Family { name: "ops_total", help: "Operations.", kind: Kind::Counter };
    static LAG: Family = Family { name: "lag", help: "Lag.", kind: Kind::Gauge };
    static TIME: Family =
        Family { name: "time_seconds", help: "Time.", kind: Kind::Histogram(&[0.5, 1.0, 30.0]) };

    #[test]
    fn the_text_form_is_what_a_scraper_expects() {
        let registry = Registry::default();
        registry.add(&OPS, &[("site", "a\"b\\c\nd")], 2);
        registry.add(&OPS, &[("site", "a\"b\\c\nd")], 3);
        registry.set(&LAG, &[], 1.5);
        for seen in [0.5, 0.6, 31.0] {
            registry.observe(&TIME, &[("op", "get")], seen);
        }
        let expected = "# HELP lag Lag.\n# TYPE lag gauge\nlag 1.5\n\
            # HELP ops_total Operations.\n# TYPE ops_total counter\nops_total{site=\"a\\\"b\\\\c\\nd\"} 5\n\
            # HELP time_seconds Time.\n# TYPE time_seconds histogram\n\
            time_seconds_bucket{op=\"get\",le=\"0.5\"} 1\ntime_seconds_bucket{op=\"get\",le=\"1\"} 2\n\
            time_seconds_bucket{op=\"get\",le=\"30\"} 2\ntime_seconds_bucket{op=\"get\",le=\"+Inf\"} 3\n\
            time_seconds_sum{op=\"get\"} 32.1\ntime_seconds_count{op=\"get\"} 3\n";
        assert_eq!(registry.encode(), expected);
        assert_eq!(registry.counter(&OPS, &[("site", "a\"b\\c\nd")]), 5);
    }
}
