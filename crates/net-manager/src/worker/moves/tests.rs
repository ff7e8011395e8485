//! A guest that is moved, over pairs in memory whose presence the tests say.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use net_backend::memory::{self, MemoryBackend};
use net_backend::{
    BackendError, BackendStats, Capabilities, NetworkBackend, Offloads, Presence, TxFrame,
};
use net_datapath::packet::ZeroCopyPacket;
use net_datapath::segment::IoSegment;
use net_wire::ethernet::{self, EtherType};
use net_wire::{MacAddr, arp};

use super::{LINGER, LOOKS};
use crate::config::NetworkConfig;
use crate::worker::command::{Attach, AttachOptions};
use crate::worker::{Command, PortOptions, Worker};

const MOVES: PortOptions = PortOptions {
    vlan: None,
    isolated: false,
    mirror: false,
    mirrored: false,
    moves: true,
};

const STATES: [Presence; 5] = [
    Presence::Unknown,
    Presence::Absent,
    Presence::Here,
    Presence::Moved,
    Presence::Left,
];

/// A place for guests, over a pair in memory.
struct Place {
    near: MemoryBackend,
    presence: Arc<AtomicUsize>,
    gone: Arc<AtomicUsize>,
}

impl NetworkBackend for Place {
    fn capabilities(&self) -> Capabilities {
        self.near.capabilities()
    }

    fn set_offloads(&mut self, want: Offloads) -> Result<Offloads, BackendError> {
        self.near.set_offloads(want)
    }

    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&mut [ZeroCopyPacket<'_>]),
    ) -> Result<usize, BackendError> {
        match self.gone.swap(0, Ordering::Relaxed) {
            0 => self.near.receive(budget, sink),
            _ => Err(BackendError::Disconnected),
        }
    }

    fn transmit(&mut self, frames: &[TxFrame<'_>]) -> Result<usize, BackendError> {
        self.near.transmit(frames)
    }

    fn flush(&mut self) -> Result<bool, BackendError> {
        self.near.flush()
    }

    fn wants_write(&self) -> bool {
        self.near.wants_write()
    }

    #[cfg(unix)]
    fn source(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.near.source()
    }

    fn next_deadline(&self) -> Option<Duration> {
        None
    }

    fn on_deadline(&mut self, _now: Duration) {}

    fn statistics(&self) -> BackendStats {
        self.near.statistics()
    }

    fn presence(&self) -> Presence {
        STATES[self.presence.load(Ordering::Relaxed)]
    }

    fn reattaches(&self) -> bool {
        true
    }
}

/// The guest's end of a place.
struct End {
    far: MemoryBackend,
    presence: Arc<AtomicUsize>,
    gone: Arc<AtomicUsize>,
}

impl End {
    fn is(&self, presence: Presence) {
        let at = STATES.iter().position(|it| *it == presence).unwrap();
        self.presence.store(at, Ordering::Relaxed);
    }
}

struct Bench {
    worker: Worker,
    _commands: mpsc::Sender<Command>,
    ends: Vec<End>,
    now: Duration,
}

/// No place.
const NOWHERE: [usize; 0] = [];
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 1);

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 2, last)
}

fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

/// A question of `sender` for the gateway's hardware address.
fn question(sender: (MacAddr, Ipv4Addr)) -> Vec<u8> {
    let mut frame = vec![0; 60];
    let (header, body) = frame.split_at_mut(ethernet::HEADER_LEN);
    ethernet::emit(header, MacAddr::BROADCAST, sender.0, EtherType::ARP);
    let packet = arp::ArpPacket {
        operation: arp::REQUEST,
        sender_mac: sender.0,
        sender_ip: sender.1,
        target_mac: MacAddr::ZERO,
        target_ip: GATEWAY,
    };
    packet.emit(body);
    frame
}

impl Bench {
    /// Places with these options, the first with a guest that has address 2.
    fn new(options: &[PortOptions]) -> Self {
        let config = NetworkConfig {
            dns: vec!["192.0.2.53:53".parse().unwrap()],
            ipv6: false,
            ..NetworkConfig::default()
        };
        let (commands, receiver) = mpsc::channel();
        let (worker, _) = Worker::new(&config, receiver).unwrap();
        let mut bench = Self {
            worker,
            _commands: commands,
            ends: Vec::new(),
            now: Duration::from_secs(10),
        };
        for port in options {
            let (far, near) = memory::pair_with(Capabilities::default(), 256);
            let (presence, gone) = Default::default();
            let place = Place {
                near,
                presence: Arc::clone(&presence),
                gone: Arc::clone(&gone),
            };
            let options = AttachOptions {
                port: *port,
                ..AttachOptions::default()
            };
            let what = Attach::Backend(Box::new(place));
            bench.worker.attach(what, options, bench.now).unwrap();
            bench.ends.push(End {
                far,
                presence,
                gone,
            });
        }
        bench.ends[0].is(Presence::Here);
        assert_eq!(bench.asks(0, (mac(1), ip(2))), [0]);
        bench
    }

    fn two() -> Self {
        Self::new(&[MOVES; 2])
    }

    fn work(&mut self) {
        for id in 1..=self.ends.len() as u32 {
            self.worker.want_read(id);
        }
        while !self.worker.pending.is_empty() {
            self.worker.read_ports(self.now);
        }
        self.worker.deadlines(self.now);
        self.worker.settle(self.now);
    }

    fn send(&mut self, at: usize, frame: &[u8]) {
        let segments = [IoSegment::from(frame)];
        let frames = [TxFrame::plain(&segments)];
        assert_eq!(self.ends[at].far.transmit(&frames).unwrap(), 1);
        self.work();
    }

    /// Asks for the gateway at a place; the places at which there is an answer.
    fn asks(&mut self, at: usize, sender: (MacAddr, Ipv4Addr)) -> Vec<usize> {
        self.send(at, &question(sender));
        let mut places = Vec::new();
        for (place, end) in self.ends.iter_mut().enumerate() {
            let mut answers = |frames: &mut [ZeroCopyPacket<'_>]| {
                for frame in frames {
                    // Not the question, which is for all.
                    if frame.dst_mac() == sender.0 {
                        places.push(place);
                    }
                }
            };
            // A place that is detached is closed.
            while end.far.receive(64, &mut answers).unwrap_or(0) > 0 {}
        }
        places
    }

    fn addresses(&self) -> Vec<Ipv4Addr> {
        let all = self.worker.status().attachments;
        all.iter().map(|it| it.address).collect()
    }

    fn neighbour(&self, last: u8) -> Option<(MacAddr, u32)> {
        let found = self.worker.core.gateway.neighbour(IpAddr::V4(ip(last)));
        found.map(|it| (it.mac, it.port))
    }
}

#[test]
fn a_guest_takes_what_is_its_own_along() {
    let mut bench = Bench::two();
    let before = bench.neighbour(2);
    assert_eq!(bench.addresses(), [ip(2), ip(3)]);
    bench.ends[0].is(Presence::Left);
    bench.ends[1].is(Presence::Moved);
    // The very first question is answered, where it was asked.
    assert_eq!(bench.asks(1, (mac(1), ip(2))), [1]);
    assert_eq!(bench.addresses(), [ip(3), ip(2)]);
    assert_eq!(bench.neighbour(2), before);
    assert_eq!(bench.asks(1, (mac(1), ip(2))), [1]);
    // What goes to it does not go where it was.
    let frame = [&mac(1).0[..], &mac(9).0, &[0x88, 0xb5], &[7; 50]].concat();
    bench.ends[0].is(Presence::Here);
    bench.send(0, &frame);
    let mut got = 0;
    let mut count = |frames: &mut [ZeroCopyPacket<'_>]| got += frames.len();
    bench.ends[1].far.receive(64, &mut count).unwrap();
    assert_eq!(got, 1);
    // Another guest where it was has the other address, and not the one that went.
    assert_eq!(bench.asks(0, (mac(9), ip(2))), NOWHERE);
    assert_eq!(bench.asks(0, (mac(9), ip(3))), [0]);
    // And back.
    bench.ends[0].is(Presence::Left);
    bench.work();
    bench.ends[1].is(Presence::Left);
    bench.ends[0].is(Presence::Moved);
    assert_eq!(bench.asks(0, (mac(1), ip(2))), [0]);
    assert_eq!(bench.addresses(), [ip(2), ip(3)]);
}

#[test]
fn an_announcement_without_an_address_is_enough() {
    let mut bench = Bench::two();
    bench.ends[0].is(Presence::Left);
    bench.ends[1].is(Presence::Moved);
    let mut frame = question((mac(1), Ipv4Addr::UNSPECIFIED));
    (frame[12], frame[13], frame[21]) = (0x80, 0x35, 3);
    bench.send(1, &frame);
    assert_eq!(bench.addresses(), [ip(3), ip(2)]);
}

#[test]
fn detaching_where_it_was_leaves_it_its_address() {
    let mut bench = Bench::two();
    bench.ends[0].is(Presence::Left);
    bench.ends[1].is(Presence::Moved);
    assert_eq!(bench.asks(1, (mac(1), ip(2))), [1]);
    let first = bench.worker.status().attachments[0].id;
    bench.worker.detach(first, bench.now);
    assert_eq!(bench.asks(1, (mac(1), ip(2))), [1]);
    assert_eq!(bench.addresses(), [ip(2)]);
    assert_eq!(bench.neighbour(2).map(|it| it.0), Some(mac(1)));
    let free = bench.worker.core.gateway.allocate_ip();
    assert_eq!(free, Some(ip(3)));
}

#[test]
fn nobody_is_followed_who_has_not_been_moved() {
    let not_left = [
        Presence::Unknown,
        Presence::Absent,
        Presence::Here,
        Presence::Moved,
    ];
    let not_moved = [
        Presence::Unknown,
        Presence::Absent,
        Presence::Here,
        Presence::Left,
    ];
    let cases = not_left.map(|it| (it, Presence::Moved)).into_iter();
    for (there, here) in cases.chain(not_moved.map(|it| (Presence::Left, it))) {
        let mut bench = Bench::two();
        bench.ends[0].is(there);
        bench.ends[1].is(here);
        assert_eq!(
            bench.asks(1, (mac(1), ip(2))),
            NOWHERE,
            "{there:?} {here:?}"
        );
        assert_eq!(bench.addresses(), [ip(2), ip(3)]);
    }
    // Another hardware address, whatever it says is its own.
    let mut bench = Bench::two();
    bench.ends[0].is(Presence::Left);
    bench.ends[1].is(Presence::Moved);
    assert_eq!(bench.asks(1, (mac(2), ip(2))), NOWHERE);
    // Too late.
    for _ in 1..LOOKS {
        bench.send(1, &question((mac(2), ip(3))));
    }
    assert_eq!(bench.asks(1, (mac(1), ip(2))), NOWHERE);
}

#[test]
fn a_place_with_other_settings_is_another_network_to_it() {
    let vlan = PortOptions {
        vlan: Some(7),
        ..MOVES
    };
    let stays = PortOptions::default();
    // Both have to be made for guests that are moved, whatever VMMs say.
    for places in [[MOVES, vlan], [MOVES, stays], [stays, MOVES], [stays; 2]] {
        let mut bench = Bench::new(&places);
        bench.ends[0].is(Presence::Left);
        bench.ends[1].is(Presence::Moved);
        assert_eq!(bench.asks(1, (mac(1), ip(2))), NOWHERE, "{places:?}");
        assert_eq!(bench.addresses(), [ip(2), ip(3)]);
    }
}

#[test]
fn who_has_left_in_good_order_is_remembered_for_a_moment() {
    for (after, found) in [(LINGER - Duration::from_millis(1), true), (LINGER, false)] {
        let mut bench = Bench::two();
        bench.ends[0].is(Presence::Left);
        bench.ends[0].gone.store(1, Ordering::Relaxed);
        bench.work();
        bench.now += after;
        bench.work();
        assert_eq!(bench.neighbour(2).is_some(), found);
        bench.ends[1].is(Presence::Moved);
        assert_eq!(bench.asks(1, (mac(1), ip(2))) == [1], found);
    }
    // Where nobody is moved from, nobody is waited for.
    let mut bench = Bench::new(&[PortOptions::default()]);
    bench.ends[0].is(Presence::Left);
    bench.ends[0].gone.store(1, Ordering::Relaxed);
    bench.work();
    assert_eq!(bench.neighbour(2), None);
    // Who has not is forgotten at once; and so is one whose place another takes.
    for next in [Presence::Absent, Presence::Here] {
        let mut bench = Bench::two();
        if next == Presence::Here {
            bench.ends[0].is(Presence::Left);
        } else {
            bench.ends[0].is(next);
        }
        bench.ends[0].gone.store(1, Ordering::Relaxed);
        bench.work();
        bench.ends[0].is(next);
        bench.work();
        assert_eq!(bench.neighbour(2), None, "{next:?}");
        // The place keeps its address for whoever comes.
        assert_eq!(bench.asks(1, (mac(2), ip(2))), NOWHERE);
        bench.ends[0].is(Presence::Here);
        assert_eq!(bench.asks(0, (mac(3), ip(2))), [0]);
    }
}
