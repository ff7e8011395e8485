//! How the tokens of all host sockets share one number space.
//!
//! A token is `base + slot * KINDS + kind`: every relay numbers its sockets from 0 (slab keys),
//! and no relay needs to know how many sockets another one has.

use mio::Token;

const KINDS: usize = 5;

/// Whose socket an event is about, with the slot in the owner's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// A socket of the TCP relay.
    Tcp(usize),
    /// A socket of the UDP relay.
    Udp(usize),
    /// A socket of the echo relay.
    Ping(usize),
    /// The socket of a published UDP port.
    Published(usize),
    /// The listening socket of a published TCP port.
    Listener(usize),
}

/// Turns sources into tokens and back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenMap {
    base: usize,
}

impl TokenMap {
    pub(crate) const fn new(base: usize) -> Self {
        Self { base }
    }

    /// The token of `source`. Slots are slab keys, which stay far below the wrap-around.
    pub(crate) const fn token(self, source: Source) -> Token {
        let (slot, kind) = match source {
            Source::Tcp(slot) => (slot, 0),
            Source::Udp(slot) => (slot, 1),
            Source::Ping(slot) => (slot, 2),
            Source::Published(slot) => (slot, 3),
            Source::Listener(slot) => (slot, 4),
        };
        Token(
            self.base
                .wrapping_add(slot.wrapping_mul(KINDS))
                .wrapping_add(kind),
        )
    }

    /// The source of `token`; `None` for tokens below the base, which are someone else's.
    pub(crate) const fn source(self, token: Token) -> Option<Source> {
        let Some(offset) = token.0.checked_sub(self.base) else {
            return None;
        };
        let slot = offset / KINDS;
        Some(match offset % KINDS {
            0 => Source::Tcp(slot),
            1 => Source::Udp(slot),
            2 => Source::Ping(slot),
            3 => Source::Published(slot),
            _ => Source::Listener(slot),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_comes_back() {
        let map = TokenMap::new(1000);
        for slot in [0, 1, 2, 77, 1 << 20] {
            for source in [
                Source::Tcp(slot),
                Source::Udp(slot),
                Source::Ping(slot),
                Source::Published(slot),
                Source::Listener(slot),
            ] {
                let token = map.token(source);
                assert!(token.0 >= 1000);
                assert_eq!(map.source(token), Some(source));
            }
        }
        assert_eq!(map.source(Token(999)), None);
    }
}
