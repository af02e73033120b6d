//! HTTP towards S3 servers: requests signed with AWS Signature Version 4, over TCP or within the process.

mod client;
mod dialer;

pub use client::{Body, ClientError, Credentials, Request, SignedClient, percent_encode};
pub use dialer::{Dialer, Stream, Visitors};
