//! Benchmarks of the workspace beside their peers.
