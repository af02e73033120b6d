//! Drivers, configuration and command line of Backbeat.

pub mod demo;
