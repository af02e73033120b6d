//! The binary `backbeat`.

fn main() {}
