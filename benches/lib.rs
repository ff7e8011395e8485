//! Benchmarks of the workspace beside their peers.

pub mod harness;
