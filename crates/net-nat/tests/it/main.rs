//! The engine from outside, requirement by requirement, in simulated time.
//!
//! Tests are named after the RFC and the requirement they hold the engine to; `docs/rfc-compliance.md`
//! lists them all. Everything goes through [`lab::Lab`], which sends every packet through two engines
//! (one packet by packet, one in batches), compares them, and recomputes every checksum.
#![allow(clippy::unwrap_used)] // A test that cannot go on shall stop.

mod batches;
mod checksums;
mod expiry;
mod filtering;
mod forwards;
mod fragments;
mod hairpin;
mod hostile;
mod icmp_errors;
mod icmp_lab;
mod icmp_quotes;
mod icmp_rows;
mod lab;
mod lifetimes;
mod mapping;
mod nat66;
mod one_to_one;
mod ports;
mod quotas;
mod shards;
mod simultaneous;
mod snapshot;
mod tcp_lab;
mod tcp_life;
mod tcp_rows;
mod tcp_sequences;
mod tcp_times;
mod tcp_tracking;
mod timers;
mod too_big;
