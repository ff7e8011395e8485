//! What is wrong with a configuration, and what the system refused.

use net_backend::BackendError;
use net_wire::MacAddr;

/// Why a configuration cannot hold, found before the system is asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The MTU is below [`MIN_MTU`](crate::MIN_MTU).
    #[error("an MTU of {0} bytes is too small (1,280 is the least that IPv6 allows)")]
    Mtu(u16),
    /// An MTU was asked for in bridged mode, where the framework takes none.
    #[error("a bridged interface has the MTU of the network it joins: leave the MTU out")]
    BridgedMtu,
    /// A group address or all zero: no station sends from there.
    #[error("{0} is not the hardware address of a station")]
    Mac(MacAddr),
    /// Not a name an interface can have: 1 to 15 printable ASCII characters without a slash.
    #[error("{0:?} is not the name of an interface (ifconfig -l lists them)")]
    InterfaceName(String),
}

/// Why there is no interface.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmnetError {
    /// The configuration cannot hold.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The system refused.
    #[error(transparent)]
    Backend(#[from] BackendError),
}
