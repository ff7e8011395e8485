//! Against smoltcp's independent reading of the wire format, and its client.

use std::net::Ipv4Addr;

use net_dhcp::v4::codec::{Message, MessageType};
use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress, HardwareAddress};

use crate::guest::*;

fn repr(kind: DhcpMessageType, requested: Option<Ipv4Addr>) -> DhcpRepr<'static> {
    let unset = Ipv4Addr::UNSPECIFIED;
    DhcpRepr {
        message_type: kind,
        transaction_id: 0x1234_5678,
        secs: 0,
        client_hardware_address: EthernetAddress(mac(7)),
        client_ip: unset,
        your_ip: unset,
        server_ip: unset,
        router: None,
        subnet_mask: None,
        relay_agent_ip: unset,
        broadcast: false,
        requested_ip: requested,
        client_identifier: Some(EthernetAddress(mac(7))),
        server_identifier: requested.map(|_| SERVER),
        parameter_request_list: Some(&[1, 3, 6, 58, 59]),
        dns_servers: None,
        max_size: Some(1432),
        lease_duration: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    }
}

fn emit(repr: &DhcpRepr<'_>) -> Vec<u8> {
    let mut bytes = vec![0; repr.buffer_len()];
    repr.emit(&mut DhcpPacket::new_unchecked(&mut bytes))
        .unwrap();
    bytes
}

#[test]
fn smoltcp_reads_our_replies_and_we_read_its_requests() {
    let mut s = server_with(|c| c.dns = vec![SERVER, Ipv4Addr::new(9, 9, 9, 9)]);
    let discover = emit(&repr(DhcpMessageType::Discover, None));
    assert_eq!(
        Message::parse(&discover).unwrap().message_type(),
        Some(MessageType::Discover)
    );
    let reply = s.handle(1, mac(7), &discover, at(0)).unwrap().payload;
    let packet = DhcpPacket::new_checked(&reply[..]).unwrap();
    let offer = DhcpRepr::parse(&packet).unwrap();
    assert_eq!(offer.message_type, DhcpMessageType::Offer);
    assert_eq!(offer.server_identifier, Some(SERVER));

    let request = emit(&repr(DhcpMessageType::Request, Some(offer.your_ip)));
    let reply = s.handle(1, mac(7), &request, at(0)).unwrap().payload;
    let packet = DhcpPacket::new_checked(&reply[..]).unwrap();
    let ack = DhcpRepr::parse(&packet).unwrap();
    assert_eq!(ack.message_type, DhcpMessageType::Ack);
    assert_eq!(ack.transaction_id, 0x1234_5678);
    assert_eq!(ack.client_hardware_address, EthernetAddress(mac(7)));
    assert_eq!(ack.client_identifier, Some(EthernetAddress(mac(7))));
    assert_eq!(ack.your_ip, offer.your_ip);
    assert_eq!(ack.subnet_mask, Some(Ipv4Addr::new(255, 255, 255, 0)));
    assert_eq!(ack.router, Some(SERVER));
    assert_eq!(
        ack.dns_servers.unwrap().as_slice(),
        [SERVER, Ipv4Addr::new(9, 9, 9, 9)]
    );
    assert_eq!(
        (ack.lease_duration, ack.renew_duration, ack.rebind_duration),
        (Some(3600), Some(1800), Some(3150))
    );
    assert_eq!(s.leases().next().unwrap().ip, ack.your_ip);
}

/// The smoltcp stack as a guest, frame by frame: its client gets its lease from our server, and
/// renews it over hours of simulated time.
#[test]
fn smoltcp_guest_is_configured_and_renews() {
    use smoltcp::iface::{Config, Interface, SocketSet};
    use smoltcp::phy::{Device, Loopback, Medium, RxToken, TxToken};
    use smoltcp::socket::dhcpv4;
    use smoltcp::time::Instant;
    use smoltcp::wire::{
        ArpOperation, ArpPacket, ArpRepr, EthernetFrame, EthernetProtocol, EthernetRepr,
        IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
    };

    /// What the guest sends, and what it receives.
    struct Wire {
        from_guest: Loopback,
        to_guest: Loopback,
    }
    impl Device for Wire {
        type RxToken<'a> = <Loopback as Device>::RxToken<'a>;
        type TxToken<'a> = <Loopback as Device>::TxToken<'a>;
        fn receive(&mut self, now: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
            let (rx, _) = self.to_guest.receive(now)?;
            Some((rx, self.from_guest.transmit(now)?))
        }
        fn transmit(&mut self, now: Instant) -> Option<Self::TxToken<'_>> {
            self.from_guest.transmit(now)
        }
        fn capabilities(&self) -> smoltcp::phy::DeviceCapabilities {
            self.from_guest.capabilities()
        }
    }

    let guest = EthernetAddress(mac(7));
    let gateway = EthernetAddress([2, 0, 0, 0, 0, 0xfe]);
    let checks = smoltcp::phy::ChecksumCapabilities::default();
    let loopback = || Loopback::new(Medium::Ethernet);
    let mut wire = Wire {
        from_guest: loopback(),
        to_guest: loopback(),
    };
    let config = Config::new(HardwareAddress::Ethernet(guest));
    let mut iface = Interface::new(config, &mut wire, Instant::ZERO);
    let mut sockets = SocketSet::new(vec![]);
    let handle = sockets.add(dhcpv4::Socket::new());
    let mut s = server();
    let mut configured = Vec::new();

    for step in 0..4 * 3600u64 {
        let now = Instant::from_millis(step as i64 * 1000);
        iface.poll(now, &mut wire, &mut sockets);
        if let Some(event) = sockets.get_mut::<dhcpv4::Socket<'_>>(handle).poll() {
            if let dhcpv4::Event::Configured(config) = event {
                iface.update_ip_addrs(|addrs| {
                    addrs.clear();
                    addrs
                        .push(smoltcp::wire::IpCidr::Ipv4(config.address))
                        .unwrap();
                });
                configured.push(config.address);
            } else {
                assert_eq!(step, 0, "the lease was lost");
            }
        }
        while let Some((rx, _)) = wire.from_guest.receive(now) {
            let bytes = rx.consume(<[u8]>::to_vec);
            let frame = EthernetFrame::new_checked(&bytes[..]).unwrap();
            let mut send = |protocol, len: usize, body: &dyn Fn(&mut [u8])| {
                let ethernet = EthernetRepr {
                    src_addr: gateway,
                    dst_addr: guest,
                    ethertype: protocol,
                };
                wire.to_guest
                    .transmit(now)
                    .unwrap()
                    .consume(14 + len, |buffer| {
                        let mut frame = EthernetFrame::new_unchecked(buffer);
                        ethernet.emit(&mut frame);
                        body(frame.payload_mut());
                    });
            };
            if frame.ethertype() == EthernetProtocol::Arp {
                let arp = ArpRepr::parse(&ArpPacket::new_checked(frame.payload()).unwrap());
                let ArpRepr::EthernetIpv4 {
                    source_protocol_addr,
                    target_protocol_addr,
                    ..
                } = arp.unwrap()
                else {
                    unreachable!("no other kind of ARP")
                };
                let answer = ArpRepr::EthernetIpv4 {
                    operation: ArpOperation::Reply,
                    source_hardware_addr: gateway,
                    source_protocol_addr: target_protocol_addr,
                    target_hardware_addr: guest,
                    target_protocol_addr: source_protocol_addr,
                };
                if target_protocol_addr == SERVER {
                    send(EthernetProtocol::Arp, answer.buffer_len(), &|to| {
                        answer.emit(&mut ArpPacket::new_unchecked(to));
                    });
                }
                continue;
            }
            if frame.ethertype() != EthernetProtocol::Ipv4 {
                continue;
            }
            let packet = Ipv4Packet::new_checked(frame.payload()).unwrap();
            if packet.next_header() != IpProtocol::Udp {
                continue;
            }
            let udp = UdpPacket::new_checked(packet.payload()).unwrap();
            assert_eq!((udp.src_port(), udp.dst_port()), (68, 67));
            let reply = s.handle(1, mac(7), udp.payload(), at(step)).unwrap();
            let net_dhcp::ReplyDst::Unicast { ip, mac: to } = reply.dst else {
                panic!("smoltcp does not ask for broadcast")
            };
            assert_eq!(to, mac(7));
            let udp = UdpRepr {
                src_port: 67,
                dst_port: reply.dst_port,
            };
            let ipv4 = Ipv4Repr {
                src_addr: SERVER,
                dst_addr: ip,
                next_header: IpProtocol::Udp,
                payload_len: 8 + reply.payload.len(),
                hop_limit: 64,
            };
            send(EthernetProtocol::Ipv4, 28 + reply.payload.len(), &|to| {
                let mut packet = Ipv4Packet::new_unchecked(to);
                ipv4.emit(&mut packet, &checks);
                udp.emit(
                    &mut UdpPacket::new_unchecked(packet.payload_mut()),
                    &SERVER.into(),
                    &ip.into(),
                    reply.payload.len(),
                    |buffer| buffer.copy_from_slice(&reply.payload),
                    &checks,
                );
            });
        }
    }
    assert!(!configured.is_empty(), "{:?}", s.stats());
    assert!(
        configured
            .iter()
            .all(|c| c.prefix_len() == 24 && *c == configured[0])
    );
    assert_eq!(s.leases().count(), 1);
    assert!(
        s.stats().acks >= 6,
        "renewed about every half hour: {:?}",
        s.stats()
    );
    assert_eq!(s.stats().expiries, 0);
}
