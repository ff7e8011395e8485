//! IPv6 by prefix, without sessions (RFC 6296): which of several translations a packet is of, and
//! what becomes of it.

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use net_wire::ipv6;

use crate::direction::Direction;
use crate::nat::common::{Common, towards};
use crate::nptv6::{Nptv6, Outcome, Untranslatable};
use crate::packet::{IpPacket, edit_whole};
use crate::verdict::{DropReason, Side, Verdict};

impl From<Untranslatable> for DropReason {
    fn from(reason: Untranslatable) -> Self {
        match reason {
            Untranslatable::Malformed => Self::Malformed,
            Untranslatable::Spoofed => Self::Spoofed,
            Untranslatable::Subnet | Untranslatable::InterfaceId => Self::Unsupported,
        }
    }
}

/// The translations between prefixes that an engine has.
pub(crate) struct Stateless(Vec<Nptv6>);

impl Stateless {
    pub(crate) fn new(prefixes: Vec<Nptv6>) -> Self {
        Self(prefixes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Translates an IPv6 packet; `None` if none of the translations is about it.
    pub(crate) fn translate<P: IpPacket + ?Sized>(
        &self,
        common: &mut Common,
        packet: &mut P,
        direction: Direction,
    ) -> Option<Verdict> {
        let (src, dst) = ends(packet.head())?;
        if direction == Direction::Outbound && self.is_inside(src) && self.is_inside(dst) {
            common.counters.passed += 1;
            return Some(Verdict::Pass);
        }
        for prefix in &self.0 {
            let outcome = match one(prefix, packet, direction) {
                Ok(Outcome::NotMine) => continue,
                Ok(outcome) => outcome,
                Err(reason) => return Some(common.refuse(reason.into())),
            };
            packet.changed();
            let counters = &mut common.counters;
            match direction {
                Direction::Outbound => counters.outbound += 1,
                Direction::Inbound => counters.inbound += 1,
            }
            if outcome == Outcome::Hairpin {
                counters.hairpinned += 1;
                return Some(Verdict::Translated(Side::Inside));
            }
            return Some(Verdict::Translated(towards(direction)));
        }
        None
    }

    /// What becomes of a packet that is of none of them, where nothing else translates IPv6.
    pub(crate) fn foreign(
        &self,
        common: &mut Common,
        head: &[u8],
        direction: Direction,
    ) -> Verdict {
        let Some((src, dst)) = ends(head) else {
            return common.refuse(DropReason::Malformed);
        };
        match direction {
            Direction::Outbound if !self.is_inside(src) => common.refuse(DropReason::Spoofed),
            // By its inside address nobody outside should know a guest.
            Direction::Inbound if self.is_inside(dst) => common.refuse(DropReason::NoMapping),
            _ => {
                common.counters.passed += 1;
                Verdict::Pass
            }
        }
    }

    fn is_inside(&self, addr: Ipv6Addr) -> bool {
        self.0.iter().any(|prefix| prefix.is_inside(addr))
    }
}

/// Headers that reach beyond the first bytes of a packet in pieces are rare enough to put the packet
/// together for them.
fn one<P: IpPacket + ?Sized>(
    prefix: &Nptv6,
    packet: &mut P,
    direction: Direction,
) -> Result<Outcome, Untranslatable> {
    let len = packet.total_len();
    match prefix.translate_front(packet.head_mut(), len, direction) {
        Err(Untranslatable::Malformed) if packet.head().len() < len => {
            edit_whole(packet, |whole| prefix.translate(whole, direction))
                .unwrap_or(Err(Untranslatable::Malformed))
        }
        outcome => outcome,
    }
}

/// Source and destination.
fn ends(head: &[u8]) -> Option<(Ipv6Addr, Ipv6Addr)> {
    let header = head.first_chunk::<{ ipv6::HEADER_LEN }>()?;
    let (addrs, _) = header[8..].as_chunks::<16>();
    match addrs {
        [src, dst] => Some((Ipv6Addr::from(*src), Ipv6Addr::from(*dst))),
        _ => None,
    }
}
