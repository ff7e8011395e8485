//! virtio-net queues over guest memory, and vhost-user-net.
//!
//! **Not here yet.** Guests attach over sockets and TAPs in this release. The crate holds its place
//! on its floor; `docs/ARCHITECTURE.md` says what it will be.
#![deny(unsafe_code)]
