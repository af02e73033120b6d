//! A client that keeps writing whatever happens to the servers, and knows afterwards what must be there
//! (`tests/python/storm.py`).

use crate::client::script;
use crate::dev::Addresses;
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

/// `SplitMix64`: the plan of a seed is the same everywhere.
pub struct Random(pub u64);

impl Random {
    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// A number that the environment gives.
pub fn number(variable: &str) -> Result<Option<u64>> {
    let Some(text) = env::var_os(variable) else { return Ok(None) };
    let text = text.to_string_lossy();
    text.parse().map(Some).with_context(|| format!("{variable} is not a number: {text}"))
}

/// The seed that the environment gives, or a fresh one.
pub fn seed() -> Result<u64> {
    let fresh = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::from(since.subsec_micros())
    };
    Ok(number("BACKBEAT_SEED")?.unwrap_or_else(fresh))
}

/// The writing client.
pub struct Storm {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Storm {
    /// Starts it; it writes once this returns.
    pub fn start(addresses: &Addresses, seed: u64) -> Result<Self> {
        let mut command =
            script("storm.py", &["--seed", &seed.to_string(), "--settle-seconds", "300"], addresses)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("failed to start python3")?;
        let stdin = child.stdin.take().context("no standard input")?;
        let stdout = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut storm = Self { child, stdin, stdout };
        storm.expect("writing")?;
        Ok(storm)
    }

    /// Says so if it has ended.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the client ended: {status}"),
        }
    }

    /// Ends the writing.
    pub fn stop(&mut self) -> Result<()> {
        self.say("stop")?;
        self.expect("stopped")
    }

    /// Waits until everything has settled and compares it with what was promised; tells how many versions there are.
    ///
    /// # Errors
    /// Something is lost, doubled, reordered or PENDING.
    pub fn verify(&mut self) -> Result<u64> {
        self.say("verify")?;
        let report: Value = serde_json::from_str(&self.line()?).context("the report is not JSON")?;
        println!(
            "{} versions after {}, settled after {} s and compared after {} s more",
            report["versions"], report["ops"], report["settled_s"], report["compared_s"]
        );
        let wrong: Vec<&str> = report["wrong"]
            .as_array()
            .context("no list in the report")?
            .iter()
            .filter_map(Value::as_str)
            .collect();
        ensure!(
            wrong.is_empty(),
            "{} things are wrong:\n{}",
            wrong.len(),
            wrong[..wrong.len().min(40)].join("\n")
        );
        report["versions"].as_u64().context("no number of versions in the report")
    }

    fn say(&mut self, word: &str) -> Result<()> {
        writeln!(self.stdin, "{word}").context("the client does not listen")
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line).context("the client cannot be read")? == 0 {
            bail!("the client ended: {:?}", self.child.wait());
        }
        Ok(line.trim_end().to_owned())
    }

    fn expect(&mut self, word: &str) -> Result<()> {
        let line = self.line()?;
        ensure!(line == word, "the client said {line:?} instead of {word:?}");
        Ok(())
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        // Already ended in the good case; there is nothing to do about a failure here.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
