//! Why the manager refused, and what the user can do about it.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use net_backend::BackendError;
use net_usernet::PublishError;

/// An error of the manager. Every message is one line that names what was wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManagerError {
    /// A mode or an engine that this process cannot have here.
    #[error("{what} cannot be had: {why}")]
    CannotHave {
        /// What was asked for.
        what: String,
        /// What stands against it.
        why: String,
    },
    /// A network of this name is there.
    #[error("there is a network {0} already")]
    NameTaken(String),
    /// No network of this name is there.
    #[error("there is no network {0}")]
    NoNetwork(String),
    /// The network is not in the kernel, where the interface would have to be.
    #[error(
        "only a network in the kernel has interfaces for others: engine kernel, or mode bridge or host-only"
    )]
    NotInKernel,
    /// Not one of the modes.
    #[error("unknown mode `{0}`: expected nat, bridge or host-only")]
    UnknownMode(String),
    /// Not one of the engines.
    #[error("unknown engine `{0}`: expected auto, user, kernel or fast")]
    UnknownEngine(String),
    /// An interface for the fast engine that cannot be read.
    #[error("cannot read `{0}` as an uplink: expected tap:NAME or if:NAME")]
    BadUplink(String),
    /// The fast engine was asked for without a way out.
    #[error("the fast engine needs an uplink (tap:NAME or if:NAME) and its outside address")]
    NoUplink,
    /// Addresses of the fast engine that cannot work.
    #[error("the uplink's addresses cannot work: {0}")]
    UplinkAddresses(String),
    /// The interface of the fast engine cannot be opened.
    #[error("cannot open the uplink {device}: {why}")]
    Uplink {
        /// The interface.
        device: crate::UplinkDevice,
        /// Why not.
        why: String,
    },
    /// The translator of the fast engine refused.
    #[error("the translator: {0}")]
    Translator(String),
    /// A port at an address that the fast engine does not own.
    #[error("{bind} cannot be published: the fast engine has {outside} and the host's loopback")]
    NotOutside {
        /// The address asked for.
        bind: std::net::SocketAddr,
        /// The address there is.
        outside: std::net::IpAddr,
    },
    /// A port of IPv6 of a network that has none.
    #[error("{bind} cannot be published: the network has no IPv6: {why}")]
    NoIpv6 {
        /// The address asked for.
        bind: std::net::SocketAddr,
        /// Why the network has none.
        why: String,
    },
    /// A port of IPv6 for a guest whose IPv6 address is not known.
    #[error("{bind} cannot be published: no IPv6 address of the guest {guest} is known to last")]
    NoAddress6 {
        /// The address asked for.
        bind: std::net::SocketAddr,
        /// The guest.
        guest: Ipv4Addr,
    },
    /// A reservation that cannot be read.
    #[error("cannot read `{0}` as a reservation: expected MAC=ADDRESS or NAME=ADDRESS")]
    BadReservation(String),
    /// A name that is part of a path, a table or an interface, and cannot be.
    #[error(
        "`{0}` is no name: networks have letters, digits, `-` and `_`; interfaces 1 to 15 bytes"
    )]
    BadName(String),
    /// Settings that contradict one another, or what the host has.
    #[error("{0}")]
    Invalid(String),
    /// Another process, or another part of this one, runs a network of this name.
    #[error("network {network} is run by {}", Owner(*.pid))]
    InUse {
        /// The network.
        network: String,
        /// The process, once it has said so.
        pid: Option<u32>,
    },
    /// The network's addresses are in use elsewhere.
    #[error("{subnet}/{prefix} overlaps {by}; choose another subnet")]
    SubnetTaken {
        /// The network's first address.
        subnet: IpAddr,
        /// The length of its prefix.
        prefix: u8,
        /// Who has them.
        by: String,
    },
    /// An address that another guest has, or that no guest can have.
    #[error("{address} cannot be given to a guest: {why}")]
    AddressTaken {
        /// The address.
        address: Ipv4Addr,
        /// What stands against it.
        why: &'static str,
    },
    /// A file of the state directory could not be used.
    #[error("cannot use {}: {source}", .path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// There is no directory for what has to outlive the process.
    #[error("no directory for the state of networks: set XDG_RUNTIME_DIR, or name one")]
    NoStateDir,
    /// A journal that this program cannot have written to its end.
    #[error("{}: line {line}: {why}", .path.display())]
    BadJournal {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// What a dead network has left is out of reach.
    #[error(
        "network {network} was left behind in another network namespace ({namespace}); clean up there"
    )]
    OtherNamespace {
        /// The network.
        network: String,
        /// The namespace, as device and inode.
        namespace: String,
    },
    /// A physical interface that cannot become a port of a bridge.
    #[error("cannot take over {interface}: {why}")]
    CannotTakeOver {
        /// The interface.
        interface: String,
        /// What stands against it.
        why: String,
    },
    /// Nothing of this name is attached.
    #[error("{0} is not attached to this network")]
    NotAttached(String),
    /// A program of the host has the port.
    #[error("{address} cannot be published: {source}")]
    PortTaken {
        /// The address and port.
        address: std::net::SocketAddr,
        /// What the host said.
        source: io::Error,
    },
    /// The kernel refused.
    #[cfg(target_os = "linux")]
    #[error(transparent)]
    Linux(#[from] net_backend_linux::LinuxError),
    /// A published port that cannot be read.
    #[error("cannot read `{0}` as a published port: expected [ADDR:]PORT:GUESTPORT[/tcp|/udp]")]
    BadPublish(String),
    /// A setting of the network cannot work.
    #[error(transparent)]
    Config(#[from] net_gateway::ConfigError),
    /// A port could not be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The network has no gateway, whose work it would be.
    #[error("port {0} cannot be published: the network has no gateway of its own")]
    NoGateway(u16),
    /// No attachment is there that a port could lead to.
    #[error("port {0} cannot be published: the network has no guest yet")]
    NoGuest(u16),
    /// The network has no free address.
    #[error("no free address is left in {0}")]
    PoolEmpty(ipnetwork::Ipv4Network),
    /// A device or socket could not be attached.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A socket could not be bound to its path.
    #[error(transparent)]
    Bind(#[from] net_backend_socket::BindError),
    /// The capture file could not be made.
    #[error("cannot write the capture file {}: {source}", .path.display())]
    Capture {
        /// The file asked for.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// The host refused something every network needs.
    #[error("cannot {what}: {source}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// What the host said.
        source: io::Error,
    },
    /// The packet pool could not be made.
    #[error("cannot make the packet pool: {0}")]
    Pool(String),
    /// The network was not started, or has stopped.
    #[error("the network is not running")]
    NotRunning,
    /// The network runs already.
    #[error("the network is running already")]
    AlreadyRunning,
}

impl ManagerError {
    /// For `map_err`: the host refused `what`.
    pub(crate) fn host(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Host { what, source }
    }
}

/// Who runs a network.
struct Owner(Option<u32>);

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}
