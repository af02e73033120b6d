//! The simulated world: bytes stand for clients, faults and the shape of a world (`sim/src/plan/bytes.rs`).

use backbeat_sim::hunt;
use backbeat_sim::mutants::{self, Planted};
use backbeat_sim::plan::bytes;
use backbeat_sim::runner;
use std::sync::LazyLock;

/// A planted bug that the engine is to find: a check of the fuzzing itself.
static PLANTED: LazyLock<Option<Planted>> = LazyLock::new(|| {
    let name = std::env::var("BACKBEAT_FUZZ_MUTANT").ok()?;
    Some(mutants::named(&name).unwrap_or_else(|| panic!("no planted bug is named {name}")))
});

/// Every invariant holds in every world.
pub fn world(data: &[u8]) {
    let plan = bytes::plan(data);
    let report = match *PLANTED {
        None => runner::run_plan(&plan, false),
        Some(planted) => hunt::run_plan(planted, &plan, false),
    };
    if let Some(violation) = report.violation {
        panic!(
            "{} {}: make it readable with `backbeat-sim shrink --bytes FILE`",
            violation.id, violation.message
        );
    }
}
