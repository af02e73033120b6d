//! What the conformance suites share: a runtime with a deadline, and assertions about endings.
//!
//! A port's suite is a set of async functions over a harness that hands out adapters. Each adapter stamps the whole
//! suite out as tests with the port's macro, so that memory, embedded and real adapters answer the same questions.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use backbeat_core::call::{Ending, RefusalKind};

/// The longest a case may take before it fails.
pub const CASE_DEADLINE: Duration = Duration::from_mins(3);

/// A case by its name; running it panics if it fails.
pub type Case = (&'static str, Box<dyn FnOnce() + Send>);

/// Runs one case to its end on a runtime of its own; panics if it is still going after [`CASE_DEADLINE`].
pub fn run<F: Future<Output = ()>>(case: F) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be built");
    runtime.block_on(async {
        tokio::time::timeout(CASE_DEADLINE, case).await.expect("the case ends before its deadline");
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
}

/// The value of an applied call; panics otherwise.
#[track_caller]
pub fn applied<T: Debug>(ending: Ending<T>) -> T {
    match ending {
        Ending::Applied(value) => value,
        Ending::Refused(refusal) => panic!("refused: {refusal:?}"),
        Ending::Unknown => panic!("the ending is unknown"),
    }
}

/// The kind of refusal of a refused call; panics otherwise.
#[track_caller]
pub fn refused<T: Debug>(ending: Ending<T>) -> RefusalKind {
    match ending {
        Ending::Refused(refusal) => refusal.kind,
        Ending::Applied(value) => panic!("applied: {value:?}"),
        Ending::Unknown => panic!("the ending is unknown"),
    }
}

/// Stamps out the named cases of a suite as tests of one adapter. The ports' own macros call this one.
#[macro_export]
macro_rules! conformance_cases {
    ($adapter:ident, $harness:expr, $($port:ident)::+; $($case:ident),+ $(,)?) => {
        mod $adapter {
            #[allow(unused_imports, reason = "a harness expression need not name anything")]
            use super::*;
            use $crate::$($port)::+::conformance as suite;

            $(
                #[test]
                fn $case() {
                    $crate::conformance::run(async {
                        let harness = $harness;
                        suite::$case(&harness).await;
                    });
                }
            )+
        }
    };
}

/// The named cases of a suite as a list of [`Case`]s, for adapters whose harness can only be had at run time.
#[macro_export]
macro_rules! conformance_list {
    ($adapter:ident, $harness:expr, $($port:ident)::+; $($case:ident),+ $(,)?) => {{
        use $crate::$($port)::+::conformance as suite;

        let cases: Vec<$crate::conformance::Case> = vec![$(
            (concat!(stringify!($adapter), "::", stringify!($case)), {
                let make = $harness;
                Box::new(move || {
                    $crate::conformance::run(async {
                        let harness = make().await;
                        suite::$case(&harness).await;
                    });
                })
            }),
        )+];
        cases
    }};
}
