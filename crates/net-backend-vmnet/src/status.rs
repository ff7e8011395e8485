//! What vmnet.framework answers, each answer with what to do about it.

/// A refusal of vmnet.framework (`vmnet_return_t`). Success is not among them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Status {
    /// `VMNET_FAILURE`: no reason given. This is also what a process without privileges is told.
    #[error(
        "vmnet gives no reason (VMNET_FAILURE); it says so to a process that may not use it: run as root, or sign the program with the entitlement com.apple.vm.networking"
    )]
    Failure,
    /// `VMNET_MEM_FAILURE`: no memory, or, on macOS 26, no privilege to make a network.
    #[error(
        "vmnet could not allocate (VMNET_MEM_FAILURE): the host is short of memory, or at the limit of 32 interfaces; making a network of macOS 26 without privileges fails like this too"
    )]
    MemFailure,
    /// `VMNET_INVALID_ARGUMENT`: an option is wrong, or wrong together with another one.
    #[error(
        "vmnet does not take the options (VMNET_INVALID_ARGUMENT): check the address range, the mask and the name of the interface, and that this macOS has them all"
    )]
    InvalidArgument,
    /// `VMNET_SETUP_INCOMPLETE`: not started yet, or stopped.
    #[error(
        "the interface is not set up (VMNET_SETUP_INCOMPLETE): it has been stopped, or its network is gone; start a new one"
    )]
    SetupIncomplete,
    /// `VMNET_INVALID_ACCESS`: the process lacks the right.
    #[error(
        "vmnet refuses access (VMNET_INVALID_ACCESS): run as root, or sign the program with the entitlement com.apple.vm.networking"
    )]
    InvalidAccess,
    /// `VMNET_PACKET_TOO_BIG`: a frame over the maximum packet size.
    #[error(
        "the packet is too big (VMNET_PACKET_TOO_BIG): send no more than the maximum packet size, or ask for a larger MTU"
    )]
    PacketTooBig,
    /// `VMNET_BUFFER_EXHAUSTED`: the kernel has no room at the moment.
    #[error(
        "the kernel has no buffers left for vmnet (VMNET_BUFFER_EXHAUSTED): try again in a moment"
    )]
    BufferExhausted,
    /// `VMNET_TOO_MANY_PACKETS`: more in one call than allowed.
    #[error("too many packets in one call (VMNET_TOO_MANY_PACKETS): offer fewer at a time")]
    TooManyPackets,
    /// `VMNET_SHARING_SERVICE_BUSY`: somebody else shares the network in a way that conflicts.
    #[error(
        "a conflicting sharing service is in use (VMNET_SHARING_SERVICE_BUSY): switch off Internet Sharing in the system settings, stop other programs that use vmnet, or choose another address range"
    )]
    SharingServiceBusy,
    /// `VMNET_NOT_AUTHORIZED`: the entitlement is missing.
    #[error(
        "vmnet is not authorized (VMNET_NOT_AUTHORIZED): run as root, or sign the program with the entitlement com.apple.vm.networking, which Apple grants on request"
    )]
    NotAuthorized,
    /// A number that this release does not know.
    #[error(
        "vmnet answers with status {0}, which this release does not know: look it up in vmnet.h of the installed macOS"
    )]
    Unknown(u32),
}

/// `VMNET_SUCCESS`.
pub(crate) const SUCCESS: u32 = 1000;

impl Status {
    /// Reads a `vmnet_return_t`.
    ///
    /// # Errors
    /// The status, unless it is success.
    pub(crate) const fn check(code: u32) -> Result<(), Self> {
        Err(match code {
            SUCCESS => return Ok(()),
            1001 => Self::Failure,
            1002 => Self::MemFailure,
            1003 => Self::InvalidArgument,
            1004 => Self::SetupIncomplete,
            1005 => Self::InvalidAccess,
            1006 => Self::PacketTooBig,
            1007 => Self::BufferExhausted,
            1008 => Self::TooManyPackets,
            1009 => Self::SharingServiceBusy,
            1010 => Self::NotAuthorized,
            other => Self::Unknown(other),
        })
    }

    /// The nearest error number of the operating system, for callers that know only those.
    pub const fn errno(self) -> i32 {
        match self {
            Self::MemFailure => libc::ENOMEM,
            Self::InvalidArgument | Self::TooManyPackets => libc::EINVAL,
            Self::SetupIncomplete => libc::ENXIO,
            Self::InvalidAccess | Self::NotAuthorized => libc::EPERM,
            Self::PacketTooBig => libc::EMSGSIZE,
            Self::BufferExhausted => libc::ENOBUFS,
            Self::SharingServiceBusy => libc::EBUSY,
            Self::Failure | Self::Unknown(_) => libc::EIO,
        }
    }
}

/// What a refusal of a read or write means for the interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Meaning {
    /// No room now; the same packets may go later.
    Full,
    /// One of the packets cannot go.
    Packet,
    /// Fewer packets at a time.
    Fewer,
    /// Something is wrong, perhaps for a while: the machine has slept, a cable is out.
    Ailing,
    /// Over.
    Gone,
}

impl Status {
    pub(crate) const fn meaning(self) -> Meaning {
        match self {
            Self::BufferExhausted | Self::MemFailure => Meaning::Full,
            Self::InvalidArgument | Self::PacketTooBig => Meaning::Packet,
            Self::TooManyPackets => Meaning::Fewer,
            Self::Failure | Self::Unknown(_) => Meaning::Ailing,
            Self::SetupIncomplete
            | Self::InvalidAccess
            | Self::SharingServiceBusy
            | Self::NotAuthorized => Meaning::Gone,
        }
    }
}
