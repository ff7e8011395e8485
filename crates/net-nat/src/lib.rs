//! The NAT engine: connection tracking and translation of packets, without I/O.
//!
//! **Not here yet.** This release translates by relaying flows to host sockets (`net-usernet`).
//! The engine that rewrites packets, for uplinks that carry packets (TAP, vmnet), is the next room
//! of this house; the crate holds its place on its floor so that nothing has to move for it.
//! `docs/ARCHITECTURE.md` says what it will be: two tables (mappings and sessions), a keyed hash,
//! precomputed rewrites, and expiry without scans.
#![no_std]
#![deny(unsafe_code)]
