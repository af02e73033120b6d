//! Hands the target to the engine.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| backbeat_fuzz::world(data));
