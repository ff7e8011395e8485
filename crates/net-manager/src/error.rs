//! Why the manager refused, and what the user can do about it.

use std::io;
use std::path::PathBuf;

use net_backend::BackendError;
use net_usernet::PublishError;

/// An error of the manager. Every message is one line that names what was wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManagerError {
    /// The mode needs privileges that the process lacks, or a back end that is not there.
    #[error(
        "mode `{0}` needs the privileged back end, which this release does not have yet; use `nat`"
    )]
    NeedsPrivileges(crate::NetworkMode),
    /// Not one of the modes.
    #[error("unknown mode `{0}`: expected nat, bridge or host-only")]
    UnknownMode(String),
    /// Not one of the engines.
    #[error("unknown engine `{0}`: expected auto, user, kernel or fast")]
    UnknownEngine(String),
    /// A reservation that cannot be read.
    #[error("cannot read `{0}` as a reservation: expected MAC=ADDRESS or NAME=ADDRESS")]
    BadReservation(String),
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
