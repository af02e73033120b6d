//! The daemons of Backbeat: drivers that join a machine of the core to its ports, the stack that runs them in one process, the
//! HTTP API, the configuration and the command line.

pub mod api;
pub mod cli;
pub mod config;
pub mod consumers;
pub mod demo;
pub mod directory;
pub mod driver;
pub mod logging;
pub mod metrics;
pub mod patience;
pub mod pause;
pub mod probe;
#[cfg(feature = "services")]
pub mod production;
pub mod resync;
mod running;
#[cfg(feature = "services")]
pub mod setup;
pub mod stack;
pub mod timestamp;
