//! Row 51: nothing is lost, repeated or changed, whatever the wire does to the packets.
//!
//! A smoltcp guest and a simulated far end send each other random bytes through the relay, over a
//! wire that loses, repeats, delays (and thereby reorders) and corrupts packets in both
//! directions. Everything is drawn from one seed. `TCP_RELAY_SEEDS=17` or `=0..1000` chooses seeds.

use core::time::Duration;

use net_datapath::{VirtioNetHdr, ZeroCopyPacket};
use net_usernet::tcp::{HostSocket, TcpRelay};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use super::host::Host;
use super::line::{Card, Faults, Line};
use super::rng::Rng;
use super::wire::{PORT, Wire, ethernet};

/// Who ends its direction only after the other has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Free,
    GuestLast,
    FarLast,
}

#[derive(Debug)]
struct Plan {
    v6: bool,
    offloads: bool,
    inbound: bool,
    mtu: usize,
    to_guest: Faults,
    to_relay: Faults,
    upload: usize,
    download: usize,
    guest_receive: usize,
    guest_send: usize,
    guest_read: usize,
    far_send_buffer: usize,
    far_overstates: usize,
    far_write_at_most: usize,
    far_receive: usize,
    far_drain: usize,
    guest_queue: usize,
    tells_ready: bool,
    peek_limit: Option<usize>,
    pause_us: u64,
    order: Order,
}

impl Plan {
    fn draw(rng: &mut Rng) -> Self {
        let sizes = [0, 1, 1000, 30_000, 100_000, 300_000];
        let buffers = [64, 600, 4096, 20_000, 65_535, 200_000];
        Self {
            v6: rng.permille(300),
            offloads: rng.permille(500),
            inbound: rng.permille(300),
            mtu: rng.pick(&[1500, 1500, 1280, 4000]),
            to_guest: Faults::draw(rng),
            to_relay: Faults::draw(rng),
            upload: rng.pick(&sizes),
            download: rng.pick(&sizes),
            guest_receive: rng.pick(&buffers),
            guest_send: rng.pick(&buffers),
            guest_read: rng.pick(&[10, 1000, 100_000]),
            far_send_buffer: rng.pick(&[5000, 20_000, 64_000, 300_000]),
            far_overstates: rng.pick(&[0, 0, 0, 2000, 100_000]),
            far_write_at_most: rng.pick(&[333, 1000, 4000, usize::MAX, usize::MAX]),
            far_receive: rng.pick(&[300, 5000, 64_000, 300_000]),
            far_drain: rng.pick(&[50, 3000, 100_000]),
            guest_queue: rng.pick(&[1, 4, 64, usize::MAX]),
            tells_ready: rng.permille(500),
            peek_limit: rng.pick(&[None, None, Some(600), Some(20_000)]),
            pause_us: rng.pick(&[10, 300, 4000]),
            order: rng.pick(&[Order::Free, Order::Free, Order::GuestLast, Order::FarLast]),
        }
    }
}

struct World {
    rng: Rng,
    plan: Plan,
    now: Duration,
    relay: TcpRelay<Host>,
    host: Host,
    wire: Wire,
    interface: Interface,
    card: Card,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    to_guest: Line,
    to_relay: Line,
    upload: Vec<u8>,
    download: Vec<u8>,
    uploaded: usize,
    guest_got: Vec<u8>,
    guest_saw_end: bool,
    guest_closed: bool,
    fed: usize,
    far_ended: bool,
    socket: Option<HostSocket>,
    app_next: Duration,
    far_next: Duration,
    app_idle: u32,
    far_idle: u32,
}

/// Far more than any seed needs, so that a relay that spins is found.
const MAX_TURNS: u32 = 3_000_000;
const REMOTE_PORT: u16 = 80;
const GUEST_PORT: u16 = 40_000;

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::draw(&mut rng);
        let mut card = Card {
            mtu: plan.mtu,
            ..Card::default()
        };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut card, Instant::ZERO);
        let (guest, gateway) = if plan.v6 {
            (IpAddress::v6(0xfd00, 0, 0, 0, 0, 0, 0, 15), None)
        } else {
            let gateway = smoltcp::wire::Ipv4Address::new(10, 0, 2, 1);
            (IpAddress::v4(10, 0, 2, 15), Some(gateway))
        };
        interface.update_ip_addrs(|addrs| {
            let prefix = if plan.v6 { 64 } else { 24 };
            addrs.push(IpCidr::new(guest, prefix)).unwrap();
        });
        match gateway {
            Some(gateway) => {
                interface
                    .routes_mut()
                    .add_default_ipv4_route(gateway)
                    .unwrap();
            }
            None => {
                let gateway = smoltcp::wire::Ipv6Address::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
                interface
                    .routes_mut()
                    .add_default_ipv6_route(gateway)
                    .unwrap();
            }
        }
        let mut socket = tcp::Socket::new(
            tcp::SocketBuffer::new(vec![0; plan.guest_receive]),
            tcp::SocketBuffer::new(vec![0; plan.guest_send]),
        );
        let remote = if plan.v6 {
            IpAddress::v6(0x2001, 0xdb8, 0, 0, 0, 0, 0, 80)
        } else {
            IpAddress::v4(192, 0, 2, 80)
        };
        if plan.inbound {
            socket.listen(GUEST_PORT).unwrap();
        } else {
            socket
                .connect(interface.context(), (remote, REMOTE_PORT), GUEST_PORT)
                .unwrap();
        }
        // smoltcp stops its retransmission timer when a closed window opens, even with bytes in
        // flight; the answers to its keep-alive probes make it go on.
        socket.set_keep_alive(Some(smoltcp::time::Duration::from_millis(500)));
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        let mut wire = Wire::new();
        wire.offloads(plan.offloads);
        wire.link_mut().mtu = plan.mtu as u16;
        wire.room = plan.guest_queue;
        wire.tells_ready = plan.tells_ready;
        let (upload, download) = (rng.bytes(plan.upload), rng.bytes(plan.download));
        let mut world = Self {
            now: Duration::from_secs(1),
            relay: TcpRelay::new(super::lab::config(), [seed as u8; 16]),
            host: Host {
                peek_limit: plan.peek_limit,
                ..Host::default()
            },
            to_guest: Line::new(plan.to_guest),
            to_relay: Line::new(plan.to_relay),
            wire,
            interface,
            card,
            sockets,
            handle,
            upload,
            download,
            uploaded: 0,
            guest_got: Vec::new(),
            guest_saw_end: false,
            guest_closed: false,
            fed: 0,
            far_ended: false,
            socket: None,
            app_next: Duration::ZERO,
            far_next: Duration::ZERO,
            app_idle: 0,
            far_idle: 0,
            plan,
            rng,
        };
        if world.plan.inbound {
            let socket = world.host.add();
            world.shape(socket);
            let (guest, client) = if world.plan.v6 {
                ("[fd00::f]:40000", "[2001:db8::80]:80")
            } else {
                ("10.0.2.15:40000", "192.0.2.80:80")
            };
            assert!(world.relay.accept(
                &mut world.host,
                socket,
                client.parse().unwrap(),
                guest.parse().unwrap(),
                world.now,
                &mut world.wire,
            ));
        }
        world
    }

    fn shape(&mut self, socket: HostSocket) {
        let far = self.host.far(socket);
        far.outbox_size = self.plan.far_send_buffer;
        far.overstates = self.plan.far_overstates;
        far.write_at_most = self.plan.far_write_at_most;
        self.socket = Some(socket);
    }

    /// When an actor acts again: later and later, as long as it finds nothing to do.
    fn pause(&mut self, idle: u32) -> Duration {
        let longest = (self.plan.pause_us << idle.min(14)).min(40_000);
        self.now + Duration::from_micros(1 + self.rng.below(longest))
    }

    /// Grows whenever one of the ends has done something.
    fn progress(&mut self) -> (usize, usize) {
        let far = self.socket.map_or(0, |socket| {
            let far = self.host.far(socket);
            self.fed + far.arrived.len() + usize::from(self.far_ended)
        });
        let ended = usize::from(self.guest_closed) + usize::from(self.guest_saw_end);
        (far, self.guest_got.len() + self.uploaded + ended)
    }

    /// The far end: accepts, sends, receives, ends.
    fn far_end(&mut self) {
        let Some(socket) = self.socket else {
            // With lost SYN-ACKs the guest may have made a second attempt; the last one counts.
            if let Some((&id, _)) = self.host.sockets.last_key_value() {
                let socket = HostSocket(id);
                self.shape(socket);
                self.host.far(socket).connected = Some(Ok(()));
                self.host.events.push_back((socket, super::host::WRITABLE));
            }
            return;
        };
        if !self.host.far(socket).closed && self.fed < self.download.len() {
            let room = self
                .plan
                .far_receive
                .saturating_sub(self.host.far(socket).inbox.len());
            let chunk = 1 + self.rng.below(20_000) as usize;
            let n = chunk.min(room).min(self.download.len() - self.fed);
            if n > 0 {
                let bytes = self.download[self.fed..self.fed + n].to_vec();
                self.host.feed(socket, &bytes);
                self.fed += n;
            }
        }
        let drain = 1 + self.rng.below(self.plan.far_drain as u64) as usize;
        if !self.host.far(socket).outbox.is_empty() {
            self.host.drain(socket, drain);
        }
        let may_end = self.plan.order != Order::FarLast || self.host.far(socket).write_ended;
        if self.fed == self.download.len() && !self.far_ended && may_end {
            self.far_ended = true;
            self.host.end(socket);
        }
    }

    /// The guest's program: sends, receives, ends.
    fn guest_program(&mut self) {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        if socket.can_send() && self.uploaded < self.upload.len() {
            self.uploaded += socket.send_slice(&self.upload[self.uploaded..]).unwrap();
        }
        // At the end of TIME-WAIT smoltcp forgets what the program has not read.
        let closing = socket.state() == tcp::State::TimeWait;
        let mut buffer = vec![
            0;
            if closing {
                200_000
            } else {
                self.plan.guest_read
            }
        ];
        match socket.recv_slice(&mut buffer) {
            Ok(n) => self.guest_got.extend(&buffer[..n]),
            Err(tcp::RecvError::Finished) => self.guest_saw_end = true,
            Err(tcp::RecvError::InvalidState) => {}
        }
        let may_end = self.plan.order != Order::GuestLast || self.guest_saw_end;
        let opened = socket.may_send();
        if opened && self.uploaded == self.upload.len() && !self.guest_closed && may_end {
            self.guest_closed = true;
            socket.close();
        }
    }

    /// Everything that is due now.
    fn turn(&mut self) {
        while let Some(packet) = self.to_relay.take(self.now) {
            let frame = ethernet(&packet);
            if let Ok(view) = ZeroCopyPacket::from_slice(&frame, VirtioNetHdr::PLAIN) {
                self.relay
                    .ingress(&mut self.host, PORT, &view, self.now, &mut self.wire);
            }
        }
        while let Some(packet) = self.to_guest.take(self.now) {
            self.card.received.push_back(packet);
        }
        if self.far_next <= self.now {
            let before = self.progress();
            self.far_end();
            let idle = self.progress() == before;
            self.far_idle = if idle { self.far_idle + 1 } else { 0 };
            self.far_next = self.pause(self.far_idle);
        }
        if self.app_next <= self.now {
            let before = self.progress();
            self.guest_program();
            let idle = self.progress() == before;
            self.app_idle = if idle { self.app_idle + 1 } else { 0 };
            self.app_next = self.pause(self.app_idle);
        }
        while let Some((socket, ready)) = self.host.events.pop_front() {
            self.relay
                .host_ready(&mut self.host, socket, ready, self.now, &mut self.wire);
        }
        if self.relay.next_deadline().is_some_and(|at| at <= self.now) {
            self.relay
                .on_deadline(&mut self.host, self.now, &mut self.wire);
        }
        let was_full = self.wire.sent.len() >= self.wire.room;
        while let Some(frames) = self.wire.take_frames() {
            for frame in frames {
                self.to_guest.put(frame, self.now, &mut self.rng);
            }
        }
        if was_full {
            self.relay.guest_writable(PORT);
        }
        let now = Instant::from_micros(self.now.as_micros() as i64);
        self.interface.poll(now, &mut self.card, &mut self.sockets);
        for packet in core::mem::take(&mut self.card.sent) {
            self.to_relay.put(packet, self.now, &mut self.rng);
        }
    }

    /// The next moment at which anything happens.
    fn next(&mut self) -> Duration {
        let now = Instant::from_micros(self.now.as_micros() as i64);
        let guest = self
            .interface
            .poll_at(now, &self.sockets)
            .map(|at| Duration::from_micros(at.total_micros() as u64));
        [
            Some(self.app_next),
            Some(self.far_next),
            self.to_guest.next(),
            self.to_relay.next(),
            self.relay.next_deadline(),
            guest,
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or_default()
        .max(self.now + Duration::from_micros(1))
    }

    fn done(&mut self) -> bool {
        let Some(socket) = self.socket else {
            return false;
        };
        let far = self.host.far(socket);
        self.guest_got.len() >= self.download.len()
            && self.guest_saw_end
            && far.arrived.len() >= self.upload.len()
            && far.write_ended
            && far.outbox.is_empty()
    }

    fn run(&mut self) {
        let limit = Duration::from_secs(24 * 3600);
        let mut turns = 0;
        while !self.done() {
            self.turn();
            self.now = self.next();
            turns += 1;
            let stalled = self.now >= limit || turns >= MAX_TURNS;
            assert!(
                !stalled,
                "stalled: {:?} {:#?}",
                self.now,
                self.relay.statistics()
            );
        }
        assert!(
            self.guest_got == self.download,
            "the guest got something else"
        );
        let socket = self.socket.unwrap();
        assert!(
            self.host.far(socket).arrived == self.upload,
            "the far end got something else"
        );
        // What is left of the connection goes as well.
        let limit = self.now + Duration::from_secs(3600);
        while self.relay.statistics().flows > 0 || self.host.open() > 0 {
            self.turn();
            self.now = self.next();
            assert!(
                self.now < limit,
                "a flow stays: {:?}",
                self.relay.statistics()
            );
        }
        assert!(!self.host.far(socket).reset, "a clean end became a reset");
    }
}

/// Which seeds to run.
fn seeds() -> core::ops::Range<u64> {
    let Ok(wish) = std::env::var("TCP_RELAY_SEEDS") else {
        return 0..100;
    };
    let parse = |text: &str| text.parse().expect("TCP_RELAY_SEEDS is N or N..M");
    match wish.split_once("..") {
        Some((from, to)) => parse(from)..parse(to),
        None => parse(&wish)..parse(&wish) + 1,
    }
}

#[test]
fn row51_lossless_under_faults_in_both_directions() {
    let mut total = Duration::ZERO;
    for seed in seeds() {
        let result = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            world.run();
            (world.now, world.relay.statistics().retransmits)
        });
        if std::env::var_os("TCP_RELAY_VERBOSE").is_some() {
            eprintln!("seed {seed}: {result:?}");
        }
        match result {
            Ok((time, _)) => total += time,
            Err(panic) => {
                eprintln!("seed {seed}: {:#?}", Plan::draw(&mut Rng::new(seed)));
                eprintln!(
                    "run it again with: TCP_RELAY_SEEDS={seed} cargo test -p net-usernet \
                     --test tcp_relay row51"
                );
                std::panic::resume_unwind(panic);
            }
        }
    }
    eprintln!("{} s of simulated time", total.as_secs());
}

/// The same, without faults: what the test above proves is not that everything is slow.
#[test]
fn row51_a_clean_wire_needs_no_retransmission() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        let clean = Faults {
            loss: 0,
            repeat: 0,
            corrupt: 0,
            delay_us: 20,
            jitter_us: 0,
        };
        (world.to_guest.faults, world.to_relay.faults) = (clean, clean);
        world.run();
        let stats = world.relay.statistics();
        assert_eq!(
            stats.retransmits, 0,
            "seed {seed}: {stats:?} {:#?}",
            world.plan
        );
        assert_eq!(stats.bad_checksum + stats.timed_out + stats.resets_sent, 0);
    }
}
