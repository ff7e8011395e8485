//! The gateway as a guest meets it: frames in, frames out, in simulated time.
#![allow(clippy::unwrap_used)] // A test that meets a surprise is to stop.

mod guard;
mod ipv4;
mod ipv6;
mod smoltcp_guest;
mod trunk;
