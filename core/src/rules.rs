//! The decisions that a planted bug replaces (decision D15). Filled in with the machines.
