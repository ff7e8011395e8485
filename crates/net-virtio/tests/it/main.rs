//! Devices against a driver that keeps the rules, and against one that does not.

#![allow(clippy::unwrap_used)] // A test that cannot go on shall stop.

mod ahead;
mod announce;
mod control;
mod dirty;
mod guest;
mod hostile;
mod offloads;
mod polling;
mod queues;
mod runs;
mod traffic;
#[cfg(target_os = "linux")]
mod vhost_user;
