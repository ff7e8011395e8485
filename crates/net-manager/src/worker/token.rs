//! Which part of the worker an event belongs to.

use mio::Token;

/// First token of the user-mode uplink; everything below is the worker's own.
pub(super) const USERNET_BASE: usize = 0x1000_0000;
/// First token of the DNS sockets.
pub(super) const DNS_BASE: usize = 0x0800_0000;
const LISTENER_BASE: usize = 0x0400_0000;
const PORT_BASE: usize = 0x0200_0000;

/// An event's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// A command waits.
    Waker,
    /// A guest looks for a router.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    Router,
    /// A port, by number.
    Port(u32),
    /// A listener, by number.
    Listener(usize),
    /// A DNS socket.
    Dns,
    /// A socket of the uplink.
    Usernet,
}

/// The waker's token.
pub(super) const WAKER: Token = Token(0);

/// The token of the socket of [`Owner::Router`].
pub(super) const ROUTER: Token = Token(1);

/// The token of a port.
pub(super) fn port(port: u32) -> Token {
    Token(PORT_BASE + port as usize)
}

/// The token of a listener.
pub(super) fn listener(id: usize) -> Token {
    Token(LISTENER_BASE + id)
}

/// Whose `token` is.
pub(super) fn owner(token: Token) -> Owner {
    match token.0 {
        n if n >= USERNET_BASE => Owner::Usernet,
        n if n >= DNS_BASE => Owner::Dns,
        n if n >= LISTENER_BASE => Owner::Listener(n - LISTENER_BASE),
        n if n >= PORT_BASE => Owner::Port((n - PORT_BASE) as u32),
        n if n == ROUTER.0 => Owner::Router,
        _ => Owner::Waker,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_finds_its_owner() {
        assert_eq!(owner(WAKER), Owner::Waker);
        assert_eq!(owner(ROUTER), Owner::Router);
        assert_eq!(owner(port(77)), Owner::Port(77));
        assert_eq!(owner(listener(5)), Owner::Listener(5));
        assert_eq!(owner(Token(DNS_BASE)), Owner::Dns);
        assert_eq!(owner(Token(USERNET_BASE + 9)), Owner::Usernet);
    }
}
