//! The clients that people have, each running a written list against `backbeat dev`: the `aws` command line, `boto3`,
//! `rclone`. What they write at the source arrives equal at the targets.

use anyhow::{Context as _, Result, ensure};
use backbeat_tests::binary::{run, workspace};
use backbeat_tests::cases::{self, Table};
use backbeat_tests::client::{self, aws, case_of, environment, python, rclone, versitygw};
use backbeat_tests::commands;
use backbeat_tests::dev::{Dev, Place};
use backbeat_tests::suite::{self, Test};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long the cases of versitygw's suite may take together.
const CASES_TIME_MAX: Duration = Duration::from_mins(5);

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
    tests.push(Test::new("a_json_schema_refuses_what_config_check_refuses", python(), schema));
    tests.push(Test::new("versitygw_finds_what_its_table_says", versitygw(), versitygw_cases));
    let exit = suite::run(tests);
    // Statics are never dropped, processes have to be ended.
    drop(SHARED.lock().unwrap_or_else(PoisonError::into_inner).take());
    exit
}

/// Configurations that are right and wrong in one place each.
const CONFIGURATIONS: [&str; 14] = [
    "{}",
    r#"{"unknown": 1}"#,
    r#"{"replicationGroupId": "RG001  "}"#,
    r#"{"replicationGroupId": "short"}"#,
    r#"{"zookeeper": {"connectionString": ""}}"#,
    r#"{"kafka": {"partitions": 0}}"#,
    r#"{"kafka": {"partitions": 4.5}}"#,
    r#"{"queuePopulator": {"logSource": "nowhere"}}"#,
    r#"{"queuePopulator": {"probeServer": [{"port": 0}]}}"#,
    r#"{"queuePopulator": {"probeServer": [{"site": "a"}]}}"#,
    r#"{"redis": {"sentinels": "one:1,two:2"}}"#,
    r#"{"redis": {"sentinels": [{"host": "one"}]}}"#,
    r#"{"extensions": {"replication": {"destination": {"bootstrapList": [{"site": "a", "type": "s3"}]}}}}"#,
    r#"{"extensions": {"replication": {"destination": {"bootstrapList": [{"servers": []}]}}}}"#,
];

/// The schema is held against configurations by a library that people use.
fn schema() -> Result<()> {
    let directory = tempfile::tempdir().context("failed to make a directory")?;
    let schema = directory.path().join("schema.json");
    fs::write(&schema, run(&["config", "schema"], "")?.stdout)?;
    let file = directory.path().join("config.json");
    let (mut right, mut wrong) = (0, 0);
    for configuration in CONFIGURATIONS {
        fs::write(&file, configuration)?;
        let name = file.to_str().context("a folder with a plain name")?;
        let is_right = run(&["config", "check", "--config", name], "")?.status.success();
        let mut command = Command::new(python().map_err(anyhow::Error::msg)?);
        command.args(["-m", "jsonschema", "-i"]).arg(&file).arg(&schema);
        let output = command.stdin(Stdio::null()).output().context("failed to run jsonschema")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() || !said.contains("No module"), "{said}");
        ensure!(
            output.status.success() == is_right,
            "{configuration} is right: {is_right}; the schema: {said}"
        );
        *(if is_right { &mut right } else { &mut wrong }) += 1;
    }
    ensure!(right >= 5 && wrong >= 5, "{right} are right and {wrong} are wrong");
    Ok(())
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

fn versitygw_cases() -> Result<()> {
    let program = versitygw().map_err(anyhow::Error::msg)?;
    let list = workspace().join("tests/clients/versitygw.txt");
    let table = fs::read_to_string(&list).with_context(|| format!("failed to read {}", list.display()))?;
    let table = Table::parse(&table).with_context(|| format!("{} is no table", list.display()))?;
    let names = Command::new(&program).output().context("failed to start versitygw-cases")?;
    let names: Vec<String> = String::from_utf8_lossy(&names.stdout).lines().map(str::to_owned).collect();
    let mut complaints = table.compare_names(&names);

    // A site of its own: some cases look at all buckets there are.
    let directory = tempfile::tempdir().context("failed to make a directory")?;
    let mut place = Place::new(directory.path());
    let dev = place.start_ready()?;
    let results = results_of(&program, &table, &place.addresses()?.source, directory.path())?;
    complaints.extend(table.compare_results(&cases::results(&results)?));
    dev.kill()?;
    ensure!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
    println!("versitygw: {} cases run, {} have to pass and do", table.to_run().count(), table.passes());
    Ok(())
}

/// What the cases of a table that are run say, one line each.
fn results_of(program: &Path, table: &Table, source: &str, folder: &Path) -> Result<String> {
    let (asked, answered) = (folder.join("cases"), folder.join("results"));
    fs::write(&asked, table.to_run().collect::<Vec<_>>().join("\n")).context("failed to write the cases")?;
    let open = |path: &Path| File::open(path).context("failed to open the cases");
    let create = |path: &Path| File::create(path).context("failed to make a file for results");
    let mut command = Command::new(program);
    command.args([&format!("http://{source}"), "backbeat-dev", "backbeat-dev-secret"]);
    command.stdin(open(&asked)?).stdout(create(&answered)?).stderr(Stdio::null());
    client::without_own_settings(&mut command);
    let mut child = command.spawn().context("failed to start versitygw-cases")?;
    let deadline = Instant::now() + CASES_TIME_MAX;
    while child.try_wait()?.is_none() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    if child.try_wait()?.is_none() {
        child.kill().context("failed to end versitygw-cases")?;
    }
    let status = child.wait().context("failed to wait for versitygw-cases")?;
    let results = fs::read_to_string(&answered).context("failed to read the results")?;
    ensure!(status.success(), "versitygw-cases ended with {status} after {} cases", results.lines().count());
    Ok(results)
}
