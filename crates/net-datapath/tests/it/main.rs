//! Ring and pool from outside: against slow models, and with two threads.
#![cfg(not(loom))]

mod allocations;
mod cache;
mod pool;
mod ring;
mod soak;
