//! Event scripts for the site processor.

mod bench;
mod copies;
mod endings;
mod minted;
mod minting_target;
mod ownership;
mod refusals;
mod resume;
