//! The command line: exit codes, help, and the commands that need nothing but their input.
#![expect(clippy::unwrap_used, reason = "a program that cannot be started is a failed test")]

use backbeat_tests::binary::run;
use serde_json::Value;
use std::fmt::Write as _;
use std::process::{Command, Output};

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The commands that `backbeat --help` lists.
fn commands() -> Vec<String> {
    let help = stdout(&run(&["--help"], "").unwrap());
    let list =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // Descriptions that go on in another line are indented further.
    let named = list.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    named
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn wrong_usage_ends_with_2() {
    for arguments in [vec![], vec!["no-such-command"], vec!["demo", "--no-such-flag"], vec!["version-id"]] {
        let output = run(&arguments, "").unwrap();
        assert_eq!(code(&output), 2, "{arguments:?}: {}", stderr(&output));
        assert!(stdout(&output).is_empty(), "{arguments:?}: usage goes to standard error");
    }
}

#[test]
fn every_command_has_help_with_examples() {
    let commands = commands();
    for wanted in ["demo", "dev", "filter", "version-id", "config"] {
        assert!(commands.iter().any(|name| name == wanted), "{wanted} is not among {commands:?}");
    }
    for name in commands {
        for flag in ["-h", "--help"] {
            let output = run(&[&name, flag], "").unwrap();
            assert_eq!(code(&output), 0, "{name} {flag}");
            assert!(
                stdout(&output).contains("Example"),
                "{name} {flag} shows no example:\n{}",
                stdout(&output)
            );
        }
    }
}

#[test]
fn version_ids_go_there_and_back() {
    let vectors: Value = serde_json::from_str(include_str!("../vectors/version-id.json")).unwrap();
    let (mut raw, mut encoded) = (String::new(), String::new());
    for case in vectors["cases"].as_array().unwrap().iter().filter(|case| case["op"] == "encode") {
        if let (Some(input), Some(value)) = (case["input"].as_str(), case["value"].as_str())
            && input.len() >= 16
        {
            writeln!(raw, "{input}").unwrap();
            writeln!(encoded, "{value}").unwrap();
        }
    }
    assert!(raw.lines().count() > 5);
    let output = run(&["version-id", "encode"], &raw).unwrap();
    assert_eq!((code(&output), stdout(&output)), (0, encoded.clone()), "{}", stderr(&output));
    let output = run(&["version-id", "decode"], &encoded).unwrap();
    assert_eq!((code(&output), stdout(&output)), (0, raw), "{}", stderr(&output));
}

#[test]
fn a_bad_version_id_is_named_and_the_others_are_answered() {
    let output = run(&["version-id", "decode"], "not hex\n").unwrap();
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains('1'), "the line is not named: {}", stderr(&output));
}

#[test]
fn filter_passes_over_bad_lines_and_says_so_at_the_end() {
    let vectors = include_str!("../vectors/replication-populator-filter.json");
    let vectors: Value = serde_json::from_str(vectors).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    let mut entries = String::new();
    for case in cases {
        writeln!(entries, "{}", case["entry"]).unwrap();
    }
    let good = run(&["filter"], &entries).unwrap();
    let messages = stdout(&good);
    assert!(messages.lines().count() > 3, "{messages}{}", stderr(&good));
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line).unwrap();
        assert!(message["topic"].is_string() && message["key"].is_string() && message["message"].is_string());
    }
    let broken = run(&["filter"], &format!("this is no JSON\n{entries}")).unwrap();
    assert_eq!(code(&broken), 1);
    assert_eq!(stdout(&broken), messages, "the good lines are answered all the same");
    assert!(stderr(&broken).contains("line 1"), "{}", stderr(&broken));
}

#[test]
fn a_configuration_that_is_wrong_ends_with_2_and_names_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    let name = path.to_str().unwrap();

    let output = run(&["config", "check"], "").unwrap();
    assert_eq!(code(&output), 0, "the defaults are fine: {}", stderr(&output));

    std::fs::write(&path, "{\"zookeeper\": {\n").unwrap();
    let output = run(&["config", "check", "--config", name], "").unwrap();
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("config.json"), "{}", stderr(&output));

    let output = run(&["config", "check", "--config", "no/such/file.json"], "").unwrap();
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("no/such/file.json"), "{}", stderr(&output));
}

#[test]
fn completion_scripts_are_printed_for_the_shells_that_people_have() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = run(&["completion", shell], "").unwrap();
        assert_eq!(code(&output), 0, "{shell}: {}", stderr(&output));
        assert!(stdout(&output).contains("version-id"), "{shell}");
    }
    assert_eq!(code(&run(&["completion", "tcsh"], "").unwrap()), 2);
    let script = stdout(&run(&["completion", "bash"], "").unwrap());
    let words =
        "COMP_WORDS=(backbeat ver) COMP_CWORD=1; _backbeat backbeat ver backbeat; echo ${COMPREPLY[@]}";
    let output = Command::new("bash").args(["-c", &format!("{script}\n{words}")]).output().unwrap();
    assert_eq!(stdout(&output).trim(), "version-id", "{}", stderr(&output));
}
