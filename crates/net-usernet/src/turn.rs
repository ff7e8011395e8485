//! What one call of the caller brings along for every part that it reaches.

use core::time::Duration;
use std::net::{IpAddr, SocketAddr};

use mio::Registry;
use net_datapath::{FragmentState, ZeroCopyPacket};
use net_wire::{icmpv4, ip_proto};

use crate::compose::{self, IcmpError};
use crate::errors::ErrorSender;
use crate::sys::{self, ErrorOrigin, SocketError};
use crate::token::TokenMap;
use crate::{Config, Egress, GuestLink, PortId};

/// The surroundings of one call.
pub(crate) struct Turn<'a> {
    pub(crate) config: &'a Config,
    pub(crate) registry: &'a Registry,
    pub(crate) tokens: TokenMap,
    pub(crate) errors: &'a mut ErrorSender,
    pub(crate) out: &'a mut (dyn Egress + 'a),
    pub(crate) now: Duration,
}

impl Turn<'_> {
    /// The link of `guest`, as long as it is still at `port`.
    pub(crate) fn link(&self, port: PortId, guest: IpAddr) -> Option<GuestLink> {
        self.out.link(guest).filter(|link| link.port == port)
    }

    /// Answers a guest's packet with an ICMP error from the gateway, unless it is of a kind that
    /// nobody answers: an ICMP error, or a later fragment (RFC 1122, section 3.2.2).
    pub(crate) fn refuse(&mut self, port: PortId, packet: &ZeroCopyPacket<'_>, error: IcmpError) {
        if !may_be_answered(packet) {
            return;
        }
        let Some(guest) = packet.ip_src() else { return };
        let Some(gateway) = self.config.gateway_like(guest) else {
            return;
        };
        // The longest quote of either family.
        let mut quote = [0; 1280];
        let at = usize::from(packet.meta().l3_offset);
        let len = packet.copy_range(at, &mut quote);
        let len = len.min((packet.meta().l3_end as usize).saturating_sub(at));
        self.errors.send(
            port,
            gateway,
            guest,
            error,
            &quote[..len],
            self.now,
            self.out,
        );
    }

    /// Tells a guest what the network said about a packet that the relay sent for it.
    ///
    /// `seen` is the destination as the guest knows it, `l4` the first bytes of the guest's
    /// transport header and payload. Returns whether the guest was told.
    pub(crate) fn relay_error(
        &mut self,
        port: PortId,
        guest: IpAddr,
        seen: IpAddr,
        protocol: u8,
        error: &SocketError,
        l4: &[u8],
    ) -> bool {
        let v6 = guest.is_ipv6();
        let expected = if v6 {
            ErrorOrigin::Icmpv6
        } else {
            ErrorOrigin::Icmp
        };
        let icmp = IcmpError {
            kind: error.kind,
            code: error.code,
            rest: error.info,
        };
        if error.origin != expected || seen.is_ipv6() != v6 || !icmp.is_relayable(v6) {
            return false;
        }
        let Some(from) = self.reporter(error, seen) else {
            return false;
        };
        let mut quote = [0; 1280];
        let l4 = &l4[..l4.len().min(quote.len() - compose::ip_header_len(guest))];
        let Some(header_len) = compose::ip_header(&mut quote, guest, seen, protocol, 1, l4.len())
        else {
            return false;
        };
        quote[header_len..header_len + l4.len()].copy_from_slice(l4);
        let quote = &quote[..header_len + l4.len()];
        self.errors
            .send(port, from, guest, icmp, quote, self.now, self.out)
    }

    /// Under which address a guest sees the host that reported an error. What this host itself
    /// reports comes from the gateway: a guest learns none of the host's addresses, unless it was
    /// sending to that very address.
    fn reporter(&self, error: &SocketError, seen: IpAddr) -> Option<IpAddr> {
        let gateway = self.config.gateway_like(seen);
        let Some(offender) = error.offender.filter(|ip| ip.is_ipv6() == seen.is_ipv6()) else {
            return gateway;
        };
        let told_to = error.to.map(|addr: SocketAddr| addr.ip());
        if Some(offender) == told_to {
            return Some(seen);
        }
        if sys::is_local_address(offender) {
            gateway
        } else {
            Some(offender)
        }
    }
}

fn may_be_answered(packet: &ZeroCopyPacket<'_>) -> bool {
    let meta = packet.meta();
    let kind = packet.head().get(usize::from(meta.l4_offset)).copied();
    match (meta.fragment, meta.l4_protocol) {
        (FragmentState::Later, _) => false,
        (_, ip_proto::ICMP) => matches!(kind, Some(icmpv4::ECHO_REQUEST)),
        (_, ip_proto::ICMPV6) => kind.is_some_and(|kind| kind >= 128),
        _ => true,
    }
}
