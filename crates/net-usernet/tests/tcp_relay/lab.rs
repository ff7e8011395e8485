//! A relay, a host, a wire and a clock; the guest is the test.

use core::time::Duration;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use net_datapath::{VirtioNetHdr, ZeroCopyPacket};
use net_usernet::tcp::{HostSocket, RelayConfig, TcpRelay};
use net_wire::checksum::{pseudo_v4, pseudo_v6, sum};
use net_wire::ipv4::{Ipv4Packet, Ipv4Repr};
use net_wire::ipv6::{Ipv6Packet, Ipv6Repr};
use net_wire::tcp::{SeqNumber, TcpFlags, TcpOption, TcpRepr, TcpSegment};

use super::host::Host;
use super::wire::{PORT, Wire, ethernet};

pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 1);
pub(crate) const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
pub(crate) const SYN: TcpFlags = TcpFlags::SYN;
pub(crate) const ACK: TcpFlags = TcpFlags::ACK;
pub(crate) const RST: TcpFlags = TcpFlags::RST;
pub(crate) const FIN: TcpFlags = TcpFlags::FIN;

pub(crate) fn config() -> RelayConfig {
    RelayConfig::new(GATEWAY, Some(GATEWAY6))
}

pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A segment, either way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seg {
    pub(crate) src: SocketAddr,
    pub(crate) dst: SocketAddr,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: TcpFlags,
    pub(crate) window: u16,
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Seg {
    pub(crate) fn has(&self, flag: TcpFlags) -> bool {
        self.flags.contains(flag)
    }

    /// The IP packet, checksums and all.
    pub(crate) fn packet(&self) -> Vec<u8> {
        let mut segment = vec![0u8; 20 + self.options.len() + self.payload.len()];
        let header = TcpRepr {
            src_port: self.src.port(),
            dst_port: self.dst.port(),
            seq: SeqNumber(self.seq),
            ack: SeqNumber(self.ack),
            flags: self.flags,
            window: self.window,
        }
        .emit(&mut segment, &self.options);
        segment[header..].copy_from_slice(&self.payload);
        let len = segment.len();
        let (pseudo, mut packet) = match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let mut packet = vec![0; 20];
                let repr = Ipv4Repr {
                    src,
                    dst,
                    protocol: 6,
                    ttl: 64,
                    tos: 0,
                    id: 1,
                    dont_fragment: true,
                    payload_len: len,
                };
                repr.emit(&mut packet);
                (pseudo_v4(src, dst, 6, len), packet)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let mut packet = vec![0; 40];
                let repr = Ipv6Repr {
                    src,
                    dst,
                    next_header: 6,
                    hop_limit: 64,
                    traffic_class: 0,
                    payload_len: len,
                };
                repr.emit(&mut packet);
                (pseudo_v6(src, dst, 6, len), packet)
            }
            _ => panic!("one family"),
        };
        let check = (pseudo + sum(&segment)).finish();
        segment[16..18].copy_from_slice(&check.to_be_bytes());
        packet.extend(segment);
        packet
    }

    /// Reads a packet that must be a sound segment.
    pub(crate) fn read(packet: &[u8]) -> Self {
        let (src, dst, payload): (IpAddr, IpAddr, &[u8]) = if packet[0] >> 4 == 6 {
            let ip = Ipv6Packet::parse(packet).unwrap();
            assert_eq!(ip.next_header(), 6);
            let (src, dst) = (ip.src(), ip.dst());
            let len = ip.payload_len();
            assert!((pseudo_v6(src, dst, 6, len) + sum(&packet[40..40 + len])).is_valid());
            (src.into(), dst.into(), &packet[40..40 + len])
        } else {
            let ip = Ipv4Packet::parse(packet).unwrap();
            assert_eq!(ip.protocol(), 6);
            assert!(ip.verify_header_checksum());
            let (src, dst) = (ip.src(), ip.dst());
            let len = ip.total_len() - 20;
            assert!((pseudo_v4(src, dst, 6, len) + sum(&packet[20..20 + len])).is_valid());
            (src.into(), dst.into(), &packet[20..20 + len])
        };
        let segment = TcpSegment::parse(payload).unwrap();
        Self {
            src: SocketAddr::new(src, segment.src_port()),
            dst: SocketAddr::new(dst, segment.dst_port()),
            seq: segment.seq().0,
            ack: segment.ack().0,
            flags: segment.flags(),
            window: segment.window(),
            options: payload[20..segment.header_len()].to_vec(),
            payload: segment.payload().to_vec(),
        }
    }

    pub(crate) fn mss(&self) -> Option<u16> {
        self.each_option(|option| match option {
            TcpOption::MaxSegmentSize(mss) => Some(mss),
            _ => None,
        })
    }

    pub(crate) fn scale(&self) -> Option<u8> {
        self.each_option(|option| match option {
            TcpOption::WindowScale(scale) => Some(scale),
            _ => None,
        })
    }

    pub(crate) fn each_option<T>(&self, f: impl Fn(TcpOption<'_>) -> Option<T>) -> Option<T> {
        let packet = self.packet();
        let at = if self.src.is_ipv6() { 40 } else { 20 };
        TcpSegment::parse(&packet[at..])
            .unwrap()
            .options()
            .find_map(f)
    }
}

pub(crate) struct Lab {
    pub(crate) relay: TcpRelay<Host>,
    pub(crate) host: Host,
    pub(crate) wire: Wire,
    pub(crate) now: Duration,
    pub(crate) guest: SocketAddr,
    pub(crate) remote: SocketAddr,
}

/// An open connection, as the guest sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conn {
    pub(crate) socket: HostSocket,
    /// The guest's next sequence number.
    pub(crate) seq: u32,
    /// The next it expects.
    pub(crate) ack: u32,
    pub(crate) shift: u8,
}

pub(crate) const ISS: u32 = u32::MAX - 1000;

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with(config())
    }

    pub(crate) fn with(config: RelayConfig) -> Self {
        Self {
            relay: TcpRelay::new(config, [42; 16]),
            host: Host::default(),
            wire: Wire::new(),
            now: Duration::from_secs(1),
            guest: "10.0.2.15:40000".parse().unwrap(),
            remote: "192.0.2.80:80".parse().unwrap(),
        }
    }

    pub(crate) fn seg(&self, seq: u32, ack: u32, flags: TcpFlags) -> Seg {
        Seg {
            src: self.guest,
            dst: self.remote,
            seq,
            ack,
            flags,
            window: 65_535,
            options: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// A SYN with an MSS of 1460 and, if wanted, window scaling by 7.
    pub(crate) fn syn(&self, scale: bool) -> Seg {
        let mut options = vec![2, 4, 0x05, 0xb4];
        if scale {
            options.extend([1, 3, 3, 7]);
        }
        Seg {
            options,
            ..self.seg(ISS, 0, SYN)
        }
    }

    pub(crate) fn give_packet(&mut self, port: u32, packet: &[u8], header: VirtioNetHdr) {
        let frame = ethernet(packet);
        let view = ZeroCopyPacket::from_slice(&frame, header).unwrap();
        self.relay
            .ingress(&mut self.host, port, &view, self.now, &mut self.wire);
    }

    /// The guest sends a segment; the relay does all that follows.
    pub(crate) fn give(&mut self, seg: &Seg) {
        self.give_packet(PORT, &seg.packet(), VirtioNetHdr::PLAIN);
        self.settle();
    }

    pub(crate) fn deliver_events(&mut self) {
        while let Some((socket, ready)) = self.host.events.pop_front() {
            self.relay
                .host_ready(&mut self.host, socket, ready, self.now, &mut self.wire);
        }
    }

    /// Lets the relay do what is due, and nothing that is not.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100_000 {
            self.deliver_events();
            match self.relay.next_deadline() {
                Some(at) if at <= self.now => {
                    self.relay
                        .on_deadline(&mut self.host, self.now, &mut self.wire);
                }
                _ if self.host.events.is_empty() => return,
                _ => {}
            }
        }
        panic!("the relay spins");
    }

    /// Lets time pass, deadline by deadline; returns how many there were.
    pub(crate) fn wait(&mut self, time: Duration) -> usize {
        let end = self.now + time;
        let mut count = 0;
        while let Some(at) = self.relay.next_deadline().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            self.settle();
            count += 1;
        }
        self.now = end;
        count
    }

    /// Everything sent to the guest since the last call, cut and completed as a port would.
    pub(crate) fn taken(&mut self) -> Vec<Seg> {
        let mut segs = Vec::new();
        while let Some(frames) = self.wire.take_frames() {
            segs.extend(frames.iter().map(|frame| Seg::read(frame)));
        }
        segs
    }

    /// The one segment sent since the last call.
    pub(crate) fn one(&mut self) -> Seg {
        let mut segs = self.taken();
        assert_eq!(segs.len(), 1, "{segs:#?}");
        segs.remove(0)
    }

    pub(crate) fn nothing(&mut self) {
        assert_eq!(self.taken(), []);
    }

    /// The payload of everything sent since the last call, which must be one run from `seq` on.
    pub(crate) fn data(&mut self, mut seq: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for seg in self.taken() {
            if !seg.payload.is_empty() {
                assert_eq!(seg.seq, seq);
                seq = seq.wrapping_add(seg.payload.len() as u32);
                bytes.extend(seg.payload);
            }
        }
        bytes
    }

    /// Opens a connection from the guest, with window scaling.
    pub(crate) fn open(&mut self) -> Conn {
        self.open_with(true, 512)
    }

    pub(crate) fn open_with(&mut self, scale: bool, window: u16) -> Conn {
        let before = self.host.instant;
        self.host.instant = true;
        let syn = self.syn(scale);
        self.give(&syn);
        self.host.instant = before;
        let answer = self.one();
        assert!(
            answer.has(SYN | ACK) && answer.ack == ISS.wrapping_add(1),
            "{answer:?}"
        );
        let socket = HostSocket(*self.host.sockets.last_key_value().unwrap().0);
        let conn = Conn {
            socket,
            seq: ISS.wrapping_add(1),
            ack: answer.seq.wrapping_add(1),
            shift: answer.scale().unwrap_or(0),
        };
        let mut ack = self.seg(conn.seq, conn.ack, ACK);
        ack.window = window;
        self.give(&ack);
        self.nothing();
        conn
    }

    /// A published port has taken a client's connection: the guest is called.
    #[track_caller]
    pub(crate) fn accept(&mut self, socket: HostSocket) {
        let (client, guest) = (self.remote, self.guest);
        let (host, wire) = (&mut self.host, &mut self.wire);
        let taken = self
            .relay
            .accept(host, socket, client, guest, self.now, wire);
        assert!(taken);
    }

    /// The guest answers the SYN it was called with.
    pub(crate) fn answer(&mut self, syn: &Seg) {
        let mut answer = self.syn(true);
        answer.flags = SYN | ACK;
        answer.ack = syn.seq.wrapping_add(1);
        self.give(&answer);
    }

    /// The guest sends `payload` at `conn.seq` and goes on.
    pub(crate) fn push(&mut self, conn: &mut Conn, payload: &[u8], flags: TcpFlags) {
        let seg = Seg {
            payload: payload.to_vec(),
            ..self.seg(conn.seq, conn.ack, flags | ACK)
        };
        conn.seq = conn
            .seq
            .wrapping_add(payload.len() as u32 + u32::from(flags.contains(FIN)));
        self.give(&seg);
    }

    pub(crate) fn feed(&mut self, conn: &Conn, bytes: &[u8]) {
        self.host.feed(conn.socket, bytes);
        self.settle();
    }

    pub(crate) fn arrived(&mut self, conn: &Conn) -> Vec<u8> {
        self.host.drain(conn.socket, usize::MAX);
        self.settle();
        self.host.far(conn.socket).arrived.clone()
    }
}
