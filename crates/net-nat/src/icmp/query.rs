//! ICMP queries: messages with an identifier, which a NAT translates as it does ports.

use net_wire::{icmpv4, icmpv6};

/// Type of ICMP for IPv4: timestamp (RFC 792).
pub(crate) const TIMESTAMP_REQUEST: u8 = 13;
/// Type of ICMP for IPv4: timestamp reply (RFC 792).
pub(crate) const TIMESTAMP_REPLY: u8 = 14;

/// Which half of an exchange a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The querier sent it: the identifier belongs to its source.
    Request,
    /// The querier gets it: the identifier belongs to its destination.
    Reply,
}

/// What a NAT needs to know of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Query {
    /// Request or reply.
    pub(crate) role: Role,
    /// The identifier, which the querier chose.
    pub(crate) id: u16,
}

/// Takes an ICMPv4 message for a query: echo and timestamp. `None` for all others, and for less than
/// the 8 bytes of the fixed part.
///
/// Address mask and information queries (RFC 6918 deprecates them) are none: they ask the link they
/// are on, not a host behind a NAT.
#[inline]
pub(crate) fn v4(message: &[u8]) -> Option<Query> {
    let &[kind, _, _, _, high, low, _, _] = message.first_chunk::<8>()?;
    let role = match kind {
        icmpv4::ECHO_REQUEST | TIMESTAMP_REQUEST => Role::Request,
        icmpv4::ECHO_REPLY | TIMESTAMP_REPLY => Role::Reply,
        _ => return None,
    };
    let id = u16::from_be_bytes([high, low]);
    Some(Query { role, id })
}

/// As [`v4`], for ICMPv6: echo.
#[inline]
pub(crate) fn v6(message: &[u8]) -> Option<Query> {
    let &[kind, _, _, _, high, low, _, _] = message.first_chunk::<8>()?;
    let role = match kind {
        icmpv6::ECHO_REQUEST => Role::Request,
        icmpv6::ECHO_REPLY => Role::Reply,
        _ => return None,
    };
    let id = u16::from_be_bytes([high, low]);
    Some(Query { role, id })
}

#[cfg(test)]
mod tests {
    use super::super::testing::echo_v4;
    use super::*;

    #[test]
    fn rfc5508_req1_queries_are_told_by_their_type() {
        let of = |kind| [kind, 0, 0, 0, 0x12, 0x34, 0, 1];
        for kind in 0..=255 {
            let four = match kind {
                8 | 13 => Some(Role::Request),
                0 | 14 => Some(Role::Reply),
                _ => None,
            };
            let six = match kind {
                128 => Some(Role::Request),
                129 => Some(Role::Reply),
                _ => None,
            };
            let expected = |role: Option<Role>| role.map(|role| Query { role, id: 0x1234 });
            assert_eq!(v4(&of(kind)), expected(four), "{kind}");
            assert_eq!(v6(&of(kind)), expected(six), "{kind}");
        }
    }

    #[test]
    fn a_message_cut_short_is_no_query() {
        let whole = echo_v4(8, 0x1234, b"data");
        for len in 0..8 {
            let cut = &whole[..len];
            assert_eq!((v4(cut), v6(cut)), (None, None), "{len}");
        }
        assert!(v4(&whole[..8]).is_some());
    }
}
