//! Where the session of a usual packet is: by the hash of what the inside sends, by the port that the
//! outside calls. A batch looks in two steps, and asks for the memory of one while others take theirs.

use net_wire::ip_proto;

use super::Nat;
use super::common::Common;
use super::fast::Way;
use crate::address::{Address, Endpoint};
use crate::direction::Direction;
use crate::external::{Place, Space};
use crate::family::{Ends, Family, Usual};
use crate::packet::IpPacket;
use crate::ports::SEVERAL;
use crate::table::{Index, NONE};

/// What a batch knows of a packet between two steps.
#[derive(Clone, Copy)]
pub(crate) struct Scratch {
    /// What the packet is looked up by: its hash; for one from the outside the [`Place`] of the port that
    /// it calls, and its hash only where that says [`SEVERAL`].
    pub(super) key: u64,
    /// The session it is probably of; [`NEW`] for a usual packet from the inside that has none, [`SLOW`]
    /// for one that is not usual or for nobody, [`SKIP`] for one of another family, and [`SEVERAL`].
    pub(super) guess: u32,
    pub(super) usual: Usual,
}

/// What a batch knows besides of a packet from the inside that is [`NEW`].
pub(crate) struct Coming<A> {
    source: A,
    /// The host it is probably of.
    pub(super) host: u32,
    /// The hash of its mapping.
    pub(super) mapping: u64,
}

// Beyond the numbers of all sessions; the one that is missing is [`SEVERAL`].
pub(super) const SLOW: u32 = NONE;
pub(super) const NEW: u32 = NONE - 2;
pub(super) const SKIP: u32 = NONE - 3;

impl Scratch {
    pub(crate) const EMPTY: Self = Self {
        key: 0,
        guess: SLOW,
        usual: Usual {
            protocol: 0,
            may_fragment: false,
            len: 0,
        },
    };
}

/// Our end of a packet and the other one.
#[inline(always)]
pub(super) fn by_side<W: Way, A>((src, dst): Ends<A>) -> Ends<A> {
    match W::DIRECTION {
        Direction::Outbound => (src, dst),
        Direction::Inbound => (dst, src),
    }
}

impl<F: Family> Nat<F> {
    /// A usual packet and its ends, ours first.
    #[inline(always)]
    pub(super) fn look<W: Way, P: IpPacket + ?Sized>(packet: &P) -> Option<(Usual, Ends<F::Addr>)> {
        let head = packet.head();
        let usual = F::usual(head, packet.total_len())?;
        Some((usual, by_side::<W, _>(F::ends(head)?)))
    }

    /// What an index finds its session by.
    #[inline(always)]
    pub(super) fn hash<W: Way>(
        common: &Common,
        usual: Usual,
        (local, remote): Ends<F::Addr>,
    ) -> u64 {
        let way = W::DIRECTION as u8;
        common.keys.flow(way, usual.protocol, local, remote)
    }

    /// Where packets of a way find their session by their hash.
    #[inline(always)]
    pub(super) fn index<W: Way>(&self) -> &Index {
        match W::DIRECTION {
            Direction::Outbound => &self.index,
            Direction::Inbound => &self.shared,
        }
    }

    /// The session that the port names which a usual packet from the outside calls, [`SEVERAL`] or [`SLOW`].
    #[inline(always)]
    pub(super) fn by_port(&self, usual: Usual, outside: Endpoint<F::Addr>) -> u32 {
        let place = self.externals.place(outside);
        place.map_or(SLOW, |place| self.externals.session(space_of(usual), place))
    }

    /// The first step: headers, and hashes or ports; where those stand is asked for. Returns how many
    /// packets are of another family.
    #[inline(never)]
    pub(super) fn find_places<W: Way, P: IpPacket>(
        &self,
        common: &Common,
        packets: &[P],
        known: &mut [Scratch],
    ) -> usize {
        let mut skipped = 0;
        for (packet, scratch) in packets.iter().zip(known) {
            if let Some((usual, ends)) = Self::look::<W, P>(packet) {
                let key = match W::DIRECTION {
                    Direction::Outbound => {
                        let hash = Self::hash::<W>(common, usual, ends);
                        self.index.prefetch(hash);
                        Some(hash)
                    }
                    Direction::Inbound => self.externals.place(ends.0).map(|place| {
                        self.externals.prefetch(space_of(usual), place);
                        place.to_bits()
                    }),
                };
                *scratch = Scratch {
                    key: key.unwrap_or(0),
                    guess: if key.is_some() { 0 } else { SLOW },
                    usual,
                };
            } else if F::is(packet.head()) {
                scratch.guess = SLOW;
            } else {
                scratch.guess = SKIP;
                skipped += 1;
            }
        }
        skipped
    }

    /// The second step: sessions are asked for. Returns how many packets have none, and what those need
    /// instead is asked for.
    #[inline(always)]
    pub(super) fn find_records<W: Way, P: IpPacket>(
        &mut self,
        common: &Common,
        packets: &[P],
        known: &mut [Scratch],
    ) -> usize {
        match W::DIRECTION {
            Direction::Outbound if self.find_sessions(known) => {
                self.find_mappings(common, packets, known)
            }
            Direction::Outbound => 0,
            Direction::Inbound => {
                self.find_by_port::<W, P>(common, packets, known);
                0
            }
        }
    }

    /// The second step from the inside. Returns whether some packets have no session.
    #[inline(never)]
    fn find_sessions(&self, known: &mut [Scratch]) -> bool {
        let mut has_new = false;
        for scratch in known {
            if scratch.guess != 0 {
                continue;
            }
            match self.index.guess(scratch.key) {
                Some(number) => {
                    scratch.guess = number;
                    self.sessions.prefetch(number);
                }
                None => {
                    scratch.guess = NEW;
                    has_new = true;
                }
            }
        }
        has_new
    }

    /// The second step from the outside. Where a port does not tell the session, one more is needed: all
    /// of those buckets are asked for before the first one is looked into.
    #[inline(never)]
    fn find_by_port<W: Way, P: IpPacket>(
        &self,
        common: &Common,
        packets: &[P],
        known: &mut [Scratch],
    ) {
        let mut has_several = false;
        for (packet, scratch) in packets.iter().zip(&mut *known) {
            if scratch.guess != 0 {
                continue;
            }
            let (space, place) = (space_of(scratch.usual), Place::from_bits(scratch.key));
            scratch.guess = self.externals.session(space, place);
            if scratch.guess != SEVERAL {
                self.sessions.prefetch(scratch.guess);
            } else if let Some((usual, ends)) = Self::look::<W, P>(packet) {
                scratch.key = Self::hash::<W>(common, usual, ends);
                self.shared.prefetch(scratch.key);
                has_several = true;
            }
        }
        if !has_several {
            return;
        }
        for scratch in known {
            if scratch.guess == SEVERAL {
                scratch.guess = self.shared.guess(scratch.key).unwrap_or(NEW);
                self.sessions.prefetch(scratch.guess);
            }
        }
    }

    /// For sessions to come: the buckets of their mappings and hosts are asked for. Returns how many
    /// those are.
    #[inline(never)]
    fn find_mappings<P: IpPacket>(
        &mut self,
        common: &Common,
        packets: &[P],
        known: &[Scratch],
    ) -> usize {
        let before = self.coming.len();
        for (packet, scratch) in packets.iter().zip(known) {
            if scratch.guess != NEW {
                continue;
            }
            let nobody = Endpoint::new(F::Addr::UNSPECIFIED, 0);
            // A usual packet has both.
            let (local, remote) = F::ends(packet.head()).unwrap_or((nobody, nobody));
            let protocol = scratch.usual.protocol;
            let mapping = self.mapping_hash(common, protocol, local, remote);
            self.mappings.prefetch(mapping);
            self.hosts.prefetch(local.addr);
            self.coming.push_back(Coming {
                source: local.addr,
                host: NONE,
                mapping,
            });
        }
        self.coming.len() - before
    }

    /// Half a step later: the last so many hosts are asked for, and the mappings that are there.
    #[inline(never)]
    pub(super) fn find_hosts(&mut self, count: usize) {
        for coming in self.coming.iter_mut().rev().take(count) {
            coming.host = self.hosts.guess(coming.source);
            self.mappings.prefetch_record(coming.mapping);
        }
    }
}

/// Whose ports a usual packet's are.
#[inline(always)]
fn space_of(usual: Usual) -> Space {
    match usual.protocol {
        ip_proto::TCP => Space::Tcp,
        _ => Space::Udp,
    }
}
