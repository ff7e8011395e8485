//! Benchmarks of the workspace beside their peers.

pub mod frames;
pub mod harness;
pub mod traffic;
