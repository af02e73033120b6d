//! The table of what becomes of every case of a suite that others wrote: `tests/clients/versitygw.txt`.
//!
//! ```text
//! # a comment
//! NAME  pass
//! NAME  fails: why it is left out
//! NAME  not run: why it is left out
//! START*  not run: why all cases whose names start so are left out
//! ```

use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;

/// What the table says about a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has to pass.
    Pass,
    /// It has to fail: once it passes, the table is out of date.
    Fails,
    /// It says nothing about this site.
    NotRun,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    cases: BTreeMap<String, Verdict>,
    not_run: Vec<String>,
}

impl Table {
    /// Reads a table.
    ///
    /// # Errors
    /// A line of another form, or a case that is named twice: with the number of the line.
    pub fn parse(text: &str) -> Result<Self> {
        let mut table = Self { cases: BTreeMap::new(), not_run: Vec::new() };
        for (number, line) in (1..).zip(text.lines()) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, rest) =
                line.split_once(' ').with_context(|| format!("line {number} says nothing: {line}"))?;
            let verdict = match rest.trim().split_once(": ") {
                None if rest.trim() == "pass" => Verdict::Pass,
                Some(("fails", reason)) if !reason.trim().is_empty() => Verdict::Fails,
                Some(("not run", reason)) if !reason.trim().is_empty() => Verdict::NotRun,
                Some(_) | None => bail!("line {number} is neither pass, nor fails or not run with a reason"),
            };
            if let Some(start) = name.strip_suffix('*') {
                ensure!(
                    verdict == Verdict::NotRun,
                    "line {number}: only what is not run is named by its start"
                );
                table.not_run.push(start.to_owned());
            } else if table.cases.insert(name.to_owned(), verdict).is_some() {
                bail!("line {number} names {name} again");
            }
        }
        Ok(table)
    }

    /// The cases to run.
    pub fn to_run(&self) -> impl Iterator<Item = &str> {
        self.cases.iter().filter(|(_, verdict)| **verdict != Verdict::NotRun).map(|(name, _)| name.as_str())
    }

    /// How many cases have to pass.
    pub fn passes(&self) -> usize {
        self.cases.values().filter(|verdict| **verdict == Verdict::Pass).count()
    }

    /// Where the suite has other cases than the table.
    pub fn compare_names(&self, suite: &[String]) -> Vec<String> {
        let is_named = |name: &String| {
            self.cases.contains_key(name) || self.not_run.iter().any(|start| name.starts_with(start))
        };
        let unknown =
            suite.iter().filter(|name| !is_named(name)).map(|name| format!("{name} is not in the table"));
        let gone = self
            .cases
            .keys()
            .filter(|name| !suite.contains(name))
            .map(|name| format!("{name} is in the table, the suite has no such case"));
        unknown.chain(gone).collect()
    }

    /// Where the results are others than the table says: names of cases with why they failed, or nothing.
    pub fn compare_results(&self, results: &BTreeMap<String, String>) -> Vec<String> {
        let complaint = |(name, verdict): (&String, &Verdict)| {
            let why = results.get(name).map(String::as_str);
            match (verdict, why) {
                (Verdict::NotRun, _) => None,
                (_, None) => Some(format!("{name} has no result")),
                (Verdict::Pass, Some(why)) => (!why.is_empty()).then(|| format!("{name}: {why}")),
                (Verdict::Fails, Some(why)) => {
                    why.is_empty().then(|| format!("{name} passes now: say so in the table"))
                }
            }
        };
        self.cases.iter().filter_map(complaint).collect()
    }
}

/// Reads results: lines of a name, a tab, and nothing or why the case failed.
///
/// # Errors
/// A line without a tab.
pub fn results(text: &str) -> Result<BTreeMap<String, String>> {
    text.lines()
        .map(|line| {
            let (name, why) = line.split_once('\t').with_context(|| format!("no result: {line}"))?;
            Ok((name.to_owned(), why.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str =
        "# all\na pass\nb fails: it differs\nc not run: it hangs\n\nX* not run: other service\n";

    #[test]
    fn a_table_is_held_against_names_and_results_both_ways() {
        let table = Table::parse(TABLE).unwrap();
        assert_eq!(table.to_run().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(table.passes(), 1);
        let names = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(table.compare_names(&names("a b c Xa Xb")).is_empty());
        assert_eq!(table.compare_names(&names("a b d")).len(), 2);
        let complaints = |text: &str| table.compare_results(&results(text).unwrap());
        assert!(complaints("a\t\nb\tno").is_empty());
        assert_eq!(complaints("a\tno\nb\tno"), ["a: no"]);
        assert_eq!(complaints("a\t\nb\t"), ["b passes now: say so in the table"]);
        assert_eq!(complaints("a\t"), ["b has no result"]);
    }

    #[test]
    fn what_is_left_out_has_a_reason() {
        for wrong in ["a", "a fails", "a fails: ", "a maybe: so", "a pass\na pass", "A* pass"] {
            assert!(Table::parse(wrong).is_err(), "{wrong}");
        }
    }
}
