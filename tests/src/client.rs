//! The real clients: Python scripts that use `boto3`, the `aws` command line, `rclone`.

use crate::binary::workspace;
use crate::dev::Addresses;
use anyhow::{Context, Result, bail};
use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A Python that has `boto3`, or what is missing.
pub fn python() -> Result<PathBuf, String> {
    let candidates = match env::var_os("BACKBEAT_PYTHON") {
        Some(path) => vec![PathBuf::from(path)],
        None => vec![workspace().join("target/venv/bin/python3"), PathBuf::from("python3")],
    };
    let has_boto3 = |python: &PathBuf| {
        let mut command = Command::new(python);
        command.args(["-c", "import boto3"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    candidates
        .into_iter()
        .find(has_boto3)
        .ok_or_else(|| "no python3 with boto3 (./ci/test installs one into target/venv)".to_owned())
}

/// The directory of an `aws` command, or what is missing: beside that Python, else on the path.
pub fn aws() -> Result<PathBuf, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let beside = python().ok().and_then(|python| Some(python.parent()?.to_path_buf()));
    beside
        .into_iter()
        .chain(env::split_paths(&path))
        .find(|folder| folder.join("aws").is_file())
        .ok_or_else(|| "no aws command (./ci/test installs one into target/venv)".to_owned())
}

/// The program of a moto that serves, or what is missing: beside that Python, else on the path.
pub fn moto() -> Result<PathBuf, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let beside = python().ok().and_then(|python| Some(python.parent()?.to_path_buf()));
    beside
        .into_iter()
        .chain(env::split_paths(&path))
        .map(|folder| folder.join("moto_server"))
        .find(|program| program.is_file())
        .ok_or_else(|| "no moto_server (./ci/test installs one into target/venv)".to_owned())
}

/// The directory of an `rclone` command, or what is missing.
pub fn rclone() -> Result<PathBuf, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .find(|folder| folder.join("rclone").is_file())
        .ok_or_else(|| "no rclone command (./ci/test installs the Debian package)".to_owned())
}

/// The program that runs the cases of versitygw's suite, or what is missing.
pub fn versitygw() -> Result<PathBuf, String> {
    let program = workspace().join("target/go/bin/versitygw-cases");
    if program.is_file() {
        return Ok(program);
    }
    Err("no versitygw-cases (./ci/test builds it into target/go)".to_owned())
}

/// Takes away settings of the user's own that would take part: no client reads them. rclone refuses to run with a bundle of
/// certificates and plain HTTP.
pub fn without_own_settings(command: &mut Command) {
    for name in
        ["AWS_CA_BUNDLE", "AWS_PROFILE", "AWS_SESSION_TOKEN", "HTTP_PROXY", "http_proxy", "RCLONE_CONFIG_DIR"]
    {
        command.env_remove(name);
    }
}

/// Everything that the lists of commands in `tests/clients` find in their environment: keys, the addresses of the sites
/// under their names, and a remote of rclone for each.
pub fn environment(addresses: &Addresses) -> Vec<(String, String)> {
    let mut variables = vec![
        ("AWS_ACCESS_KEY_ID".to_owned(), "backbeat-dev".to_owned()),
        ("AWS_SECRET_ACCESS_KEY".to_owned(), "backbeat-dev-secret".to_owned()),
        ("AWS_DEFAULT_REGION".to_owned(), "us-east-1".to_owned()),
        ("AWS_ENDPOINT_URL".to_owned(), format!("http://{}", addresses.source)),
        ("AWS_CONFIG_FILE".to_owned(), "/dev/null".to_owned()),
        ("AWS_SHARED_CREDENTIALS_FILE".to_owned(), "/dev/null".to_owned()),
        ("AWS_PAGER".to_owned(), String::new()),
        ("AWS_MAX_ATTEMPTS".to_owned(), "1".to_owned()),
        ("LC_ALL".to_owned(), "C.UTF-8".to_owned()),
        ("RCLONE_CONFIG".to_owned(), "/dev/null".to_owned()),
    ];
    if let Ok(folder) = aws() {
        let path = env::var("PATH").unwrap_or_default();
        variables.push(("PATH".to_owned(), format!("{}:{path}", folder.display())));
    }
    let targets = addresses.targets.iter().map(|(site, address)| (site.as_str(), address));
    for (site, address) in targets.chain([("source", &addresses.source)]) {
        let name = site.to_ascii_uppercase();
        let url = format!("http://{address}");
        variables.push((name.clone(), url.clone()));
        for (setting, value) in [
            ("TYPE", "s3"),
            ("PROVIDER", "Other"),
            ("ACCESS_KEY_ID", "backbeat-dev"),
            ("SECRET_ACCESS_KEY", "backbeat-dev-secret"),
            ("REGION", "us-east-1"),
            ("FORCE_PATH_STYLE", "true"),
            ("ENDPOINT", &url),
        ] {
            variables.push((format!("RCLONE_CONFIG_{name}_{setting}"), value.to_owned()));
        }
    }
    variables
}

/// A script of `tests/python`, told where the sites are.
pub fn script(name: &str, arguments: &[&str], addresses: &Addresses) -> Result<Command> {
    let python = python().map_err(anyhow::Error::msg)?;
    let mut command = Command::new(python);
    command.arg("-u").arg(workspace().join("tests/python").join(name)).args(arguments);
    command.arg("--source").arg(format!("http://{}", addresses.source));
    for (site, endpoint) in &addresses.targets {
        command.arg("--target").arg(format!("{site}=http://{endpoint}"));
    }
    // Nothing of the user's own configuration takes part.
    for variable in ["AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN", "HTTP_PROXY", "http_proxy"] {
        command.env_remove(variable);
    }
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("AWS_CONFIG_FILE", "/dev/null").stdin(Stdio::null());
    Ok(command)
}

/// Runs a case of `cases.py`.
pub fn case(name: &str, addresses: &Addresses) -> Result<()> {
    case_of("cases.py", name, addresses)
}

/// Runs a case of a script in `tests/python`.
pub fn case_of(file: &str, name: &str, addresses: &Addresses) -> Result<()> {
    let output = script(file, &[name], addresses)?.output().context("failed to start python3")?;
    if !output.status.success() {
        bail!("{name}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
