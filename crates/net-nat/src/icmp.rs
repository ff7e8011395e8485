//! ICMP as a NAT sees it (RFC 5508): queries with identifiers, errors that quote a packet, and the
//! errors it sends itself.
//!
//! | part | what it does |
//! |---|---|
//! | `query` | tells queries by their type, reads and sets their identifier |
//! | `error` | checks an error and finds the ends of the packet it quotes |
//! | `rewrite` | gives an error and its quote other addresses and ports |
//! | `build` | composes errors about a packet, where an error may be sent at all |
//!
//! # Theory of operation
//!
//! An error has two packets in it: its own header goes from whoever complains to whoever sent the
//! packet complained about, and that packet, or its beginning, is the error's data. A NAT looks its
//! session up by the quote, never by the outer addresses: any router on the path may complain (RFC
//! 4787, REQ-12a). What the NAT did to the packet on its way, it undoes in the quote, so that the
//! sender finds the packet it sent, bit for bit but for the time to live (RFC 5508, REQ-4 and REQ-5).
//!
//! Every length here is one that a stranger wrote. The data ends at the smallest of the buffer, the
//! IP length, the length attribute of RFC 4884 and the quoted packet's own length; nothing behind
//! that is read or written.

mod build;
mod ends;
pub(crate) mod error;
mod patch;
pub(crate) mod query;
pub(crate) mod rewrite;

pub use build::{ErrorKind, error_v4, error_v6};

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
