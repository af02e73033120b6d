//! The probe server of a daemon: whether it lives and is ready, and its metrics, on upstream's routes (replication reference
//! 1.3). And, for this machine only, which log lines it writes.

mod health;
mod server;

pub use health::{Health, Trouble, TroubleStatus};
pub use server::{ProbeAddress, ProbeError, Probes, listen, serve};
