//! `backbeat dev` and a real client: what is written at the source arrives at every site, equal.

use anyhow::{Context as _, Result, ensure};
use backbeat_tests::backlog::Backlog;
use backbeat_tests::binary::{run, workspace};
use backbeat_tests::client::{aws, case, python};
use backbeat_tests::dev::Place;
use backbeat_tests::suite::{self, Test};
use serde_json::Value;
use std::env;
use std::fs;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The cases of `cases.py` that share one running server.
const CASES: [&str; 7] = [
    "versions_tags_and_markers",
    "sizes_and_multipart",
    "awkward_keys",
    "storage_class_names_the_sites",
    "only_what_the_rule_names",
    "a_bad_destination_fails",
    "errors_have_the_codes_of_s3",
];

/// The running server of the cases: started by the first one that needs it.
static SHARED: Mutex<Option<Shared>> = Mutex::new(None);

struct Shared {
    place: Place,
    _dev: backbeat_tests::dev::Dev,
    _directory: tempfile::TempDir,
}

fn main() -> ExitCode {
    let mut tests: Vec<Test> =
        CASES.into_iter().map(|name| Test::new(name, python(), move || on_shared(name))).collect();
    tests.push(Test::new("state_survives_a_restart_and_sigterm_ends_with_0", python(), restart));
    tests.push(Test::new("a_large_object_is_streamed_within_64_mib_of_memory", python(), large));
    tests.push(Test::new("waiting_entries_take_no_memory", Ok::<(), String>(()), waiting));
    tests.push(Test::new("the_demo_proves_equality_and_tells_a_difference", python(), demo_twice));
    tests.push(Test::new("data_is_copied_while_it_is_in_use_and_damage_is_found", python(), data));
    tests.push(Test::new("the_quick_start_of_the_readme_works", aws(), quick_start));
    let exit = suite::run(tests);
    // Statics are never dropped, processes have to be ended.
    drop(SHARED.lock().unwrap_or_else(PoisonError::into_inner).take());
    exit
}

/// Memory above the idle process that an object of any size may take.
const MEMORY_MAX: u64 = 64 << 20;

fn large() -> Result<()> {
    let directory = tempfile::tempdir().context("failed to make a directory")?;
    let mut place = Place::new(directory.path());
    let dev = place.start_ready()?;
    // Idle means: it has done everything once.
    case("a_small_object", place.addresses()?)?;
    let idle = dev.memory("VmRSS:")?;
    case("a_large_object", place.addresses()?)?;
    let peak = dev.memory("VmHWM:")?;
    let above = peak.saturating_sub(idle);
    println!("{} KiB idle, at most {} KiB above it", idle >> 10, above >> 10);
    ensure!(
        above <= MEMORY_MAX,
        "{} KiB above the idle process, {} KiB are allowed",
        above >> 10,
        MEMORY_MAX >> 10
    );
    dev.kill()
}

/// What the process may take however many entries wait.
const WAITING_MEMORY_MAX: u64 = 100 << 20;
const WAITING: u32 = 20_000;

fn waiting() -> Result<()> {
    let directory = tempfile::tempdir().context("failed to make a directory")?;
    let mut place = Place::with_site_names_of_ports(directory.path());
    let dev = place.start_ready()?;
    let addresses = place.addresses()?.clone();
    tokio::runtime::Runtime::new().context("failed to start a runtime")?.block_on(async {
        let mut backlog = Backlog::prepare(&addresses).await?;
        backlog.tell("pause").await?;
        backlog.grow(WAITING).await?;
        backlog.queued(WAITING.into()).await
    })?;
    let (now, peak) = (dev.memory("VmRSS:")?, dev.memory("VmHWM:")?);
    println!("{WAITING} entries wait: {} KiB, at most {} KiB before", now >> 10, peak >> 10);
    ensure!(now <= WAITING_MEMORY_MAX, "{} KiB, {} KiB are allowed", now >> 10, WAITING_MEMORY_MAX >> 10);
    dev.kill()
}

/// The demo, damage to one replica, the demo again on the same data.
fn demo_twice() -> Result<()> {
    let directory = tempfile::tempdir().context("failed to make a directory")?;
    let mut place = Place::new(directory.path());
    let data = place.data().display().to_string();
    let demo = ["demo", "--json", "--objects", "12", "--data-dir", &data];

    let output = run(&demo, "")?;
    ensure!(
        output.status.code() == Some(0),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let receipt: Value =
        serde_json::from_slice(&output.stdout).context("the receipt is not one line of JSON")?;
    ensure!(receipt["verified"] == true && receipt["copies"] == receipt["copies_equal"], "{receipt}");
    ensure!(receipt["keys"] == 12 && receipt["sites"][1]["failed"] == 0, "{receipt}");

    let dev = place.start_ready()?;
    case("damage_a_replica", place.addresses()?)?;
    dev.kill()?;

    let output = run(&demo, "")?;
    ensure!(output.status.code() == Some(3), "damage went unnoticed: {}", output.status);
    let receipt: Value =
        serde_json::from_slice(&output.stdout).context("the receipt is not one line of JSON")?;
    let differences = receipt["differences"].as_array().context("no differences in the receipt")?;
    ensure!(differences.len() == 1, "one difference was made, told are {differences:?}");
    ensure!(differences[0]["what"].as_str().is_some_and(|what| what.contains("damaged")), "{differences:?}");
    Ok(())
}

/// The block of the README that a reader pastes, on ports of its own.
fn quick_start() -> Result<()> {
    let readme = fs::read_to_string(workspace().join("README.md")).context("failed to read README.md")?;
    let start = readme.find("export AWS_ACCESS_KEY_ID").context("README.md has no quick start")?;
    let block = readme[start..].split("```").next().context("the quick start has no end")?;

    let directory = tempfile::tempdir().context("failed to make a directory")?;
    let mut place = Place::with_site_names_of_ports(directory.path());
    let dev = place.start_ready()?;
    let ports = place.ports();
    let block =
        block.replace("8000", &ports.source.to_string()).replace("8001", &ports.targets[0].to_string());
    // What the reader does by looking again after a moment.
    let script = format!(
        "set -eu\n{block}\nuntil $source head-object --bucket photos --key readme --query ReplicationStatus | \
         grep COMPLETED; do sleep 0.2; done\n$target list-object-versions --bucket photos-copy | grep '\"readme\"'\n"
    );
    let mut command = Command::new("timeout");
    command.args(["60", "sh", "-c", &script]).current_dir(workspace()).stdin(Stdio::null());
    let tools = aws().map_err(anyhow::Error::msg)?;
    command.env("PATH", format!("{}:{}", tools.display(), env::var("PATH").unwrap_or_default()));
    command.env("AWS_CONFIG_FILE", "/dev/null").env("AWS_PAGER", "");
    let output = command.output().context("failed to start sh")?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{}:\n{}", output.status, String::from_utf8_lossy(&said));
    dev.kill()
}

fn on_shared(name: &str) -> Result<()> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if shared.is_none() {
        let directory = tempfile::tempdir().context("failed to make a directory")?;
        let mut place = Place::new(directory.path());
        let dev = place.start_ready()?;
        *shared = Some(Shared { place, _dev: dev, _directory: directory });
    }
    let shared = shared.as_ref().context("the server was started just before")?;
    case(name, shared.place.addresses()?)
}

fn restart() -> Result<()> {
    let directory = tempfile::tempdir().context("failed to make a directory")?;
    let mut place = Place::new(directory.path());
    let dev = place.start_ready()?;
    case("written_before_a_restart", place.addresses()?)?;
    let status = dev.terminate(Duration::from_secs(30))?;
    ensure!(status.code() == Some(0), "SIGTERM ended dev with {status}");
    let dev = place.start_ready()?;
    case("arrives_after_a_restart", place.addresses()?)?;
    dev.kill()
}

/// A backup of a running stack, taken over by another one, then damaged.
fn data() -> Result<()> {
    let (first, second) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut place = Place::new(first.path());
    let dev = place.start_ready()?;
    case("written_before_a_restart", place.addresses()?)?;
    let mut copy = Place::new(second.path());
    let (data, copied) = (place.data().display().to_string(), copy.data().display().to_string());
    let api = place.addresses()?.api.clone().context("dev has an API")?;
    let told = |arguments: &[&str], code: i32| -> Result<String> {
        let output = run(arguments, "")?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(output.status.code() == Some(code), "{arguments:?}: {}: {said}", output.status);
        Ok(said)
    };
    told(&["data", "check", "--data-dir", &data], 5)?;
    told(&["data", "backup", &copied, "--api", &api], 0)?;
    let twice = told(&["data", "backup", &copied, "--api", &api], 2)?;
    ensure!(twice.contains("exists already"), "{twice}");
    dev.kill()?;
    for data in [&data, &copied] {
        let said = told(&["data", "check", "--data-dir", data], 0)?;
        ensure!(said.contains(": 0 damaged"), "{said}");
    }
    let dev = copy.start_ready()?;
    case("arrives_after_a_restart", copy.addresses()?)?;
    ensure!(dev.terminate(Duration::from_secs(30))?.code() == Some(0), "the copy did not stop cleanly");

    let mut folders = fs::read_dir(copy.data().join("source/data"))?;
    let file = folders.find_map(|folder| fs::read_dir(folder.ok()?.path()).ok()?.next()?.ok());
    let file = file.context("the source has no data file")?.path();
    fs::write(&file, "damage")?;
    let said = told(&["data", "check", "--json", "--data-dir", &copied], 3)?;
    let found: Value = serde_json::from_str(&said).context("the answer is not one line of JSON")?;
    let shown = found["problems"][0]["file"].as_str().unwrap_or_default();
    ensure!(shown == file.display().to_string(), "{found}");
    fs::write(copy.data().join("FORMAT"), "backbeat data directory 99\n")?;
    told(&["data", "check", "--data-dir", &copied], 6)?;
    let refused = told(
        &[
            "dev",
            "--json",
            "--data-dir",
            &copied,
            "--source-port",
            "0",
            "--target-port",
            "0",
            "--api-port",
            "0",
        ],
        1,
    )?;
    ensure!(refused.contains("use the newer version that wrote it"), "{refused}");
    told(&["data", "check", "--data-dir", "/nonexistent"], 4)?;
    Ok(())
}
