//! Drivers, configuration and command line of Backbeat.
