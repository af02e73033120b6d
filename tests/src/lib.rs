//! Support for the end-to-end suites: the real binaries as processes, the real client, and skips that say so.
//!
//! The suites use nothing but what users have: the command line, the S3 ports, `boto3`, `aws`, `rclone`.

pub mod authority;
pub mod backlog;
pub mod binary;
pub mod cases;
pub mod client;
pub mod commands;
pub mod dev;
pub mod fleet;
pub mod links;
pub mod process;
pub mod relay;
pub mod services;
pub mod storm;
pub mod stub;
pub mod suite;
pub mod tls_relay;
