//! The TCP relay from both ends: a guest in front of it, a host behind it, and time in between,
//! all of them simulated.
//!
//! | module | what it holds |
//! |---|---|
//! | `wire` | the way to the guest: packets caught on it, a queue that can be full |
//! | `host` | host sockets made of queues, with every call counted |
//! | `lab` | a guest that sends whatever segment a test writes |
//! | `line` | a line that loses, repeats, delays and spoils packets; a smoltcp guest's end of it |
//! | `lossless` | row 51: every byte arrives over such a line |
//! | `opening`, `sending`, `receiving`, `closing`, `timing` | rows 52 to 54, one behaviour a test |
//! | `hostile` | arbitrary segments in any order |
//! | `sockets` | real sockets on the loopback |
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

mod closing;
mod host;
mod hostile;
mod lab;
mod line;
mod lossless;
mod opening;
mod receiving;
mod rng;
mod sending;
mod sockets;
mod timing;
mod wire;
