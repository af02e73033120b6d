//! HTTP towards S3 servers: requests signed with AWS Signature Version 4, over TCP, TLS or within the process.

mod client;
mod passage;
mod signing;

pub use client::{
    Body, ClientError, Credentials, Request, SignedClient, Transport, form_decode, percent_decode,
    percent_encode,
};
pub use passage::{Answering, Door, Handler, Interrupted, Passage, Stream, passage};
