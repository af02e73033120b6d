//! HTTP towards S3 servers: requests signed with AWS Signature Version 4.

mod client;

pub use client::{Body, ClientError, Credentials, Request, SignedClient, percent_encode};
