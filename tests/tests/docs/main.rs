//! What the documentation tells people to type exists.
#![expect(clippy::unwrap_used, reason = "a page or a program that cannot be read is a failed test")]

mod picture;

use backbeat_tests::binary::{backbeat, backbeat_sim, workspace};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The pages of the documentation, relative to the workspace.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![PathBuf::from("README.md")];
    for entry in fs::read_dir(workspace().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path.strip_prefix(workspace()).unwrap().to_path_buf());
        }
    }
    pages.sort();
    pages
}

/// Whatever stands in code: lines of blocks, and spans between back ticks.
fn code(text: &str) -> Vec<String> {
    let mut code = Vec::new();
    let mut is_block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_block = !is_block;
        } else if is_block {
            code.push(line.trim().to_owned());
        } else {
            code.extend(line.split('`').skip(1).step_by(2).map(|span| span.trim().to_owned()));
        }
    }
    code
}

/// The words of a command, up to a pipe, a redirection or a comment; places to fill in (`SEED`) filled in.
fn words(command: &str) -> Vec<String> {
    let is_end = |word: &&str| ["|", ">", "<", "#", "&", "&&", ";"].contains(word);
    let fill = |word: &str| {
        let is_place = word.len() > 1 || word == "N";
        if is_place && word.chars().all(|c| c.is_ascii_uppercase()) {
            "1".to_owned()
        } else {
            word.to_owned()
        }
    };
    command.split_whitespace().take_while(|word| !is_end(word)).map(fill).collect()
}

/// Every command of the documentation that starts with `start`, without it, and the page it is on.
fn commands(start: &str) -> BTreeSet<(Vec<String>, PathBuf)> {
    let mut commands = BTreeSet::new();
    for page in pages() {
        for line in code(&fs::read_to_string(workspace().join(&page)).unwrap()) {
            if let Some(rest) =
                line.strip_prefix(start).filter(|rest| rest.is_empty() || rest.starts_with(' '))
            {
                commands.insert((words(rest), page.clone()));
            }
        }
    }
    commands
}

/// Asks `program` for the help of a command line: it says no if it does not understand the words before.
fn understands(program: &Path, words: &[String]) -> bool {
    let mut command = Command::new(program);
    command.args(words).arg("--help").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().unwrap().success()
}

fn check_understood(program: &Path, starts: &[&str]) {
    let commands: BTreeSet<_> = starts.iter().flat_map(|start| commands(start)).collect();
    assert!(!commands.is_empty(), "the documentation names no command of {}", program.display());
    for (words, page) in commands {
        assert!(
            understands(program, &words),
            "{}: {} does not understand {words:?}",
            page.display(),
            program.display()
        );
    }
}

#[test]
fn every_command_of_backbeat_is_understood() {
    check_understood(&backbeat().unwrap(), &["cargo run --release --", "backbeat"]);
}

#[test]
fn every_command_of_the_simulator_is_understood() {
    check_understood(&backbeat_sim().unwrap(), &["cargo run --release -p backbeat-sim --", "backbeat-sim"]);
}

#[test]
fn a_command_that_is_not_there_would_be_noticed() {
    let words = |line: &str| words(line);
    assert!(!understands(&backbeat().unwrap(), &words("no-such-command")));
    assert!(!understands(&backbeat().unwrap(), &words("demo --no-such-flag")));
}

#[test]
fn every_flag_of_the_test_script_is_there() {
    let usage = Command::new(workspace().join("ci/test")).arg("--help").output().unwrap();
    let usage = String::from_utf8(usage.stdout).unwrap();
    let commands = commands("./ci/test");
    assert!(!commands.is_empty());
    for (flags, page) in commands {
        for flag in flags {
            assert!(usage.contains(&flag), "{}: ./ci/test does not know {flag}", page.display());
        }
    }
}

#[test]
fn every_suite_that_is_named_is_there() {
    let mut seen = 0;
    for (words, page) in commands("cargo test") {
        let Some(suite) = words.iter().skip_while(|word| *word != "--test").nth(1) else { continue };
        let package = words
            .iter()
            .skip_while(|word| *word != "-p")
            .nth(1)
            .map(|name| name.trim_start_matches("backbeat-"));
        let folder =
            package.unwrap_or_else(|| panic!("{}: {words:?} names a suite but no package", page.display()));
        let folder = workspace().join(folder).join("tests");
        let is_there =
            folder.join(format!("{suite}.rs")).exists() || folder.join(suite).join("main.rs").exists();
        assert!(is_there, "{}: there is no suite {suite} in {}", page.display(), folder.display());
        seen += 1;
    }
    assert!(seen > 0);
}

#[test]
fn every_link_to_a_file_leads_somewhere() {
    for page in pages() {
        let text = fs::read_to_string(workspace().join(&page)).unwrap();
        for rest in text.split("](").skip(1) {
            let target = rest.split([')', '#']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = workspace().join(&page).parent().unwrap().join(target);
            assert!(path.exists(), "{}: the link to {target} leads nowhere", page.display());
        }
    }
}

/// Everything under a folder that has the extension.
fn sources(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, extension, found);
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
}

/// The code that tests and checks are in.
fn all_code() -> String {
    let mut files = Vec::new();
    for part in ["core", "backends", "sim", "daemons", "tests"] {
        for folder in ["src", "tests"] {
            let folder = workspace().join(part).join(folder);
            if folder.exists() {
                sources(&folder, "rs", &mut files);
            }
        }
    }
    sources(&workspace().join("tests/python"), "py", &mut files);
    files.iter().map(|file| fs::read_to_string(file).unwrap()).collect()
}

/// Looks for every file and name between back ticks of a page. Returns how many names there are.
fn check_names(page: &str, code: &str) -> usize {
    let mut seen = 0;
    for span in page.split('`').skip(1).step_by(2) {
        if span.contains('/') {
            assert!(workspace().join(span).exists(), "{span} does not exist");
        } else if span.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            && span.contains('_')
        {
            let forms =
                [format!("fn {span}("), format!("fn {span}<"), format!("def {span}("), format!("\"{span}\"")];
            // Some tests are named with their adapter before them.
            let is_there =
                forms.iter().any(|form| code.contains(form)) || code.contains(&format!("::{span}\""));
            assert!(is_there, "nothing is called {span}");
            seen += 1;
        }
    }
    seen
}

/// Pages whose rows name what shows them: tests, and cases of the vectors.
#[test]
fn everything_that_shows_a_row_of_a_table_is_there() {
    let code = all_code();
    let mut vectors = Vec::new();
    sources(&workspace().join("tests/vectors"), "json", &mut vectors);
    let vectors: String = vectors.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    for (page, names_min, vectors_min) in [("docs/replicated.md", 30, 2), ("docs/edge-cases.md", 250, 30)] {
        let page = fs::read_to_string(workspace().join(page)).unwrap();
        assert!(check_names(&page, &code) >= names_min);
        let mut seen = 0;
        for span in page.split('`').skip(1).step_by(2).filter(|span| span.contains(' ')) {
            assert!(vectors.contains(&format!("\"{span}\"")), "no vector is called {span}");
            seen += 1;
        }
        assert!(seen >= vectors_min, "only {seen} vectors");
    }
}

/// In quotation marks stand captured requests.
#[test]
fn every_captured_request_that_an_edge_case_names_is_there() {
    let page = fs::read_to_string(workspace().join("docs/edge-cases.md")).unwrap();
    let mut captures = Vec::new();
    sources(&workspace().join("backends/tests/captures"), "json", &mut captures);
    let captures: String = captures.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let mut seen = 0;
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        for quoted in row.split('"').skip(1).step_by(2) {
            assert!(captures.contains(&format!("\"{quoted}\"")), "no request is called {quoted}");
            seen += 1;
        }
    }
    assert!(seen > 10, "only {seen} requests");
}

#[test]
fn everything_that_defends_an_invariant_is_there() {
    let page = fs::read_to_string(workspace().join("docs/invariants.md")).unwrap();
    let code = all_code();
    let seen = check_names(&page, &code);
    assert!(seen > 40, "only {seen} names found");
    // The numbers of checkers are what people search for.
    for number in
        ["COMMIT-1", "POP-1", "FIFO-1", "ORDER-1", "DATA-1", "STATUS-1", "LIVE-1", "BOUND-1", "DET-1"]
    {
        assert!(page.contains(number) && code.contains(number), "{number} is missing");
    }
}
