//! Translating the addresses of a packet.

use core::net::Ipv6Addr;

use net_wire::ipv6::{self, walk_extensions};
use net_wire::{WireError, icmpv6, ip_proto};

use super::{Nptv6, Untranslatable};
use crate::Direction;

/// Where the source stands in an IPv6 header, in bytes.
const SRC: usize = 8;
/// Where the destination stands.
const DST: usize = 24;

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is not between the two prefixes' sides and is unchanged: a source that is not of the
    /// inside, a destination that is not of the outside prefix, or a packet from inside to inside.
    NotMine,
    /// It was translated and goes on its way.
    Translated,
    /// It came from inside and was bound for the outside prefix: translated both ways, it goes back
    /// in (RFC 6296, section 4: hairpinning as in RFC 4787).
    Hairpin,
}

impl From<WireError> for Untranslatable {
    fn from(_: WireError) -> Self {
        Self::Malformed
    }
}

impl Nptv6 {
    /// Translates the source of an outbound and the destination of an inbound packet, and the
    /// addresses of a packet quoted by an ICMPv6 error. `packet` begins with the IPv6 header; what
    /// lies behind its payload length is padding.
    ///
    /// The hop limit is the forwarder's to count down. Fragments need not be put together first.
    ///
    /// # Errors
    /// [`Untranslatable`]: the packet is as it was and must not be forwarded.
    pub fn translate(
        &self,
        packet: &mut [u8],
        direction: Direction,
    ) -> Result<Outcome, Untranslatable> {
        let len = packet.len();
        self.translate_front(packet, len, direction)
    }

    /// As [`Nptv6::translate`], of a packet of `len` bytes of which the first ones will do, if all
    /// headers are among them, the quoted one too.
    ///
    /// # Errors
    /// [`Untranslatable`]; [`Untranslatable::Malformed`] if headers are missing.
    pub(crate) fn translate_front(
        &self,
        packet: &mut [u8],
        len: usize,
        direction: Direction,
    ) -> Result<Outcome, Untranslatable> {
        let header = packet.first_chunk::<{ ipv6::HEADER_LEN }>();
        let header = header.ok_or(Untranslatable::Malformed)?;
        let end = ipv6::HEADER_LEN + usize::from(u16::from_be_bytes([header[4], header[5]]));
        if header[0] >> 4 != 6 || end > len {
            return Err(Untranslatable::Malformed);
        }
        let [src, dst] = ends(header);
        let payload = packet.get(ipv6::HEADER_LEN..end.min(packet.len()));
        let quoted = quote(header[6], payload.unwrap_or_default());
        let (outgoing, incoming) = match direction {
            Direction::Outbound if self.is_inside(dst) => return Ok(Outcome::NotMine),
            Direction::Outbound => match self.to_outside(src)? {
                Some(src) => (Some(src), self.to_inside(dst)?),
                None => return Ok(Outcome::NotMine),
            },
            Direction::Inbound => match self.to_inside(dst)? {
                Some(_) if self.is_inside(src) => return Err(Untranslatable::Spoofed),
                Some(dst) => (None, Some(dst)),
                None => return Ok(Outcome::NotMine),
            },
        };

        // An error goes against the packet it quotes: who sends it got that, who gets it sent that.
        let mut edits = [(SRC, outgoing), (DST, incoming), (0, None), (0, None)];
        if let Some((at, quoted_src, quoted_dst)) = quoted? {
            if incoming.is_some() {
                edits[2] = (at + SRC, self.to_inside(quoted_src)?);
            }
            if outgoing.is_some() {
                edits[3] = (at + DST, self.to_outside(quoted_dst)?);
            }
        }
        for (at, addr) in edits {
            let field = packet.get_mut(at..).and_then(<[u8]>::first_chunk_mut);
            if let (Some(field), Some(addr)) = (field, addr) {
                *field = addr.octets();
            }
        }
        Ok(match (outgoing, incoming) {
            (Some(_), Some(_)) => Outcome::Hairpin,
            _ => Outcome::Translated,
        })
    }
}

/// The offset, source and destination of the packet that an ICMPv6 error quotes; `None` for packets
/// of any other kind, and for the fragments of an error behind the first.
fn quote(
    next_header: u8,
    payload: &[u8],
) -> Result<Option<(usize, Ipv6Addr, Ipv6Addr)>, Untranslatable> {
    let upper = walk_extensions(next_header, payload)?;
    let is_first = upper.fragment.is_none_or(|fragment| fragment.offset == 0);
    if upper.protocol != ip_proto::ICMPV6 || !is_first {
        return Ok(None);
    }
    let message = payload.get(upper.offset..).unwrap_or_default();
    let (kind, quoted) = match message.split_first_chunk::<{ icmpv6::HEADER_LEN }>() {
        Some((fixed, quoted)) => (fixed[0], quoted),
        None => return Err(Untranslatable::Malformed),
    };
    // In other messages below 128 nobody knows where the quote begins.
    if !(icmpv6::UNREACHABLE..=icmpv6::PARAMETER_PROBLEM).contains(&kind) {
        return Ok(None);
    }
    let header = quoted.first_chunk::<{ ipv6::HEADER_LEN }>();
    let header = header.filter(|header| header[0] >> 4 == 6);
    let header = header.ok_or(Untranslatable::Malformed)?;
    let [src, dst] = ends(header);
    let at = ipv6::HEADER_LEN + upper.offset + icmpv6::HEADER_LEN;
    Ok(Some((at, src, dst)))
}

/// Source and destination of a header.
fn ends(header: &[u8; ipv6::HEADER_LEN]) -> [Ipv6Addr; 2] {
    [SRC, DST].map(|at| Ipv6Addr::from(core::array::from_fn::<u8, 16, _>(|i| header[at + i])))
}
