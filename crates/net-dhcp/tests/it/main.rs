//! Tests of the server and the client through their public interface, in simulated time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod guest;
mod hostile;
mod interop;
mod leases;
mod options;
mod property;
mod ra;
mod rows;
