//! Suites that need something which may not be there: what is skipped is named, and `BACKBEAT_REQUIRE_ALL=1` turns a skip
//! into a failure (decision D19).

use libtest_mimic::{Arguments, Failed, Trial};
use std::env;
use std::process::ExitCode;

/// One test of a suite.
pub struct Test {
    /// What it shows.
    pub name: String,
    /// What it needs and is not there.
    pub missing: Option<String>,
    /// The test.
    pub run: Box<dyn FnOnce() -> anyhow::Result<()> + Send>,
}

impl Test {
    /// A test that needs `found` to be there.
    pub fn new<T>(
        name: impl Into<String>,
        found: Result<T, String>,
        run: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) -> Self {
        Self { name: name.into(), missing: found.err(), run: Box::new(run) }
    }

    fn into_trial(self, is_required: bool) -> Trial {
        let Self { name, missing, run } = self;
        let is_skipped = missing.is_some() && !is_required;
        if let (Some(missing), true) = (&missing, is_skipped) {
            eprintln!("skipped: {name}: {missing}");
        }
        let run = move || match missing {
            Some(missing) => Err(Failed::from(missing)),
            None => run().map_err(|error| Failed::from(format!("{error:#}"))),
        };
        Trial::test(name, run).with_ignored_flag(is_skipped)
    }
}

/// Ends the process if its arguments are wrong. To be called before anything is started that has to be ended again.
pub fn check_arguments() {
    drop(Arguments::from_args());
}

/// Runs the tests; those that miss something are named and skipped.
pub fn run(tests: Vec<Test>) -> ExitCode {
    let is_required = env::var_os("BACKBEAT_REQUIRE_ALL").is_some_and(|value| value == "1");
    let trials = tests.into_iter().map(|test| test.into_trial(is_required)).collect();
    // One at a time: the tests share one server and the machine is small.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    libtest_mimic::run(&arguments, trials).exit_code()
}
