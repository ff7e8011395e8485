//! The interface of the crate `vmnet`, as something that may move between threads.

use std::sync::Arc;

use net_wire::MacAddr;
use vmnet::mode::{Bridged, Host, Mode, Shared};
use vmnet::parameters::{Parameter, ParameterKind};
use vmnet::{Batch, Error, Events, Interface, Options, Status};

use crate::limits::Limits;
use crate::wake::Wake;
use crate::{VmnetConfig, VmnetMode};

/// A started interface; stopped on drop.
pub(crate) struct Handle {
    interface: Interface,
    /// Room to describe one packet. Writing goes through it because a single write does not tell
    /// whether the packet was taken.
    one: Batch,
}

// SAFETY: the raw pointers inside are a reference to an interface of the framework, one to a global
// dispatch queue, which lives as long as the process, one to a dictionary of XPC, whose count is
// atomic and which is only read, and those of `Batch`, into its own heap memory. None is bound to a
// thread: the framework itself works on the threads of its queue. There is one owner, every call
// takes `&mut`, and the only thing shared with the framework's threads is the callback's `Wake`,
// which is `Send` and `Sync`.
unsafe impl Send for Handle {}

/// What became of a packet offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Written {
    Yes,
    /// The framework is full; nobody tells when it no longer is.
    Full,
    /// Refused for its size: the next one may go.
    Refused,
}

impl Handle {
    /// Starts an interface; waits for the framework to say that it has.
    pub(crate) fn start(config: &VmnetConfig) -> vmnet::Result<Self> {
        let mtu = config.mtu().map(u64::from);
        let mode = match config.mode() {
            VmnetMode::Shared => Mode::Shared(Shared {
                mtu,
                ..Shared::default()
            }),
            VmnetMode::HostOnly => Mode::Host(Host {
                mtu,
                ..Host::default()
            }),
            VmnetMode::Bridged { interface } => Mode::Bridged(Bridged {
                shared_interface_name: interface.clone(),
            }),
        };
        let options = Options {
            allocate_mac_address: config.mac().map(|_| false),
            ..Options::default()
        };
        Ok(Self {
            interface: Interface::new(mode, options)?,
            one: Batch::preallocate(1),
        })
    }

    /// Has `wake` woken when packets are there.
    pub(crate) fn watch(&mut self, wake: Arc<Wake>) -> vmnet::Result<()> {
        self.interface
            .set_event_callback(Events::PACKETS_AVAILABLE, move |_, _| wake.wake())
    }

    /// Ends the events; one that is under way may still come.
    pub(crate) fn unwatch(&mut self) -> vmnet::Result<()> {
        self.interface.clear_event_callback()
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits::from_reported(
            self.number(ParameterKind::MTU),
            self.number(ParameterKind::MaxPacketSize),
        )
    }

    /// The hardware address that macOS made up, if it did.
    pub(crate) fn mac(&self) -> Option<MacAddr> {
        let parameters = self.interface.parameters();
        match parameters.get(ParameterKind::MACAddress) {
            Some(Parameter::MACAddress(text)) => text.parse().ok(),
            _ => None,
        }
    }

    fn number(&self, kind: ParameterKind) -> Option<u64> {
        match self.interface.parameters().get(kind) {
            Some(Parameter::MTU(value) | Parameter::MaxPacketSize(value)) => Some(value),
            _ => None,
        }
    }

    /// Reads one packet and returns its length in bytes; `None`: there is none now.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> vmnet::Result<Option<usize>> {
        match self.interface.read(buffer) {
            Ok(len) => Ok(Some(len)),
            Err(Error::VmnetReadNothing) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Offers one packet.
    pub(crate) fn write(&mut self, packet: &[u8]) -> vmnet::Result<Written> {
        match self.interface.write_batch(&mut self.one, &[packet]) {
            Ok(0) | Err(Error::VmnetErrorStatus(Status::BufferExhausted)) => Ok(Written::Full),
            Ok(_) => Ok(Written::Yes),
            Err(Error::VmnetErrorStatus(Status::PacketTooBig)) => Ok(Written::Refused),
            Err(error) => Err(error),
        }
    }
}
