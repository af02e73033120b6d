//! Lists of commands that users type, kept as text, each with what it has to say.
//!
//! ```text
//! # a comment
//! $ a command: must succeed
//! > text that its output contains
//! $! a command that must fail
//! > text that its output contains
//! $~ a command that is repeated until it succeeds and its output contains what follows
//! > text
//! ```
//!
//! A command that ends in a backslash goes on in the next line.

use crate::client;
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a repeated command has until it is given up.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two repetitions.
const PAUSE: Duration = Duration::from_millis(200);

/// How a command has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Success,
    Failure,
    SuccessAtLast,
}

/// One command of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    line: usize,
    command: String,
    ending: Ending,
    says: Vec<String>,
}

/// Reads a list.
///
/// # Errors
/// A line that is none of the kinds above, named by its number.
pub fn parse(text: &str) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    let mut goes_on = false;
    for (line, text) in (1..).zip(text.lines()) {
        if goes_on {
            let step = steps.last_mut().context("a line that goes on comes after a command")?;
            goes_on = text.ends_with('\\');
            step.command.push_str(text.trim_end_matches('\\').trim_start());
            continue;
        }
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        if let Some(said) = text.strip_prefix("> ") {
            let step = steps.last_mut().with_context(|| format!("line {line}: no command before it"))?;
            step.says.push(said.to_owned());
            continue;
        }
        let kinds = [("$ ", Ending::Success), ("$! ", Ending::Failure), ("$~ ", Ending::SuccessAtLast)];
        let found = kinds.into_iter().find_map(|(mark, ending)| Some((text.strip_prefix(mark)?, ending)));
        let (command, ending) =
            found.with_context(|| format!("line {line}: neither command nor text: {text}"))?;
        goes_on = command.ends_with('\\');
        let command = command.trim_end_matches('\\').to_owned();
        steps.push(Step { line, command, ending, says: Vec::new() });
    }
    Ok(steps)
}

impl Step {
    /// What is wrong with how it ended, if something is.
    fn complaint(&self, has_succeeded: bool, output: &str) -> Option<String> {
        if has_succeeded == (self.ending == Ending::Failure) {
            return Some(if has_succeeded { "it succeeded" } else { "it failed" }.to_owned());
        }
        let missing = self.says.iter().find(|said| !output.contains(said.as_str()))?;
        Some(format!("it does not say {missing:?}"))
    }
}

/// Runs a list, one command after the other; answers how many there were.
///
/// # Errors
/// The first command that does not end as it has to, with what it said.
pub fn run(list: &Path, environment: &[(String, String)], directory: &Path) -> Result<usize> {
    let text = std::fs::read_to_string(list).with_context(|| format!("failed to read {}", list.display()))?;
    let steps = parse(&text).with_context(|| format!("{} cannot be understood", list.display()))?;
    ensure!(!steps.is_empty(), "{} has no command", list.display());
    for step in &steps {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut command = Command::new("timeout");
            command.args(["60", "sh", "-c", &format!("exec 2>&1; {}", step.command)]).current_dir(directory);
            client::without_own_settings(&mut command);
            command.envs(environment.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
            let output = command.output().context("failed to start sh")?;
            let said = String::from_utf8_lossy(&output.stdout);
            let Some(complaint) = step.complaint(output.status.success(), &said) else { break };
            if step.ending != Ending::SuccessAtLast || Instant::now() > deadline {
                bail!("{}:{}: {complaint}\n$ {}\n{said}", list.display(), step.line, step.command);
            }
            std::thread::sleep(PAUSE);
        }
    }
    Ok(steps.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_they_are_written() {
        let steps = parse("# c\n\n$ one \\\n  two\n> said\n$! three\n$~ four\n> x\n> y\n").unwrap();
        assert_eq!(steps.len(), 3);
        assert_eq!((steps[0].command.as_str(), steps[0].line), ("one two", 3));
        assert_eq!((steps[1].ending, steps[2].says.len()), (Ending::Failure, 2));
        assert!(parse("what").is_err());
        assert!(parse("> what").is_err());
    }

    #[test]
    fn a_command_is_judged_by_its_end_and_by_what_it_says() {
        let steps = parse("$ a\n> x\n$! b\n").unwrap();
        assert_eq!(steps[0].complaint(true, "axb"), None);
        assert!(steps[0].complaint(true, "ab").is_some());
        assert!(steps[0].complaint(false, "x").is_some());
        assert!(steps[1].complaint(true, "").is_some());
        assert_eq!(steps[1].complaint(false, ""), None);
    }
}
