//! The deterministic simulation of Backbeat.
