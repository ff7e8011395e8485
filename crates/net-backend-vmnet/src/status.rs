//! The framework's refusals as errors of a back end.

use std::io;

use net_backend::BackendError;
use vmnet::{Error, Status};

/// The refusal of `what`, with the nearest error number of the operating system.
pub(crate) fn refusal(what: &'static str, error: &Error) -> BackendError {
    BackendError::host(what, &io::Error::from_raw_os_error(errno(error)))
}

/// As [`refusal`], for an interface that has been started: one that is no longer set up is gone.
pub(crate) fn failure(what: &'static str, error: &Error) -> BackendError {
    match error {
        Error::VmnetErrorStatus(Status::SetupIncomplete) => BackendError::Disconnected,
        _ => refusal(what, error),
    }
}

fn errno(error: &Error) -> i32 {
    let Error::VmnetErrorStatus(status) = error else {
        return libc::EIO;
    };
    match status {
        Status::MemFailure => libc::ENOMEM,
        Status::InvalidArgument | Status::TooManyPackets => libc::EINVAL,
        Status::SetupIncomplete => libc::ENXIO,
        Status::InvalidAccess => libc::EPERM,
        Status::PacketTooBig => libc::EMSGSIZE,
        Status::BufferExhausted => libc::ENOBUFS,
        Status::SharingServiceBusy => libc::EBUSY,
        Status::Success | Status::Failure => libc::EIO,
    }
}
