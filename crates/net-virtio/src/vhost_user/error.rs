//! What a front-end can do wrong.

use std::io;

use crate::error::SetupError;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProtocolError {
    #[error("there is no ring {0}")]
    Ring(u32),
    #[error("a ring cannot have {0} descriptors")]
    RingSize(u32),
    #[error("{0:#x} is not an address in the memory the front-end shares")]
    Address(u64),
    #[error("the region at guest address {0:#x} cannot be mapped")]
    Region(u64),
    #[error("more regions, or larger ones, than are served")]
    TooMuchMemory,
    #[error("this cannot be the logs of what is in flight")]
    Inflight,
    #[error("this cannot be a log of pages, or is shorter than the memory")]
    DirtyLog,
    #[error("{0} is no address of a guest")]
    HardwareAddress(net_wire::MacAddr),
    #[error("ring {0} has no kick, and rings are not polled")]
    NoKick(u8),
    #[error("features {0:#x} were not offered")]
    ProtocolFeatures(u64),
    #[error("{0:#x} is no device status")]
    Status(u64),
    #[error("the configuration space is read-only")]
    ReadOnlyConfig,
    #[error("{0} is not served")]
    NotServed(&'static str),
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    Host(#[from] io::Error),
}

impl From<ProtocolError> for vhost::vhost_user::Error {
    fn from(err: ProtocolError) -> Self {
        Self::ReqHandlerError(io::Error::other(err))
    }
}
