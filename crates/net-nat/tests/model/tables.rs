//! What the reference remembers: lists, searched from end to end.

use std::net::IpAddr;
use std::time::Duration;

use net_nat::config::OneToOne;
use net_nat::{Direction, Endpoint, NatConfig, SessionView};

use crate::life::Life;
use crate::packet::{End, GRE, TCP, UDP};

#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) protocol: u8,
    pub(crate) inside: End,
    pub(crate) outside: End,
    pub(crate) remote: End,
    pub(crate) opener: Direction,
    /// Whether the inside has spoken in it; not known of a TCP life that does not keep to the book.
    pub(crate) answered: Option<bool>,
    /// The last second it is alive in.
    pub(crate) expires: u32,
    /// Other values the deadline may have, where a TCP life does not keep to the book.
    pub(crate) may_expire: Vec<u32>,
    /// Seconds it is granted.
    pub(crate) timeout: u32,
    pub(crate) life: Option<Life>,
}

impl Session {
    pub(crate) fn is(&self, direction: Direction, protocol: u8, local: End, remote: End) -> bool {
        let own = match direction {
            Direction::Outbound => self.inside,
            Direction::Inbound => self.outside,
        };
        (own, self.remote, self.protocol) == (local, remote, protocol)
    }

    pub(crate) fn is_seen_as(&self, view: &SessionView) -> bool {
        (self.protocol, self.inside, self.remote) == (view.protocol, view.inside, view.remote)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Mapping {
    pub(crate) protocol: u8,
    pub(crate) inside: End,
    pub(crate) outside: End,
    /// The other end, as far as the mapping is for it.
    pub(crate) remote: End,
    pub(crate) forward: bool,
    pub(crate) withdrawn: bool,
    /// Whether outbound packets find it: a second forward to one inside endpoint they do not.
    /// `None` where the first was overdue when the second came.
    pub(crate) indexed: Option<bool>,
    /// Without sessions: the last second the port rests.
    pub(crate) rests: Option<u32>,
}

#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) addr: IpAddr,
    /// Its outside address, once that is known.
    pub(crate) external: Option<IpAddr>,
    /// Nanoseconds' worth of tokens, and when that was.
    level: u64,
    filled: Duration,
}

pub(crate) struct Tables {
    pub(crate) config: NatConfig,
    pub(crate) shared: Vec<IpAddr>,
    pub(crate) own: Vec<OneToOne<IpAddr>>,
    pub(crate) now: Duration,
    pub(crate) sessions: Vec<Session>,
    pub(crate) mappings: Vec<Mapping>,
    pub(crate) hosts: Vec<Host>,
}

impl Tables {
    pub(crate) fn tick(&self) -> u32 {
        self.now.as_secs() as u32
    }

    pub(crate) fn is_ours(&self, addr: IpAddr) -> bool {
        self.shared.contains(&addr) || self.own.iter().any(|pair| pair.outside == addr)
    }

    pub(crate) fn own_of(&self, host: IpAddr) -> Option<IpAddr> {
        let pair = self.own.iter().find(|pair| pair.inside == host);
        pair.map(|pair| pair.outside)
    }

    pub(crate) fn owner(&self, outside: IpAddr) -> Option<(IpAddr, bool)> {
        let pair = self.own.iter().find(|pair| pair.outside == outside);
        pair.map(|pair| (pair.inside, pair.open))
    }

    /// The mapping that has an outside endpoint.
    pub(crate) fn holder(&self, protocol: u8, outside: End) -> Option<usize> {
        let is = |m: &Mapping| (m.protocol, m.outside) == (protocol, outside);
        self.mappings.iter().position(is)
    }

    /// Whether the mapping's rest is over, so that it may be gone.
    pub(crate) fn is_overdue(&self, mapping: usize) -> bool {
        self.mappings[mapping]
            .rests
            .is_some_and(|until| until < self.tick())
    }

    /// Whether a host has nothing but mappings that may be gone, and so may be gone itself.
    pub(crate) fn may_be_gone(&self, host: IpAddr) -> bool {
        let own = |m: usize| self.mappings[m].inside.addr == host;
        (0..self.mappings.len()).all(|m| !own(m) || self.is_overdue(m))
    }

    pub(crate) fn sessions_of(&self, host: IpAddr) -> usize {
        let of = |s: &&Session| s.inside.addr == host;
        self.sessions.iter().filter(of).count()
    }

    pub(crate) fn mappings_of(&self, host: IpAddr) -> usize {
        let of = |m: &&Mapping| m.inside.addr == host;
        self.mappings.iter().filter(of).count()
    }

    pub(crate) fn timeout(&self, protocol: u8, remote: End) -> u32 {
        let t = &self.config.timeouts;
        let time = match protocol {
            UDP if self.config.udp_short_ports.contains(&remote.port) => t.udp_short,
            UDP => t.udp,
            TCP => t.tcp_opening,
            GRE => t.other,
            _ => t.icmp,
        };
        time.as_secs() as u32
    }

    /// Ends a session; its mapping rests if that was the last.
    pub(crate) fn end(&mut self, number: usize) {
        let session = self.sessions.remove(number);
        let is = |m: &Mapping| (m.protocol, m.outside) == (session.protocol, session.outside);
        let mapping = self.mappings.iter().position(is).expect("a mapping");
        self.rest_if_idle(mapping);
    }

    pub(crate) fn rest_if_idle(&mut self, mapping: usize) {
        let m = &self.mappings[mapping];
        let used = |s: &Session| (s.protocol, s.outside) == (m.protocol, m.outside);
        if m.forward || m.rests.is_some() || self.sessions.iter().any(used) {
            return;
        }
        let hold = self.config.timeouts.port_hold.as_secs() as u32;
        if hold == 0 {
            self.unmap(mapping);
            return;
        }
        self.mappings[mapping].rests = Some(self.tick() + hold);
    }

    /// Takes a mapping out, and its host if that has no other.
    pub(crate) fn unmap(&mut self, mapping: usize) {
        let host = self.mappings.remove(mapping).inside.addr;
        self.forget_idle(host);
    }

    pub(crate) fn forget_idle(&mut self, host: IpAddr) {
        if self.mappings_of(host) == 0 {
            self.hosts.retain(|h| h.addr != host);
        }
    }

    /// All mappings whose rest is over have been taken out for certain.
    pub(crate) fn unmap_overdue(&mut self) {
        while let Some(mapping) = (0..self.mappings.len()).find(|&m| self.is_overdue(m)) {
            self.unmap(mapping);
        }
    }

    /// Whether what is known of the tables is all certain.
    pub(crate) fn is_certain(&self) -> bool {
        (0..self.mappings.len()).all(|m| !self.is_overdue(m))
    }

    /// The number of a host, which is added if it is new. Its address is its own or the shared one
    /// with the fewest hosts; where it is not certain who is there, it is left to be learned.
    pub(crate) fn host(&mut self, addr: IpAddr) -> usize {
        if let Some(number) = self.hosts.iter().position(|h| h.addr == addr) {
            return number;
        }
        let known = self.is_certain() && self.hosts.iter().all(|h| h.external.is_some());
        let fewest = || {
            let hosts = |a: &&IpAddr| {
                self.hosts
                    .iter()
                    .filter(|h| h.external == Some(**a))
                    .count()
            };
            self.shared.iter().min_by_key(hosts).copied()
        };
        let external = match self.own_of(addr) {
            None if known => fewest(),
            own => own,
        };
        let limits = &self.config.limits;
        self.hosts.push(Host {
            addr,
            external,
            level: u64::from(limits.new_burst) * interval(limits.new_per_second),
            filled: self.now,
        });
        self.hosts.len() - 1
    }

    /// Takes one of a host's tokens for a new session, if there is one.
    pub(crate) fn take_token(&mut self, host: usize) -> bool {
        let limits = &self.config.limits;
        if limits.new_per_second == 0 {
            return true;
        }
        let interval = interval(limits.new_per_second);
        let most = u64::from(limits.new_burst) * interval;
        let host = &mut self.hosts[host];
        let dripped = (self.now - host.filled).as_nanos() as u64;
        host.filled = self.now;
        host.level = most.min(host.level + dripped);
        let enough = host.level >= interval;
        host.level -= interval * u64::from(enough);
        enough
    }
}

fn interval(rate: u32) -> u64 {
    1_000_000_000u64
        .checked_div(rate.into())
        .map_or(0, |_| 1_000_000_000u64.div_ceil(rate.into()))
}

/// The end of a mapping that is for everybody.
pub(crate) fn anyone(v6: bool) -> End {
    let addr = if v6 {
        IpAddr::from([0u16; 8])
    } else {
        IpAddr::from([0u8; 4])
    };
    Endpoint::new(addr, 0)
}
