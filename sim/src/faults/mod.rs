//! What can go wrong: the catalogue. Which faults a run has, and when they strike, is its plan's ([`crate::plan`]).

mod catalogue;

pub use catalogue::{Class, Fault, Shape};
