//! The sans-IO core of Backbeat.
//!
//! A reader follows an entry through the folders in the order in which it travels: [`model`] says what an entry is,
//! [`populator`] turns journal records into queue messages, [`processor`] copies each change to one site, and
//! [`status`] records the outcome on the source object. [`provisioning`] says which of several populators reads which
//! journal. [`parts`] are the small pieces the machines are made of.
//!
//! Nothing in this crate performs I/O, reads a clock, draws a random number or starts a task: a driver (in `daemons`)
//! or the simulator (in `sim`) hands in events and time and carries out the effects that come back.

pub mod call;
mod consumer;
pub mod exception;
pub mod id;
mod intake;
pub mod model;
pub mod parts;
pub mod populator;
pub mod processor;
pub mod provisioning;
pub mod request;
pub mod rules;
pub mod status;
pub mod time;

pub use consumer::{QueueEffect, QueueEvent};
pub use intake::IntakeLimits;
