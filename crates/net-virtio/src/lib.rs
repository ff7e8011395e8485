//! virtio-net queues over guest memory.
//!
//! **What it is for:** a VMM, or whoever shares a guest's memory, that wants its virtio-net device
//! served: split and packed rings, indirect tables, event indices, mergeable buffers, offloads,
//! several pairs of queues and the control queue (VIRTIO 1.3, sections 2.7, 2.8 and 5.1). **What it
//! is not:** a VMM. PCI, MMIO and interrupts stay with it, or with the front-end behind the module
//! `vhost_user` (Linux).
//!
//! | part | its job |
//! |---|---|
//! | [`VirtioNet`] | the device, a [`net_backend::NetworkBackend`] |
//! | [`GuestMemory`], [`Region`] | where the guest's memory is mapped |
//! | [`QueueSetup`], [`QueueState`] | where a queue lies, and how far it has come |
//! | [`Interrupt`], [`Doorbell`] | who is told, and who tells |
//! | [`DirtyLog`] | what was written, while a guest is moved |
//! | [`Announcement`] | who tells the network where a guest is now |
//! | [`features`] | the feature bits |
//!
//! A frame is copied once. What a guest sends is lent as
//! [`ZeroCopyPacket`](net_datapath::ZeroCopyPacket)s: a private copy of the headers and the payload
//! where it lies, in the guest's memory. Given to the `transmit` of another device it goes from one
//! guest's memory into the other's.
//!
//! # Hostile drivers
//!
//! Everything in a ring is read once, checked, and used from the copy. An index out of step, a
//! descriptor that is not there, a chain that goes round, a buffer outside of the guest's memory:
//! each stops the one queue it was found in ([`VirtioNet::fault`]), is logged, and costs nobody else
//! anything. Nothing a driver does makes this crate panic, wait or allocate without bound.
//!
//! `unsafe` stands in the modules that touch guest memory, each block with its reason; and in one
//! promise of the VMM, [`Region::new`], that the memory stays mapped.
#![deny(unsafe_code)]

#[allow(unsafe_code)]
mod collect;
mod config;
#[allow(unsafe_code)]
mod control;
#[allow(unsafe_code)]
mod copy;
#[allow(unsafe_code)]
mod deliver;
mod device;
mod dirty;
#[cfg(feature = "driver")]
#[allow(unsafe_code)]
pub mod driver;
mod error;
pub mod features;
#[allow(unsafe_code)]
mod memory;
mod queue;
#[allow(unsafe_code)]
mod ring;
mod steering;
#[cfg(target_os = "linux")]
pub mod vhost_user;

pub use config::{DeviceConfig, MAX_PAIRS};
pub use device::{Announcement, CONFIG_LEN, Doorbell, VirtioNet};
pub use dirty::DirtyLog;
pub use error::{QueueError, SetupError};
pub use memory::{GuestMemory, Owner, Region};
pub use queue::Interrupt;
pub use ring::{QueueSetup, QueueState};
