//! Whether this host lets this user send echo requests.

use std::io;

use super::ping_socket;

/// Why echo requests of guests are not relayed. Every message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PingUnavailable {
    /// The host keeps ICMP sockets from this user.
    #[error(
        "the host allows this user no ICMP sockets: have the administrator run \
         sysctl -w net.ipv4.ping_group_range=\"0 2147483647\""
    )]
    NotAllowed,
    /// The system has no ICMP sockets of this kind.
    #[error("this system has no unprivileged ICMP sockets")]
    NotSupported,
    /// Something else went wrong.
    #[error("cannot open an ICMP socket: {0}")]
    Host(#[source] io::Error),
}

/// Tries to open an ICMP socket, as the first echo request of a guest will.
///
/// # Errors
/// Why that is not possible, in words for the user.
pub fn probe_ping_sockets() -> Result<(), PingUnavailable> {
    let Err(error) = ping_socket(false) else {
        return Ok(());
    };
    Err(match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => PingUnavailable::NotAllowed,
        Some(libc::EPROTONOSUPPORT | libc::ESOCKTNOSUPPORT | libc::EAFNOSUPPORT) => {
            PingUnavailable::NotSupported
        }
        _ => PingUnavailable::Host(error),
    })
}
