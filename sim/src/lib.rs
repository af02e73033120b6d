//! The deterministic simulation of Backbeat.
//!
//! The engine's machines run unchanged inside a model world: a source site with clients, a journal, a queue with groups and
//! rebalances, a coordination store with sessions, target sites, and processes that crash, stand still and come back. One
//! thread, one virtual clock, one seed. Observers with models of their own check every step (`docs/simulation.md`).

pub mod checkers;
pub mod content;
pub mod faults;
pub mod hunt;
pub mod ids;
pub mod marks;
pub mod mutants;
pub mod names;
pub mod plan;
pub mod rng;
pub mod runner;
pub mod scenario;
pub mod schedule;
pub mod shrink;
pub mod trace;
pub mod world;
