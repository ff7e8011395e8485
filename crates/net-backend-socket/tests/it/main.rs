//! Every kind of socket, with real sockets at both ends.
#![allow(clippy::unwrap_used)] // The helpers are test code too.

mod bess;
mod far;
mod handed_over;
mod qemu_dgram;
mod qemu_stream;
mod unixgram;
