//! Which address a client gets.

use super::table::{ClientKey, State};
use super::{Refusal, Server};

/// The sender of one message, as the server knows it.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) port: u32,
    pub(super) mac: [u8; 6],
    pub(super) key: ClientKey,
    /// What it calls itself, sanitised.
    pub(super) name: Option<String>,
}

impl Server {
    /// What the host set aside for this client, if the client could have it now.
    pub(super) fn reserved_for(&self, peer: &Peer) -> Option<u32> {
        let ip = self
            .reservations
            .find(&peer.key, peer.mac, peer.name.as_deref())?;
        let available = self.table.get(ip).is_none_or(|b| {
            // The same machine under another identifier (boot ROM, then system) may take over.
            let same_machine = b.port == Some(peer.port)
                && b.mac == peer.mac
                && matches!(b.state, State::Offered | State::Bound);
            b.is_loose() || b.is_held_by(&peer.key, peer.port) || same_machine
        });
        available.then_some(ip)
    }

    /// Whether an address may be given to anyone who asks.
    pub(super) fn is_dynamic(&self, ip: u32) -> bool {
        self.pool.contains(ip)
            && !self.excluded.contains(&ip)
            && self.reservations.get(ip).is_none()
    }

    /// The address to offer. Never one that a guest on a present port relies on.
    pub(super) fn choose(&mut self, peer: &Peer, wanted: Option<u32>) -> Result<u32, Refusal> {
        if let Some(ip) = self.reserved_for(peer) {
            return Ok(ip);
        }
        let known = self.table.find(&peer.key, peer.port, peer.mac);
        let known = known.filter(|&ip| self.is_dynamic(ip));
        if let Some(ip) = known
            && self
                .table
                .get(ip)
                .is_some_and(|b| b.is_held_by(&peer.key, peer.port))
        {
            return Ok(ip);
        }
        self.make_room(peer.port)?;
        // Making room may have taken back an offer, never what the client itself had.
        let slot = self.slot(peer.mac);
        known
            .or_else(|| wanted.filter(|&ip| self.is_open_to(ip, peer)))
            .or_else(|| Some(slot).filter(|&ip| self.is_open_to(ip, peer)))
            .or_else(|| self.pool.next_blank(slot))
            .or_else(|| self.reclaim(Some(peer.port)))
            .ok_or(Refusal::PoolExhausted)
    }

    /// Whether an address is free for this client without taking anything from another: blank, or
    /// remembered for the same machine.
    pub(super) fn is_open_to(&self, ip: u32, peer: &Peer) -> bool {
        self.is_dynamic(ip)
            && self.table.get(ip).is_none_or(|b| {
                b.is_loose() && (b.key == peer.key || b.state == State::Former && b.mac == peer.mac)
            })
    }

    /// Checks the port's share before it gets one more address. An offer of the same port that
    /// nobody took up gives way; nothing of another port ever does.
    pub(super) fn make_room(&mut self, port: u32) -> Result<(), Refusal> {
        if self.trunk == Some(port) {
            return Ok(());
        }
        let counted = self
            .table
            .of_port(Some(port))
            .filter(|&(ip, b)| b.state != State::Former && self.reservations.get(ip).is_none());
        let counted: Vec<_> = counted.map(|(ip, b)| (b.state, b.at, ip)).collect();
        if counted.len() < self.config.max_per_port {
            return Ok(());
        }
        let offers = counted
            .iter()
            .filter(|(state, ..)| *state == State::Offered);
        let (_, _, oldest) = offers
            .min_by_key(|(_, at, _)| *at)
            .ok_or(Refusal::PortQuota)?;
        self.stats.offers_lapsed += 1;
        self.take(*oldest);
        Ok(())
    }

    /// An address taken back from nobody who is here: first one this port had before, then the
    /// one longest out of use, then the lease of a closed port that would end first.
    pub(super) fn reclaim(&mut self, port: Option<u32>) -> Option<u32> {
        let own = port.and_then(|port| self.table.oldest(Some(port), State::Former));
        let own = own.filter(|&ip| self.is_dynamic(ip));
        // A reserved address may be remembered too; those are passed over.
        let former = own.or_else(|| self.table.formers().find(|&ip| self.is_dynamic(ip)));
        if let Some(ip) = former {
            self.take(ip);
            return Some(ip);
        }
        let detached = self
            .table
            .of_port(None)
            .filter(|&(ip, b)| b.state != State::Former && self.is_dynamic(ip))
            .map(|(ip, b)| (b.at, ip))
            .min();
        let (_, ip) = detached?;
        self.stats.reclaims += 1;
        self.end(ip);
        Some(ip)
    }

    /// Where a hardware address starts looking, the same over restarts: FNV-1a, 64 bits. A guest
    /// that picks its MAC picks its slot, and gains nothing by it.
    pub(super) fn slot(&self, mac: [u8; 6]) -> u32 {
        let hash = mac.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        self.pool.slot(hash)
    }
}
