//! What is asked of vmnet.framework, and nothing more: the seam between this crate's work, which is
//! tested anywhere, and the framework, which is only on macOS.
//!
//! # What an implementation owes
//!
//! - A completion may come before the call that asks for it returns, later, from any thread, or
//!   never. The handlers here bear it more than once.
//! - Completions must not wait for events: they are handed over on another queue.
//! - Numbers are those of `vmnet.h`, unread: what they mean is decided above.

use std::sync::Arc;

use crate::forwarding::RawRule;
use crate::key::{Dictionary, Key, MacosRelease};
use crate::network::Step;
use crate::rx::Slots;
use crate::tx::Outgoing;

/// `VMNET_HOST_MODE`.
pub(crate) const MODE_HOST: u32 = 1000;
/// `VMNET_SHARED_MODE`.
pub(crate) const MODE_SHARED: u32 = 1001;
/// `VMNET_BRIDGED_MODE`.
pub(crate) const MODE_BRIDGED: u32 = 1002;

/// `VMNET_INTERFACE_PACKETS_AVAILABLE`.
pub(crate) const PACKETS_AVAILABLE: u32 = 1;

/// Told the status and, on success, what the interface is like.
pub(crate) type OnStart = Arc<dyn Fn(u32, Dictionary) + Send + Sync>;
/// Told the status.
pub(crate) type OnDone = Arc<dyn Fn(u32) + Send + Sync>;
/// Told the rules, or the status of a rule that could not be read.
pub(crate) type OnRules = Arc<dyn Fn(Result<Vec<RawRule>, u32>) + Send + Sync>;
/// Told which events have happened.
pub(crate) type OnEvent = Arc<dyn Fn(u32) + Send + Sync>;

/// What not every macOS has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Feature {
    /// A name of a dictionary.
    Key(Key),
    /// Forwarding rules for both families of addresses.
    Forwarding,
    /// Networks that are made before their interfaces.
    Networks,
}

impl Feature {
    /// The first release that has it.
    pub(crate) const fn since(self) -> MacosRelease {
        match self {
            Self::Key(key) => key.since(),
            // They took the place of the rules for IPv4 alone, which ended with 12.0.
            Self::Forwarding => MacosRelease(12, 0),
            Self::Networks => MacosRelease(26, 0),
        }
    }

    /// What it is, for messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Key(key) => key.symbol().to_str().unwrap_or("an option"),
            Self::Forwarding => "port forwarding",
            Self::Networks => "an explicit network",
        }
    }
}

/// How far a read or a write came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Moved {
    pub(crate) status: u32,
    /// As reported; to be believed only with success, and only up to what was asked for.
    pub(crate) packets: usize,
}

/// The framework.
pub(crate) trait Framework: Send + Sync {
    /// Whether this system has it.
    fn has(&self, feature: Feature) -> bool;

    /// Starts an interface; `None` is the NULL of a failure.
    fn start(&self, request: &Dictionary, done: OnStart) -> Option<Box<dyn Interface>>;

    /// The interfaces that can be bridged; `None` if the system does not tell.
    fn shared_interfaces(&self) -> Option<Vec<String>>;

    /// Makes a network. An error is the status of the step that failed.
    fn create_network(&self, mode: u32, steps: &[Step]) -> Result<Box<dyn Network>, u32>;
}

/// A network of macOS 26. Interfaces on it keep it alive.
pub(crate) trait Network: Send + Sync {
    /// As [`Framework::start`].
    fn start(&self, request: &Dictionary, done: OnStart) -> Option<Box<dyn Interface>>;

    /// The IPv4 subnet and its mask.
    fn ipv4_subnet(&self) -> (std::net::Ipv4Addr, std::net::Ipv4Addr);

    /// The IPv6 prefix and its length.
    fn ipv6_prefix(&self) -> (std::net::Ipv6Addr, u8);
}

/// An interface. Whoever drops it has stopped it.
pub(crate) trait Interface: Send {
    /// Sets who is told of the events in `mask`, or that nobody is.
    fn set_events(&mut self, mask: u32, on_event: Option<OnEvent>) -> u32;

    /// Reads up to `count` packets into the first slots. Each slot's size goes in as the length of
    /// the buffer and comes out as that of the packet.
    fn read(&mut self, slots: &mut Slots, count: usize) -> Moved;

    /// Writes packets.
    fn write(&mut self, packets: &[Outgoing<'_>]) -> Moved;

    /// Asks the interface to stop. Success means that `done` will be told.
    fn stop(&mut self, done: OnDone) -> u32;

    /// Adds a forwarding rule. Success means that `done` will be told.
    fn add_rule(&mut self, rule: &RawRule, done: OnDone) -> u32;

    /// Removes a forwarding rule. Success means that `done` will be told.
    fn remove_rule(&mut self, protocol: u8, external_port: u16, family: u8, done: OnDone) -> u32;

    /// Lists the forwarding rules of a family. Success means that `done` will be told.
    fn rules(&mut self, family: u8, done: OnRules) -> u32;
}
