//! The clients that people have, each running a written list against `backbeat dev`: the `aws` command line, `boto3`,
//! `rclone`. What they write at the source arrives equal at the targets.

use anyhow::{Context as _, Result, ensure};
use backbeat_tests::binary::{run, workspace};
use backbeat_tests::client::{aws, case_of, environment, python, rclone};
use backbeat_tests::commands;
use backbeat_tests::dev::{Dev, Place};
use backbeat_tests::suite::{self, Test};
use std::fs;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

/// The cases of `surface.py`.
const CASES: [&str; 8] = [
    "copies_arrive",
    "null_versions_arrive",
    "protection_arrives",
    "presigned_urls",
    "checksums_of_every_kind",
    "one_of_many_conditional_writers_wins",
    "listings_page_through_a_thousand_keys",
    "configurations_come_back",
];

/// The running server: started by the first test that needs it.
static SHARED: Mutex<Option<Shared>> = Mutex::new(None);

struct Shared {
    place: Place,
    directory: tempfile::TempDir,
    _dev: Dev,
}

fn main() -> ExitCode {
    let mut tests: Vec<Test> = CASES
        .into_iter()
        .map(|name| Test::new(name, python(), move || on_shared(|shared| boto3(shared, name))))
        .collect();
    let list = |file: &'static str| move || on_shared(|shared| on_list(shared, file));
    tests.push(Test::new("aws_s3_runs_its_list", aws(), list("aws-s3.txt")));
    tests.push(Test::new("aws_s3api_runs_its_list", aws(), list("aws-s3api.txt")));
    tests.push(Test::new("rclone_runs_its_list_and_finds_sites_equal", rclone(), rclone_list));
    tests.push(Test::new("rclone_finds_the_sites_equal_after_the_demo", rclone(), after_the_demo));
    let exit = suite::run(tests);
    // Statics are never dropped, processes have to be ended.
    drop(SHARED.lock().unwrap_or_else(PoisonError::into_inner).take());
    exit
}

fn on_shared(test: impl FnOnce(&Shared) -> Result<()>) -> Result<()> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if shared.is_none() {
        let directory = tempfile::tempdir().context("failed to make a directory")?;
        let mut place = Place::new(directory.path());
        let dev = place.start_ready()?;
        *shared = Some(Shared { place, directory, _dev: dev });
    }
    test(shared.as_ref().context("the server was started just before")?)
}

fn boto3(shared: &Shared, name: &str) -> Result<()> {
    case_of("surface.py", name, shared.place.addresses()?)
}

fn on_list(shared: &Shared, file: &str) -> Result<()> {
    let folder = shared.directory.path().join(file);
    fs::create_dir(&folder).context("failed to make a directory")?;
    let list = workspace().join("tests/clients").join(file);
    let commands = commands::run(&list, &environment(shared.place.addresses()?), &folder)?;
    println!("{file}: {commands} commands");
    Ok(())
}

fn rclone_list() -> Result<()> {
    on_shared(|shared| {
        boto3(shared, "a_pair_of_buckets_for_rclone")?;
        on_list(shared, "rclone.txt")
    })
}

fn after_the_demo() -> Result<()> {
    let directory = tempfile::tempdir().context("failed to make a directory")?;
    let mut place = Place::new(directory.path());
    let data = place.data().display().to_string();
    let output = run(&["demo", "--json", "--objects", "40", "--data-dir", &data], "")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the demo ended with {}: {said}", output.status);
    let dev = place.start_ready()?;
    fs::write(
        directory.path().join("keys"),
        "- /*\\\\*\n- **//**\n- **/./**\n- **/../**\n- /./**\n- /../**\n",
    )
    .context("failed to write the filter")?;
    let list = workspace().join("tests/clients/rclone-demo.txt");
    commands::run(&list, &environment(place.addresses()?), directory.path())?;
    dev.kill()
}
