//! The ports of Backbeat and their adapters.
