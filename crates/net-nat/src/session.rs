//! What is known of one flow: who talks to whom, what is rewritten, and for how long.

use net_wire::checksum::Delta;

use crate::address::{Address, Endpoint};
use crate::direction::Direction;
use crate::hash::Keys;
use crate::table::SlabRecord;
use crate::tcp::{Class, Track};
use crate::wheel::{Links, Timed};

/// Which of the configured times a session keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Timer {
    Udp = 0,
    /// UDP to a well-known port with a time of its own.
    UdpShort = 1,
    TcpOpening = 2,
    TcpEstablished = 3,
    TcpClosing = 4,
    Icmp = 5,
    Other = 6,
}

/// Number of timers, rounded up so that an index needs no check.
pub(crate) const TIMERS: usize = 8;

impl Timer {
    pub(crate) const ALL: [Self; 7] = [
        Self::Udp,
        Self::UdpShort,
        Self::TcpOpening,
        Self::TcpEstablished,
        Self::TcpClosing,
        Self::Icmp,
        Self::Other,
    ];

    /// The timer of a TCP connection.
    #[inline(always)]
    pub(crate) fn of(class: Class) -> Self {
        match class {
            Class::Opening => Self::TcpOpening,
            Class::Established => Self::TcpEstablished,
            Class::Closing => Self::TcpClosing,
        }
    }
}

/// What a session is marked with.
pub(crate) mod marks {
    /// The outside began it.
    pub(crate) const FROM_OUTSIDE: u8 = 0x80;
    /// The other end is an outside address of ours.
    pub(crate) const HAIRPIN: u8 = 0x40;
    /// The outside began it, and the inside has said nothing yet.
    pub(crate) const UNANSWERED: u8 = 0x20;
}

/// One flow. Over IPv4 it fills one cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Session<A> {
    /// The guest's address. This one and the next are the source and the destination of an outbound
    /// packet, the next and the one after it those of an inbound one: they compare as one word.
    pub(crate) inside: A,
    /// The other end.
    pub(crate) remote: A,
    /// What the outside sees in the guest's place.
    pub(crate) outside: A,
    pub(crate) inside_port: u16,
    pub(crate) remote_port: u16,
    pub(crate) outside_port: u16,
    /// What outbound packets change in a checksum over the addresses; the way back is its inverse.
    pub(crate) l3: Delta,
    /// The same for a checksum over what the transport header covers.
    pub(crate) l4: Delta,
    /// 0 when the record is free.
    pub(crate) protocol: u8,
    /// Low bits: the [`Timer`]. High bits: [`marks`].
    bits: u8,
    /// The last second in which the session is alive.
    pub(crate) expires: u32,
    pub(crate) mapping: u32,
    pub(crate) links: Links,
    pub(crate) tcp: Track,
}

const _: () = assert!(size_of::<Session<core::net::Ipv4Addr>>() == 64);

impl<A: Address> Session<A> {
    const TIMER: u8 = 7;

    #[allow(clippy::too_many_arguments)]
    #[inline(always)]
    pub(crate) fn new(
        protocol: u8,
        inside: Endpoint<A>,
        outside: Endpoint<A>,
        remote: Endpoint<A>,
        (l3, l4): (Delta, Delta),
        timer: Timer,
        opener: Direction,
        mapping: u32,
    ) -> Self {
        let opener = match opener {
            Direction::Outbound => 0,
            Direction::Inbound => marks::FROM_OUTSIDE | marks::UNANSWERED,
        };
        Self {
            inside: inside.addr,
            outside: outside.addr,
            remote: remote.addr,
            inside_port: inside.port,
            outside_port: outside.port,
            remote_port: remote.port,
            l3,
            l4,
            protocol,
            bits: timer as u8 | opener,
            expires: 0,
            mapping,
            links: Links::default(),
            tcp: Track::default(),
        }
    }

    #[inline(always)]
    pub(crate) fn timer(&self) -> usize {
        usize::from(self.bits & Self::TIMER)
    }

    pub(crate) fn set_timer(&mut self, timer: Timer) {
        self.bits = self.bits & !Self::TIMER | timer as u8;
    }

    /// Moves the deadline.
    #[inline(always)]
    pub(crate) fn keep(&mut self, deadline: u32) {
        // A store into a line that is about to be loaded as a whole would make that wait.
        if self.expires != deadline {
            self.expires = deadline;
        }
    }

    /// The marks of a mask ([`marks`]).
    #[inline(always)]
    pub(crate) fn marks(&self, mask: u8) -> u8 {
        self.bits & mask
    }

    #[inline(always)]
    pub(crate) fn is_hairpin(&self) -> bool {
        self.bits & marks::HAIRPIN != 0
    }

    #[inline(always)]
    pub(crate) fn is_unanswered(&self) -> bool {
        self.bits & marks::UNANSWERED != 0
    }

    pub(crate) fn set_answered(&mut self) {
        self.bits &= !marks::UNANSWERED;
    }

    pub(crate) fn set_hairpin(&mut self) {
        self.bits |= marks::HAIRPIN;
    }

    pub(crate) fn opener(&self) -> Direction {
        if self.bits & marks::FROM_OUTSIDE == 0 {
            Direction::Outbound
        } else {
            Direction::Inbound
        }
    }

    pub(crate) fn inside(&self) -> Endpoint<A> {
        Endpoint::new(self.inside, self.inside_port)
    }

    pub(crate) fn outside(&self) -> Endpoint<A> {
        Endpoint::new(self.outside, self.outside_port)
    }

    pub(crate) fn remote(&self) -> Endpoint<A> {
        Endpoint::new(self.remote, self.remote_port)
    }

    /// What its packets of a direction are found by.
    #[inline(always)]
    pub(crate) fn hash(&self, keys: &Keys, direction: Direction) -> u64 {
        let local = match direction {
            Direction::Outbound => self.inside(),
            Direction::Inbound => self.outside(),
        };
        keys.flow(direction as u8, self.protocol, local, self.remote())
    }

    /// Whether a packet of `direction` between `local` (as the packet names it) and `remote` is of
    /// this flow.
    #[inline]
    pub(crate) fn is(
        &self,
        direction: Direction,
        protocol: u8,
        local: Endpoint<A>,
        remote: Endpoint<A>,
    ) -> bool {
        // As the packet has them, source first: so few words are read from either.
        let (ours, theirs) = match direction {
            Direction::Outbound => ((self.inside(), self.remote()), (local, remote)),
            Direction::Inbound => ((self.remote(), self.outside()), (remote, local)),
        };
        let ([a, b], [c, d]) = (ours.0.addr.words(), ours.1.addr.words());
        let ([e, f], [g, h]) = (theirs.0.addr.words(), theirs.1.addr.words());
        let addrs = if size_of::<A>() > 4 {
            (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h)
        } else {
            (a | c << 32) ^ (e | g << 32)
        };
        let both = |(src, dst): (Endpoint<A>, Endpoint<A>)| {
            u32::from(src.port) | u32::from(dst.port) << 16
        };
        // All at once: one branch, not five.
        addrs | u64::from(both(ours) ^ both(theirs)) | u64::from(self.protocol ^ protocol) == 0
    }
}

impl<A: Address> SlabRecord for Session<A> {
    fn next_free(&mut self) -> &mut u32 {
        &mut self.links.next
    }
}

impl<A: Address> Timed for Session<A> {
    #[inline(always)]
    fn links(&mut self) -> &mut Links {
        &mut self.links
    }

    #[inline(always)]
    fn deadline(&self) -> u32 {
        self.expires
    }
}
