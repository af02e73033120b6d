//! Failing runs become small plans; small plans that were kept still show what they show.

#![expect(clippy::disallowed_methods, reason = "files are handed to the program; worlds do no I/O")]

use std::process::{Command, Output};

use backbeat_sim::hunt;
use backbeat_sim::mutants::Planted;
use backbeat_sim::plan::text::{self, Regression};
use backbeat_sim::runner;
use backbeat_sim::scenario::Scenario;
use backbeat_sim::shrink::shrink;

/// The first seed that catches the bug, shrunk, must have no more operations and faults than this.
fn assert_shrinks(planted: Planted, operations_max: usize, faults_max: usize) {
    let caught = hunt::hunt(planted, 0..200).expect("the bug is caught");
    let drawn = hunt::run(planted, Scenario::Standard, caught.seed, false);
    assert!(drawn.plan.size() > operations_max + faults_max, "there is something to shrink");
    let mut run = |plan: &_| hunt::run_plan(planted, plan, false);
    let shrunk = shrink(&drawn.plan, 4_000, &mut run).expect("a recorded run fails as its seed did");
    assert_eq!(shrunk.violation.id, caught.violation.id);
    let (operations, faults) = (
        shrunk.plan.operations.len() + shrunk.plan.fresh.len(),
        shrunk.plan.strikes.len() + shrunk.plan.measures.len(),
    );
    assert!(operations <= operations_max, "{}: {operations} operations", planted.name());
    assert!(faults <= faults_max, "{}: {faults} faults", planted.name());

    // Through its file it is the same run, every time, and without the bug everything holds.
    let written = Regression {
        plan: shrunk.plan.clone(),
        mutant: Some(planted),
        breaks: Some(shrunk.violation.id.to_owned()),
    };
    let read = text::read(&text::write(&written, "")).expect("what was written is readable");
    assert_eq!(read, written);
    let (first, second) = (run(&read.plan), run(&read.plan));
    assert_eq!(first.violation, Some(shrunk.violation));
    assert_eq!(first.hash, second.hash);
    assert_eq!(runner::run_plan(&read.plan, false).violation, None);
}

#[test]
fn planted_bugs_shrink_to_a_few_operations_and_faults() {
    for (planted, operations, faults) in [
        (Planted::NoLanes, 4, 2),
        (Planted::TimeoutIsSuccess, 4, 8),
        (Planted::SilentLoss, 10, 4),
        (Planted::NullOverNewer, 6, 2),
        (Planted::DeferMinted, 6, 4),
    ] {
        assert_shrinks(planted, operations, faults);
    }
}

#[test]
fn kept_plans_show_what_they_say() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("the folder is readable").path();
        let regression = std::fs::read_to_string(&path).expect("the file is readable");
        let regression =
            text::read(&regression).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // Those without a planted bug broke something before the engine was mended.
        if let Some(planted) = regression.mutant {
            let violation = hunt::run_plan(planted, &regression.plan, false).violation;
            let id = violation.map(|violation| violation.id.to_owned());
            assert_eq!(id, regression.breaks, "{}", path.display());
        }
        assert_eq!(runner::run_plan(&regression.plan, false).violation, None, "{}", path.display());
        assert!(regression.plan.size() <= 20, "{} is not small", path.display());
        count += 1;
    }
    assert!(count >= 10, "{count} plans");
}

fn simulator(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_backbeat-sim")).args(arguments).output().expect("the simulator starts")
}

#[test]
fn a_failing_seed_is_shrunk_replayed_and_run_on_the_command_line() {
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join("no-lanes.plan");
    let file = file.to_str().expect("the path is text");
    let shrunk = simulator(&["shrink", "--seed", "0", "--mutant", "no-lanes", "--output", file]);
    assert_eq!(shrunk.status.code(), Some(3), "{shrunk:?}");

    let (first, second) = (simulator(&["replay", file]), simulator(&["replay", file]));
    assert_eq!(first.status.code(), Some(3));
    assert_eq!((&first.stdout, &first.stderr), (&second.stdout, &second.stderr));
    let said = String::from_utf8(first.stderr).expect("text");
    assert!(said.contains("FIFO-"), "{said}");
    assert_eq!(simulator(&["replay", "--as-shipped", file]).status.code(), Some(0));

    assert_eq!(simulator(&["run", "--plan", file]).status.code(), Some(0), "it shows what it says");
    let text = std::fs::read_to_string(file).expect("the file is readable");
    std::fs::write(folder.join("wrong.plan"), text.replace("breaks FIFO", "breaks LEASE")).expect("room");
    let wrong = folder.join("wrong.plan");
    let wrong = simulator(&["run", "--plan", wrong.to_str().expect("the path is text")]);
    assert_eq!(wrong.status.code(), Some(3), "it breaks something else than it says");

    assert_eq!(simulator(&["shrink", "--seed", "0"]).status.code(), Some(2), "a seed that holds");
    assert_eq!(simulator(&["replay", "nowhere.plan"]).status.code(), Some(1), "a file that is not there");
}

#[test]
fn bytes_run_on_the_command_line() {
    let file = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bytes");
    std::fs::write(&file, [7_u8; 64]).expect("room");
    let output = simulator(&["run", "--bytes", file.to_str().expect("the path is text")]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
