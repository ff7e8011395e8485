//! The slow engine: what must become of a packet, by linear search and in the words of the RFCs.
//!
//! It predicts every verdict and every byte of IPv4 and IPv6 with TCP, UDP, echo and a protocol
//! without ports; mapping and filtering of all kinds, pairs of addresses, forwards, hairpinning,
//! quotas, rates, and timeouts to the second. What it takes from the engine, after a look whether
//! that may be:
//!
//! - which free port a new mapping gets, and the IPv4 identification of packets without "don't
//!   fragment";
//! - when a session whose time is over is cleared away: until then it holds its mapping and counts;
//! - whether a mapping whose rest is over is still there;
//! - the timer of a TCP connection that does not keep to the book ([`Life`]).
//!
//! Not here: fragments, ICMP errors that are translated, packets that are too long, strictness about
//! TCP windows, several shards.

use std::collections::VecDeque;
use std::net::IpAddr;

use net_nat::config::{Behaviour, Dependence, NoResources, OtherProtocols};
use net_nat::{Direction, DropReason, Endpoint, Event, SessionView, Side, Verdict};

use crate::life::{Life, Stage, opens};
use crate::packet::{ACK, Body, End, FIN, GRE, Packet, RST, SYN, TCP, UDP};
use crate::tables::{Mapping, Session, Tables, anyone};
use crate::world::{is_host, is_inside};

/// What the engine showed while it did a packet.
pub(crate) struct Seen {
    pub(crate) events: VecDeque<Event>,
    pub(crate) verdict: Verdict,
}

impl Seen {
    /// The session the engine opened, if it did so next.
    fn opened(&mut self) -> Option<SessionView> {
        let view = match self.events.front() {
            Some(Event::Opened(view)) => *view,
            _ => return None,
        };
        self.events.pop_front();
        Some(view)
    }
}

impl Tables {
    /// What becomes of a packet, which is changed to what it must be afterwards.
    pub(crate) fn translate(
        &mut self,
        direction: Direction,
        packet: &mut Packet,
        seen: &mut Seen,
    ) -> Verdict {
        match direction {
            Direction::Outbound => self.outbound(packet, seen),
            Direction::Inbound => self.inbound(packet, seen, false),
        }
    }

    fn outbound(&mut self, packet: &mut Packet, seen: &mut Seen) -> Verdict {
        if !is_inside(packet.src.addr) {
            return Verdict::Drop(DropReason::Spoofed);
        }
        if is_inside(packet.dst.addr) {
            return Verdict::Pass;
        }
        if !is_host(packet.dst.addr) {
            return Verdict::Drop(DropReason::Spoofed);
        }
        if packet.body == Body::Gre && self.config.other == OtherProtocols::Refuse {
            return Verdict::Drop(DropReason::Unsupported);
        }
        let number = match self.find(Direction::Outbound, packet, seen) {
            Some(number) => {
                self.track(number, Direction::Outbound, packet);
                number
            }
            None if self.config.pass_unmatched && self.is_for_the_host(packet) => {
                return Verdict::Pass;
            }
            None => match self.open_outbound(packet, seen) {
                Ok(number) => number,
                Err(reason) => return self.refused(reason, seen),
            },
        };
        let session = &self.sessions[number];
        packet.set_local(Direction::Outbound, session.outside);
        if !self.is_ours(session.remote.addr) {
            return Verdict::Translated(Side::Outside);
        }
        // An outside address of ours: the packet comes back (RFC 4787, REQ-9).
        match self.inbound(packet, seen, true) {
            Verdict::Pass => Verdict::Drop(DropReason::NoMapping),
            verdict => verdict,
        }
    }

    /// A guest calls a shared address where no guest listens: that is the host's to answer.
    fn is_for_the_host(&self, packet: &Packet) -> bool {
        let called = match packet.body {
            // An echo calls nobody by its identifier, which is the caller's.
            Body::Echo { .. } => None,
            _ => self.holder(packet.protocol(), packet.dst),
        };
        self.shared.contains(&packet.dst.addr)
            && called.is_none_or(|m| self.mappings[m].rests.is_some())
    }

    /// A refusal for want of room may be answered (RFC 5508, REQ-8); the caller looks at the answer.
    fn refused(&self, reason: DropReason, seen: &mut Seen) -> Verdict {
        match seen.events.pop_front() {
            Some(Event::Refused { reason: told, .. }) => assert_eq!(told, reason),
            other => panic!("refused for {reason}, but {other:?}"),
        }
        let scarce = matches!(
            reason,
            DropReason::TableFull | DropReason::Quota | DropReason::Rate | DropReason::NoPort
        );
        let answers = self.config.no_resources != NoResources::Silent;
        if scarce && answers && seen.verdict == Verdict::Reply {
            return Verdict::Reply;
        }
        Verdict::Drop(reason)
    }

    fn inbound(&mut self, packet: &mut Packet, seen: &mut Seen, hairpin: bool) -> Verdict {
        let (local, remote) = packet.ends(Direction::Inbound);
        if !self.is_ours(local.addr) {
            return if is_inside(local.addr) {
                Verdict::Drop(DropReason::NoMapping)
            } else {
                Verdict::Pass
            };
        }
        let near = is_inside(remote.addr) || self.is_ours(remote.addr);
        if !is_host(remote.addr) || (near && !hairpin) {
            return Verdict::Drop(DropReason::Spoofed);
        }
        let number = match self.find(Direction::Inbound, packet, seen) {
            Some(number) => {
                self.track(number, Direction::Inbound, packet);
                number
            }
            None => match self.open_inbound(packet, seen) {
                Ok(number) => number,
                Err(reason) => return self.stranger(packet, reason),
            },
        };
        packet.set_local(Direction::Inbound, self.sessions[number].inside);
        Verdict::Translated(Side::Inside)
    }

    fn stranger(&self, packet: &Packet, reason: DropReason) -> Verdict {
        if reason == DropReason::NoMapping && self.config.pass_unmatched {
            return Verdict::Pass;
        }
        let unwanted = matches!(reason, DropReason::NoMapping | DropReason::Filtered);
        match packet.body {
            // RFC 5382, REQ-4.
            Body::Tcp(segment)
                if unwanted
                    && self.config.answer_unsolicited
                    && segment.flags & (SYN | ACK | RST | FIN) == SYN =>
            {
                Verdict::Drop(DropReason::Unsolicited)
            }
            _ => Verdict::Drop(reason),
        }
    }

    /// The session of a packet, if it is alive.
    fn find(&mut self, direction: Direction, packet: &Packet, seen: &mut Seen) -> Option<usize> {
        let (local, remote) = packet.ends(direction);
        let of = |s: &Session| s.is(direction, packet.protocol(), local, remote);
        let number = self.sessions.iter().position(of)?;
        if self.sessions[number].expires >= self.tick() {
            return Some(number);
        }
        // That one alone, and now.
        let mut first = seen.events.drain(..1).collect();
        self.clear(&mut first);
        assert!(!self.sessions.iter().any(of), "a dead session is kept");
        None
    }

    /// Takes out the sessions that the engine has ended next, all of which must be over.
    pub(crate) fn clear(&mut self, events: &mut VecDeque<Event>) {
        while let Some(Event::Closed(view)) = events.front() {
            let number = self.sessions.iter().position(|s| s.is_seen_as(view));
            let number = number.unwrap_or_else(|| panic!("{view:?} was not there"));
            let session = &self.sessions[number];
            assert!(session.expires < self.tick(), "{session:?} ended early");
            self.end(number);
            events.pop_front();
        }
    }

    fn open_outbound(&mut self, packet: &Packet, seen: &mut Seen) -> Result<usize, DropReason> {
        self.clear(&mut seen.events);
        let direction = Direction::Outbound;
        if !self.may_open(direction, packet) {
            return Err(DropReason::NotOpening);
        }
        let opened = seen.opened();
        if self.sessions.len() >= self.config.limits.sessions {
            return Err(DropReason::TableFull);
        }
        let (protocol, (inside, remote)) = (packet.protocol(), packet.ends(direction));
        let dependence = match self.own_of(inside.addr) {
            Some(_) => Dependence::EndpointIndependent,
            None => self.behaviour(protocol).mapping,
        };
        let bound = match dependence {
            Dependence::EndpointIndependent => anyone(packet.is_v6()),
            Dependence::AddressDependent => Endpoint::new(remote.addr, 0),
            Dependence::AddressAndPortDependent => remote,
        };
        let refused = match seen.events.front() {
            Some(Event::Refused { reason, .. }) => Some(*reason),
            _ => None,
        };
        let outside = opened.map(|view| view.outside);
        let mapping = self.mapping_of((protocol, inside, bound), outside, refused);
        self.open(direction, packet, mapping, (inside, bound), opened)
    }

    fn open_inbound(&mut self, packet: &Packet, seen: &mut Seen) -> Result<usize, DropReason> {
        self.clear(&mut seen.events);
        let direction = Direction::Inbound;
        let opened = seen.opened();
        let (protocol, (local, remote)) = (packet.protocol(), packet.ends(direction));
        let mut mapping = self.holder(protocol, local);
        let inside = match mapping.map(|m| &self.mappings[m]) {
            Some(m) if m.rests.is_none() => {
                let kept_out = matches!(
                    seen.verdict,
                    Verdict::Drop(DropReason::Filtered | DropReason::Unsolicited)
                );
                let admitted = match [false, true].map(|guess| self.admits(m, remote, guess)) {
                    [one, other] if one == other => one,
                    _ => !kept_out,
                };
                if !admitted {
                    return Err(DropReason::Filtered);
                }
                m.inside
            }
            resting => {
                // Who has an address of its own may be called at any port.
                let (host, open) = self.owner(local.addr).ok_or(DropReason::NoMapping)?;
                let filtering = self.behaviour(protocol).filtering;
                if !open && filtering != Dependence::EndpointIndependent {
                    return Err(DropReason::NoMapping);
                }
                if protocol == GRE && self.config.other == OtherProtocols::Refuse {
                    return Err(DropReason::Unsupported);
                }
                let inside = Endpoint::new(host, local.port);
                if resting.is_some_and(|m| m.inside != inside) {
                    // Another host's, from the time of a forward, unless it has gone already.
                    let number = mapping.take().expect("it rests");
                    let unknown = matches!(
                        seen.verdict,
                        Verdict::Drop(DropReason::NoMapping | DropReason::Unsolicited)
                            | Verdict::Pass
                    );
                    if !self.is_overdue(number) || unknown {
                        return Err(DropReason::NoMapping);
                    }
                    self.unmap(number);
                }
                inside
            }
        };
        if !self.may_open(direction, packet) {
            return Err(DropReason::NotOpening);
        }
        if self.sessions.len() >= self.config.limits.sessions {
            return Err(DropReason::TableFull);
        }
        let same = |s: &Session| s.is(Direction::Outbound, protocol, inside, remote);
        if self.sessions.iter().any(same) {
            return Err(DropReason::Filtered);
        }
        let bound = anyone(packet.is_v6());
        self.open(direction, packet, mapping, (inside, bound), opened)
    }

    /// The filter (RFC 4787, section 5). Calls from outside that the inside has not answered count for
    /// nothing (REQ-6); `guess` is taken for those of which that is not known.
    fn admits(&self, mapping: &Mapping, remote: End, guess: bool) -> bool {
        if mapping.forward || mapping.withdrawn {
            return mapping.forward;
        }
        let owner = self.owner(mapping.outside.addr);
        if let Some((_, true)) = owner {
            return true;
        }
        let counts = |s: &Session| {
            (s.protocol, s.outside) == (mapping.protocol, mapping.outside)
                && s.answered.unwrap_or(guess)
        };
        let alive = self.config.inbound_refresh || self.sessions.iter().any(counts);
        if owner.is_none() && !alive {
            return false;
        }
        let behaviour = self.behaviour(mapping.protocol);
        let same_mapping = match behaviour.mapping {
            _ if owner.is_some() => true,
            Dependence::EndpointIndependent => true,
            Dependence::AddressDependent => mapping.remote.addr == remote.addr,
            Dependence::AddressAndPortDependent => mapping.remote == remote,
        };
        let talked = |s: &Session| counts(s) && s.remote.addr == remote.addr;
        same_mapping
            && match behaviour.filtering {
                Dependence::EndpointIndependent => true,
                Dependence::AddressDependent => self.sessions.iter().any(talked),
                Dependence::AddressAndPortDependent => false,
            }
    }

    fn behaviour(&self, protocol: u8) -> Behaviour {
        let mapping = Dependence::EndpointIndependent;
        match protocol {
            TCP => self.config.tcp,
            UDP => self.config.udp,
            GRE => Behaviour {
                mapping,
                filtering: Dependence::AddressAndPortDependent,
            },
            _ => Behaviour {
                mapping,
                filtering: self.config.icmp.filtering,
            },
        }
    }

    fn may_open(&self, direction: Direction, packet: &Packet) -> bool {
        match packet.body {
            Body::Tcp(segment) => opens(direction, segment.flags, self.config.tcp_pickup),
            _ => true,
        }
    }

    /// A packet of a session that was there prolongs it, or does not.
    fn track(&mut self, number: usize, direction: Direction, packet: &Packet) {
        let (tick, times) = (self.tick(), &self.config.timeouts);
        let session = &mut self.sessions[number];
        let Body::Tcp(segment) = packet.body else {
            if direction == Direction::Outbound || self.config.inbound_refresh {
                session.expires = tick + session.timeout;
            }
            if direction == Direction::Outbound {
                session.answered = Some(true);
            }
            return;
        };
        let time = |stage| {
            let time = match stage {
                Stage::Opening => times.tcp_opening,
                Stage::Established => times.tcp_established,
                Stage::Closing => times.tcp_closing,
            };
            time.as_secs() as u32
        };
        let life = session.life.take();
        let life = life.and_then(|l| l.after(direction, segment, packet.payload.len() as u32));
        match life {
            Some((life, stage, lives)) => {
                let full = tick + time(stage);
                // A reset shortens a life and never lengthens it (RFC 7857, section 2.2).
                session.expires = if lives {
                    full
                } else {
                    full.min(session.expires)
                };
                session.timeout = time(stage);
                session.life = Some(life);
                if lives && direction == Direction::Outbound {
                    session.answered = Some(true);
                }
            }
            None => {
                let stages = [Stage::Opening, Stage::Established, Stage::Closing];
                session.may_expire = stages.map(|stage| tick + time(stage)).to_vec();
                session.may_expire.push(session.expires);
                if direction == Direction::Outbound && session.answered == Some(false) {
                    session.answered = None;
                }
            }
        }
    }

    pub(crate) fn begin_life(direction: Direction, packet: &Packet) -> Option<Life> {
        match packet.body {
            Body::Tcp(segment) => Life::begin(direction, segment, packet.payload.len() as u32),
            _ => None,
        }
    }

    /// The addresses a new host may be given.
    pub(crate) fn may_have(&self, host: IpAddr, external: IpAddr) -> bool {
        match self.own_of(host) {
            Some(own) => own == external,
            None => self.shared.contains(&external),
        }
    }
}
