//! Drivers, configuration and command line of Backbeat.

pub mod cli;
pub mod demo;
