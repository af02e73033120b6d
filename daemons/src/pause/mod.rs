//! Pause and resume of a site across processes: the state in its node, commands on its channel, resumption at a date
//! (replication reference 5.12).
//!
//! The node is the truth: every process that works for the site follows it, whoever writes it. Commands on the channel are
//! what upstream's API sends; whoever hears one writes the node, on the condition that it is still what was read.

mod state;
mod watcher;

pub use state::{Command, PauseState};
pub use watcher::{PauseError, PausePlace, follow, forget};

/// Where the state of each site is kept.
pub const STATE: &str = "/backbeat/replication/state";

/// Where the state of each site is kept for the consumers of a replay topic alone.
pub const REPLAY_STATE: &str = "/backbeat/replication/replayState";
