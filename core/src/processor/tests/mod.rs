//! Event scripts for the site processor.

mod bench;
mod copies;
mod endings;
mod ownership;
