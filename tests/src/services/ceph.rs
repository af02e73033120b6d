//! A Ceph of a test's own, all in memory, with an object gateway: S3 that nobody here wrote.

use super::own::{Server, says};
use super::quiet_port;
use anyhow::{Context as _, Result, ensure};
use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// What the account of the tests signs with.
pub const CEPH_KEYS: (&str, &str) = ("ceph-test-key", "ceph-test-secret");

/// A monitor, one store in memory, a gateway.
pub struct OwnCeph {
    // In the order in which they are to end.
    _gateway: Server,
    _store: Server,
    _monitor: Server,
    _folder: tempfile::TempDir,
    port: u16,
}

/// Whether its programs are there, or what is missing.
pub fn ceph_programs() -> Result<(), String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_there = |program: &str| env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let programs =
        ["ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin"];
    match programs.into_iter().find(|program| !is_there(program)) {
        None => Ok(()),
        Some(program) => Err(format!("no {program} (./ci/test installs Debian's packages)")),
    }
}

impl OwnCeph {
    /// An empty one with an account.
    ///
    /// # Errors
    /// If one of its parts does not start.
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let place = folder.path();
        let (monitor_port, port) = (quiet_port()?, quiet_port()?);
        for part in ["mon", "osd", "rgw"] {
            fs::create_dir(place.join(part))?;
        }
        fs::write(place.join("ceph.conf"), configuration(place, monitor_port, port))?;

        let keyring = place.join("keyring");
        let keyring = keyring.to_str().context("a folder with a plain name")?;
        let everything = |part| ["--cap", part, "allow *"];
        run(
            place,
            "ceph-authtool",
            &[&["--create-keyring", keyring, "--gen-key", "-n", "mon."], &everything("mon")[..]].concat(),
        )?;
        let admin = ["mon", "osd"].map(everything).concat();
        run(place, "ceph-authtool", &[&[keyring, "--gen-key", "-n", "client.admin"], &admin[..]].concat())?;
        let map = place.join("monmap");
        let map = map.to_str().context("a folder with a plain name")?;
        let address = format!("[v2:127.0.0.1:{monitor_port}]");
        run(place, "monmaptool", &["--create", "--addv", "a", &address, "--fsid", CLUSTER, map])?;
        run(place, "ceph-mon", &["-i", "a", "--mkfs", "--monmap", map, "--keyring", keyring])?;

        let mut monitor = Server::new("ceph-mon", place);
        monitor.start(command(place, "ceph-mon", &["-i", "a", "-f"]))?;
        run(place, "ceph", &["--connect-timeout", "120", "osd", "create"])?;
        let key = run(
            place,
            "ceph",
            &["auth", "get-or-create", "osd.0", "mon", "allow profile osd", "osd", "allow *"],
        )?;
        fs::write(keyring, format!("{}\n{key}", fs::read_to_string(keyring)?))?;
        run(place, "ceph-osd", &["-i", "0", "--mkfs"])?;
        let mut store = Server::new("ceph-osd", place);
        store.start(command(place, "ceph-osd", &["-i", "0", "-f"]))?;
        let (access, secret) = CEPH_KEYS;
        let account = ["user", "create", "--uid=test", "--display-name=test"];
        let keys = [format!("--access-key={access}"), format!("--secret-key={secret}")];
        run(place, "radosgw-admin", &[&account[..], &keys.each_ref().map(String::as_str)].concat())?;

        let mut gateway = Server::new("radosgw", place);
        gateway.start(command(place, "radosgw", &["-n", "client.admin", "-f"]))?;
        gateway.wait_until(move || Ok(says(port, b"GET / HTTP/1.0\r\n\r\n", b"HTTP/")))?;
        Ok(Self { _gateway: gateway, _store: store, _monitor: monitor, _folder: folder, port })
    }

    /// Where its S3 is, `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// Any id will do: it is alone in its folder.
const CLUSTER: &str = "7f1e6f0e-5a0f-4d6e-9a54-0d6f0c3a9a11";

fn configuration(place: &Path, monitor_port: u16, port: u16) -> String {
    let place = place.display();
    format!(
        "[global]
fsid = {CLUSTER}
keyring = {place}/keyring
mon host = [v2:127.0.0.1:{monitor_port}]
mon initial members = a
mon data = {place}/mon
mon allow pool size one = true
mon max pg per osd = 1000
public addr = 127.0.0.1
osd data = {place}/osd
osd objectstore = memstore
memstore device bytes = 1073741824
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd crush chooseleaf type = 0
run dir = {place}
admin socket = {place}/$name.socket
log file = {place}/$name.log
[client.admin]
rgw data = {place}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port}
"
    )
}

fn command(place: &Path, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.arg("-c").arg(place.join("ceph.conf")).args(arguments).current_dir(place).stdin(Stdio::null());
    command
}

/// Runs a program to its end, and gives what it printed.
fn run(place: &Path, program: &str, arguments: &[&str]) -> Result<String> {
    // These two know nothing of configurations.
    let mut command = match program {
        "ceph-authtool" | "monmaptool" => {
            let mut command = Command::new(program);
            command.args(arguments).current_dir(place).stdin(Stdio::null());
            command
        }
        _ => command(place, program, arguments),
    };
    let output = command.output().with_context(|| format!("failed to run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {}", said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
