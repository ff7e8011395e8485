//! What a host that looks for routers says (RFC 4861, section 4.1).

use std::net::Ipv6Addr;

use super::{HOP_LIMIT, SOLICITATION, SOURCE_LINK_ADDRESS, options};

/// A solicitation that has passed every check of RFC 4861, section 6.1.1, but that of the checksum:
/// only who sees the IPv6 header can make it, and a kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Solicitation {
    /// The sender's link-layer address, if it says.
    pub link_address: Option<[u8; 6]>,
}

/// Why a message is no valid solicitation: the guest's fault, to be counted and ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SolicitationError {
    /// It crossed a router, and so did not come from this link.
    #[error("hop limit below 255")]
    HopLimit,
    /// Shorter than 8 bytes, or another type or code.
    #[error("not a router solicitation")]
    Header,
    /// An option of length zero, or one that passes the end.
    #[error("malformed option")]
    Option,
    /// A link-layer address without an address it could belong to, or of a source that is none.
    #[error("source address contradicts the message")]
    Source,
}

impl Solicitation {
    /// Takes an ICMPv6 message, from its type on, that came from `source` with `hop_limit`.
    ///
    /// # Errors
    /// The first check it fails.
    pub fn parse(
        source: Ipv6Addr,
        hop_limit: u8,
        message: &[u8],
    ) -> Result<Self, SolicitationError> {
        if hop_limit != HOP_LIMIT {
            return Err(SolicitationError::HopLimit);
        }
        let list = match message {
            [SOLICITATION, 0, _, _, _, _, _, _, list @ ..] => list,
            _ => return Err(SolicitationError::Header),
        };
        if source.is_multicast() || source.is_loopback() {
            return Err(SolicitationError::Source);
        }
        let mut link_address = None;
        let whole = options::visit(list, |kind, option| {
            if kind == SOURCE_LINK_ADDRESS {
                link_address = option.get(2..8).and_then(|mac| mac.try_into().ok());
            }
        });
        whole.ok_or(SolicitationError::Option)?;
        if link_address.is_some() && source.is_unspecified() {
            return Err(SolicitationError::Source);
        }
        Ok(Self { link_address })
    }
}
