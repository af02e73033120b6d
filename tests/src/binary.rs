//! The binaries under test.

use anyhow::{Context, Result, bail};
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_path_buf()
}

/// The binary `backbeat`, built if need be.
pub fn backbeat() -> Result<PathBuf> {
    built("backbeat", "BACKBEAT_BIN")
}

/// The binary `backbeat-sim`, built if need be.
pub fn backbeat_sim() -> Result<PathBuf> {
    built("backbeat-sim", "BACKBEAT_SIM_BIN")
}

/// The binary of package `name`: the one that the environment names, else the one of the same profile as this suite.
fn built(name: &str, variable: &str) -> Result<PathBuf> {
    if let Some(path) = env::var_os(variable) {
        return Ok(PathBuf::from(path));
    }
    let suite = env::current_exe().context("failed to find the path of this suite")?;
    let profile = profile(&suite).context("the suite lies outside of a target directory")?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(workspace()).args(["build", "--quiet", "--package", name, "--bin", name]);
    cargo.arg("--target-dir").arg(profile.parent().context("no target directory")?);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.status().context("failed to start cargo")?;
    if !status.success() {
        bail!("cannot build {name}: {status}");
    }
    Ok(profile.join(name))
}

/// The directory of the profile that the program `path` was built with: .../target/PROFILE/deps/SUITE, or
/// .../target/PROFILE/PROGRAM.
fn profile(path: &Path) -> Option<&Path> {
    let directory = path.parent()?;
    if directory.ends_with("deps") { directory.parent() } else { Some(directory) }
}

/// Runs `backbeat` with `arguments` and `input`, to its end.
pub fn run(arguments: &[&str], input: &str) -> Result<Output> {
    use std::io::Write as _;
    use std::process::Stdio;
    let mut child = Command::new(backbeat()?)
        .args(arguments)
        .current_dir(workspace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("failed to start backbeat")?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    let input = input.to_owned();
    // A thread of its own: the process may fill its output before it has read all of its input.
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().context("failed to wait for backbeat")?;
    // A process that ends without reading its input is fine; what it says is judged by the caller.
    drop(writer.join());
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_and_programs_find_the_profile_they_were_built_with() {
        for path in ["/target/release/deps/cli-0123", "/target/release/bench"] {
            assert_eq!(profile(Path::new(path)), Some(Path::new("/target/release")), "{path}");
        }
    }
}
