//! DET-1 (I9): a seed is one run, whatever process, thread or profile it runs in.

use std::process::{Command, Output};

fn simulator(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_backbeat-sim")).args(arguments).output().expect("the simulator starts")
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("the simulator prints text")
}

/// The last line of `run` without what the wall clock says.
fn timeless(output: &Output) -> String {
    let text = text(output);
    let last = text.lines().last().expect("a run ends with its summary");
    last.split(' ').filter(|field| !field.starts_with("wall_s=")).collect::<Vec<_>>().join(" ")
}

#[test]
fn two_processes_write_the_same_trace() {
    for seed in ["3", "11", "27"] {
        let (first, second) = (simulator(&["replay", seed]), simulator(&["replay", seed]));
        assert!(first.stdout.len() > 100_000, "the trace of seed {seed} is a whole run");
        assert_eq!(text(&first), text(&second), "seed {seed}");
        assert_eq!(first.stderr, second.stderr, "seed {seed}: steps and trace hash");
    }
}

#[test]
fn the_hash_does_not_depend_on_threads() {
    let one = simulator(&["run", "--seeds", "12", "--threads", "1"]);
    let two = simulator(&["run", "--seeds", "12", "--threads", "2"]);
    assert_eq!(timeless(&one), timeless(&two));
}

#[test]
fn the_last_line_is_what_the_interface_says() {
    let output = simulator(&["run", "--seeds", "2"]);
    let line = timeless(&output);
    let names: Vec<&str> = line.split(' ').map(|field| field.split('=').next().unwrap_or("")).collect();
    assert_eq!(names, ["seeds", "failed", "steps", "simulated_s", "faults", "trace_hash"], "{line}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn wrong_usage_says_so() {
    for arguments in
        [&["run", "--layer", "driver"][..], &["run", "--scenario", "nowhere"], &["mutants", "--only", "none"]]
    {
        let output = simulator(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}
