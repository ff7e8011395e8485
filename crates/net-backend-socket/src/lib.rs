//! The Unix sockets by which VMMs attach without privileges, as network back ends.
//!
//! **What it is for:** giving a guest under QEMU, vfkit, libkrun, Virtualization.framework or
//! User-Mode Linux a port of the network. **What it is not:** a VMM's end of those sockets, an event
//! loop, or the TCP/UDP variants of QEMU's sockets.
//!
//! | part | socket | frame | peer |
//! |---|---|---|---|
//! | [`qemu_stream`] | stream, listener or client | behind a 32-bit length | one a connection |
//! | [`qemu_dgram`] | datagram, bound | one a datagram | the first sender, until it is gone |
//! | [`unixgram`] | datagram, bound or a pair | one a datagram, perhaps after `VFKT` | the same |
//! | [`bess`] | sequenced packets, listener | one a message | one a connection |
//! | [`framing`] | none | QEMU's stream framing without I/O | - |
//! | [`BindError`], [`Occupant`] | - | - | what is wrong with a path, in one line |
//! | [`BoundPath`] | - | - | a path bound for another process |
//! | [`SocketConfig`] | - | - | MTU, and offloads a peer uses without saying so |
//!
//! None of these sockets carries a `virtio_net_hdr`, so none takes super-frames or partial checksums
//! to send: whoever transmits finishes them first. Frames are 14 to 65,550 bytes. Socket files have
//! mode 0600, are never bound over anything, and go away with their owner.
//!
//! Datagrams are received and sent up to 32 in one system call on Linux, one by one elsewhere.
//!
//! ```
//! use net_backend::{NetworkBackend, TxFrame};
//! use net_backend_socket::{QemuStream, QemuStreamListener};
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("vm.sock");
//!
//! let listener = QemuStreamListener::bind(&path)?;
//! // In a VMM: -netdev stream,id=net0,addr.type=unix,addr.path=vm.sock
//! let mut vmm = QemuStream::connect(&path)?;
//! let mut port = listener.accept()?.expect("the VMM has connected");
//!
//! let frame = [0xff; 60];
//! port.transmit(&[TxFrame::plain(&[frame[..].into()])])?;
//! let count = vmm.receive(64, &mut |batch| assert_eq!(batch[0].len(), 60))?;
//! assert_eq!(count, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![deny(unsafe_code)]

#[cfg(not(unix))]
compile_error!("net-backend-socket needs Unix sockets");

pub mod bess;
mod config;
mod datagram;
mod delegate;
pub mod framing;
mod listener;
mod path;
mod peer;
pub mod qemu_dgram;
pub mod qemu_stream;
mod stream_writer;
#[allow(unsafe_code)]
mod sys;
mod timer;
pub mod unixgram;

pub use bess::{Bess, BessListener};
pub use config::SocketConfig;
pub use path::{BindError, BoundPath, Leftover, MAX_PATH_LEN, Occupant, remove_stale};
pub use qemu_dgram::QemuDgram;
pub use qemu_stream::{QemuStream, QemuStreamListener};
pub use unixgram::Unixgram;
