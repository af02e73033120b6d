//! Planted bugs (decision D15): another implementation of the engine's decisions, wrong in one place. The checkers must catch
//! every one of them; a simulator that stays green with a bug inside has lost its teeth.

mod planted;

pub use planted::Planted;

/// The planted bug of this name.
pub fn named(name: &str) -> Option<Planted> {
    Planted::ALL.iter().copied().find(|planted| planted.name() == name)
}
