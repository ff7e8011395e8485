//! Another IPv6 implementation as the guest: it solicits, resolves and pings the gateway.

use std::collections::VecDeque;
use std::time::Duration;

use net_datapath::{VirtioNetHdr, ZeroCopyPacket};
use net_gateway::{Gateway, Output};
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::icmp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, Icmpv6Packet, Icmpv6Repr, IpCidr};

use crate::ipv6::{GATEWAY, GUEST, MAC, gateway, link_local};

/// The cable: what the guest sends is given to the gateway at once.
struct Cable {
    gateway: Gateway,
    to_guest: VecDeque<Vec<u8>>,
    now: Duration,
}

impl Cable {
    fn carry(&mut self, frame: &[u8]) {
        let packet = ZeroCopyPacket::from_slice(frame, VirtioNetHdr::PLAIN).unwrap();
        let mut out = Vec::new();
        self.gateway.ingress(1, &packet, self.now, &mut out);
        self.deliver(out);
    }

    fn deliver(&mut self, out: Vec<Output>) {
        let frames = out.into_iter().filter_map(|output| match output {
            Output::Frame { frame, .. } => Some(frame),
            _ => None,
        });
        self.to_guest.extend(frames);
    }
}

struct Rx(Vec<u8>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Tx<'a>(&'a mut Cable);

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.carry(&frame);
        result
    }
}

impl Device for Cable {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        let frame = self.to_guest.pop_front()?;
        Some((Rx(frame), Tx(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ethernet;
        caps.max_transmission_unit = 1514;
        caps
    }
}

#[test]
fn row62_another_implementation_resolves_and_pings_the_gateway() {
    let mut cable = Cable {
        gateway: gateway(1500),
        to_guest: VecDeque::new(),
        now: Duration::ZERO,
    };
    let mut guest = Interface::new(
        Config::new(EthernetAddress(MAC.0).into()),
        &mut cable,
        Instant::ZERO,
    );
    guest.update_ip_addrs(|addrs| {
        for own in [GUEST, link_local(MAC)] {
            addrs.push(IpCidr::new(own.into(), 64)).unwrap();
        }
    });
    let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 4], vec![0; 512]);
    let mut socket = icmp::Socket::new(buffer(), buffer());
    socket.bind(icmp::Endpoint::Ident(77)).unwrap();
    let mut sockets = SocketSet::new(vec![]);
    let handle = sockets.add(socket);
    let own = cable.gateway.link_local().unwrap();
    for (sequence, target) in [(1, GATEWAY), (2, own)] {
        let mut answered = false;
        let mut asked = false;
        for _ in 0..300 {
            cable.now += Duration::from_millis(20);
            let now = Instant::from_millis(cable.now.as_millis() as i64);
            guest.poll(now, &mut cable, &mut sockets);
            let mut out = Vec::new();
            cable.gateway.on_deadline(cable.now, &mut out);
            cable.deliver(out);
            let socket = sockets.get_mut::<icmp::Socket<'_>>(handle);
            if !asked && socket.can_send() {
                let repr = Icmpv6Repr::EchoRequest {
                    ident: 77,
                    seq_no: sequence,
                    data: b"hello",
                };
                let room = socket.send(repr.buffer_len(), target.into()).unwrap();
                let mut packet = Icmpv6Packet::new_unchecked(room);
                repr.emit(&GUEST, &target, &mut packet, &Default::default());
                asked = true;
            }
            if let Ok((bytes, from)) = socket.recv() {
                assert_eq!(from, target.into());
                assert_eq!(&bytes[8..], b"hello");
                assert_eq!(bytes[6..8], sequence.to_be_bytes());
                answered = true;
                break;
            }
        }
        assert!(answered, "{target}");
    }
    assert_eq!(cable.gateway.neighbour(GUEST).unwrap().mac, MAC);
}
