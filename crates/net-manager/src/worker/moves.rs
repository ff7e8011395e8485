//! A guest that is moved, while it runs, from one place of the network to another.
//!
//! What the network has agreed on with a guest hangs on the number of its port: address and name, lease,
//! neighbours, flows, quotas. So a guest takes its number along: the back ends behind its number and
//! behind that of the place where it goes on are exchanged, and nothing else of a packet's way knows.
//!
//! Who it is that goes on, the first frames say. No guest can take another's place by itself: its VMM has
//! to say that it was moved ([`Presence::Moved`]), the other has to be gone from a place with the same
//! settings ([`Presence::Left`]), and what is known of it has to bear this hardware address. A VMM that its
//! guest has taken over could say so while another guest starts again; so both places have to be made for it
//! ([`PortOptions::moves`](super::PortOptions::moves)).

use std::time::Duration;

use net_backend::Presence;
use net_datapath::packet::ZeroCopyPacket;
use net_wire::MacAddr;

use super::Worker;
use super::data_path::Core;
use super::ports::PortId;

/// Batches of frames that are looked at after a guest has come. It need not be the first to send: what
/// is behind it, if it is a bridge, has addresses of its own.
const LOOKS: u32 = 64;
/// How long what belongs to a guest is kept after its VMM has gone from where it was: the VMM there may
/// end before the guest has said a word where it goes on.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// The guest of a port, as far as it may have been that of another.
#[derive(Debug, Default)]
pub(super) struct Arrival {
    presence: Presence,
    /// Batches of frames still to be looked at.
    looks: u32,
    /// Whose guest it was.
    from: Option<PortId>,
}

impl Arrival {
    /// Takes notice of what the back end knows.
    pub(super) fn note(&mut self, presence: Presence) {
        if presence != self.presence {
            self.presence = presence;
            self.looks = if presence == Presence::Moved {
                LOOKS
            } else {
                0
            };
        }
    }

    /// Whether the guest that is here is not the one that left.
    pub(super) fn is_another(&self) -> bool {
        matches!(self.presence, Presence::Here | Presence::Moved)
    }

    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.looks > 0
    }

    /// Whose guest it turned out to be.
    pub(super) fn conclude(&mut self) -> Option<PortId> {
        let from = self.from.take()?;
        self.looks = 0;
        Some(from)
    }
}

impl Core {
    /// The port whose guest sends these frames to `at`, where it has just been moved: one that it has
    /// left, until the two are exchanged, or `at` itself.
    #[cold]
    pub(super) fn sender_at(
        &mut self,
        at: PortId,
        frames: &[ZeroCopyPacket<'_>],
        now: Duration,
    ) -> PortId {
        let Some(arrival) = self.ports.get_mut(at).map(|port| &mut port.arrival) else {
            return at;
        };
        if let Some(from) = arrival.from {
            return from;
        }
        arrival.looks -= 1;
        let first = frames.first().map(ZeroCopyPacket::src_mac);
        let left = first.and_then(|mac| self.left_by(mac, at, now));
        if let Some(port) = self.ports.get_mut(at) {
            port.arrival.from = left;
        }
        left.unwrap_or(at)
    }

    /// The port that the guest with this hardware address has left, if `at` is a place like it.
    fn left_by(&self, mac: MacAddr, at: PortId, now: Duration) -> Option<PortId> {
        self.ports.get(at).filter(|port| port.moves)?;
        let config = self.switch.port_config(at)?;
        let is_left = |from: &PortId| {
            let port = self.ports.get(*from).filter(|port| port.moves);
            let backend = port.and_then(|port| port.backend.as_ref());
            backend.is_some_and(|backend| backend.presence() == Presence::Left)
                && self.switch.port_config(*from) == Some(config)
        };
        // Addresses first: they belong to a guest, while any guest may claim any hardware address.
        let known = self.gateway.ports_of(mac).filter(|_| self.has_gateway);
        let learnt = self.switch.port_of(config.vlan, mac, now);
        let mut left = known.chain(learnt).filter(is_left);
        left.next()
    }
}

impl Worker {
    /// The guest of port `from` goes on at the place of port `to`.
    pub(super) fn move_guest(&mut self, from: PortId, to: PortId) {
        let exchanged = self.core.ports.exchange(from, to, self.poll.registry());
        if let Err(err) = exchanged {
            log::warn!("a guest that was moved is not followed: {err}");
            return;
        }
        // Frames before this one may have been taken for those of a stranger.
        self.core.switch.forget_port(to);
        for id in [from, to] {
            if let Some(port) = self.core.ports.get_mut(id) {
                log::info!("{}: port {id}, whose guest was moved", port.name);
                port.pending = false;
            }
            self.want_read(id);
        }
        let at = |port| {
            let mut all = self.attachments.iter();
            all.find(|(_, it)| it.port == Some(port))
                .map(|(key, _)| key)
        };
        let (left, reached) = (at(from), at(to));
        for (key, port) in [(left, to), (reached, from)] {
            if let Some(attachment) = key.and_then(|key| self.attachments.get_mut(key)) {
                attachment.port = Some(port);
            }
        }
        if let (Some(left), Some(reached)) = (left, reached)
            && let Some((left, reached)) = self.attachments.get2_mut(left, reached)
        {
            left.exchange_guests(reached);
        }
    }

    /// The guest of a port that takes a new peer is gone. Where guests are moved from, what is its own stays
    /// for a moment if it left in good order.
    pub(super) fn guest_left(&mut self, id: PortId, now: Duration) {
        let Some(port) = self.core.ports.get_mut(id) else {
            return;
        };
        port.clear();
        let backend = port.backend.as_ref();
        let in_order =
            port.moves && backend.is_some_and(|backend| backend.presence() == Presence::Left);
        match in_order {
            true => port.gone_at = Some(now + LINGER),
            false => self.forget_guest(id, now),
        }
        self.want_read(id);
    }

    /// Forgets the guests that have not gone on anywhere, and those whose place another has taken.
    pub(super) fn forget_guests(&mut self, now: Duration) {
        let over: Vec<PortId> = self
            .core
            .ports
            .iter()
            .filter(|(_, port)| port.gone_at.is_some_and(|at| at <= now))
            .map(|(id, _)| id)
            .collect();
        for id in over {
            self.forget_guest(id, now);
        }
    }

    /// Forgets the guest of a port, and keeps the port's address for the next.
    pub(super) fn forget_guest(&mut self, id: PortId, now: Duration) {
        if let Some(port) = self.core.ports.get_mut(id) {
            port.gone_at = None;
        }
        self.core.guest_gone(id, now);
        let mut all = self.attachments.iter();
        let owner = all.find(|(_, it)| it.port == Some(id)).map(|(_, it)| it);
        if let Some(owner) = owner {
            owner.open(id, &mut self.core.gateway, now);
        }
    }
}

#[cfg(test)]
mod tests;
