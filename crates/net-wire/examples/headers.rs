//! Reading and rewriting headers in place: a query to a resolver gets another destination, and the
//! checksums follow by what changed, without a look at the payload.
//!
//! `cargo run -p net-wire --example headers`

use std::net::{Ipv4Addr, SocketAddrV4};

use net_wire::checksum::{Delta, pseudo_v4};
use net_wire::ethernet::{self, EtherType, EthernetFrame};
use net_wire::ipv4::{self, Ipv4Packet, Ipv4Repr};
use net_wire::udp::{self, UdpDatagram};
use net_wire::{MacAddr, WireError, ip_proto};

const GUEST: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 40_000);
const GATEWAY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 53);
const RESOLVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 53), 5353);

fn main() -> Result<(), WireError> {
    let mut frame = query(b"a question");
    print("from the guest", &frame)?;
    redirect(&mut frame, RESOLVER)?;
    print("to the resolver", &frame)?;
    // What is cut short, or is no UDP, is refused by `parse`; nothing behind it can panic.
    for len in 0..frame.len() {
        assert!(redirect(&mut frame[..len], GATEWAY).is_err());
    }
    Ok(())
}

/// Sends a datagram to `to` instead of where it was going.
fn redirect(frame: &mut [u8], to: SocketAddrV4) -> Result<(), WireError> {
    let mut frame = EthernetFrame::parse(frame)?;
    if frame.ethertype() != EtherType::IPV4 {
        return Err(WireError::Malformed);
    }
    let mut ip = Ipv4Packet::parse(frame.payload_mut())?;
    if ip.protocol() != ip_proto::UDP || ip.is_fragment() {
        return Err(WireError::Malformed);
    }
    let before = ip.dst();
    let mut udp = UdpDatagram::parse(ip.payload_mut())?;
    let old = SocketAddrV4::new(before, udp.dst_port());
    udp.set_dst_port(to.port());
    // RFC 1624: the checksum after a change follows from the one before and the change. A proxy
    // that redirects a flow makes the delta once.
    let check = Delta::new_endpoint_v4(old, to).apply_udp(udp.checksum());
    udp.set_checksum(check);

    let check = Delta::new_v4(before, *to.ip()).apply(ip.header_checksum());
    ip.set_dst(*to.ip());
    ip.set_header_checksum(check);
    Ok(())
}

/// What the headers say, and whether the checksums are right.
fn print(what: &str, frame: &[u8]) -> Result<(), WireError> {
    let frame = EthernetFrame::parse(frame)?;
    let ip = Ipv4Packet::parse(frame.payload())?;
    let udp = UdpDatagram::parse(ip.payload())?;
    let pseudo = pseudo_v4(ip.src(), ip.dst(), ip_proto::UDP, udp.len());
    println!(
        "{what}: {} port {} to {} port {}, {} bytes; checksums right: {}",
        ip.src(),
        udp.src_port(),
        ip.dst(),
        udp.dst_port(),
        udp.payload().len(),
        ip.verify_header_checksum() && udp.verify_checksum(pseudo),
    );
    Ok(())
}

/// A datagram from the guest to the gateway.
fn query(payload: &[u8]) -> Vec<u8> {
    const IP: usize = ethernet::HEADER_LEN;
    const UDP: usize = IP + ipv4::MIN_HEADER_LEN;
    const DATA: usize = UDP + udp::HEADER_LEN;

    let mut frame = vec![0; DATA + payload.len()];
    let (gateway, guest) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
    ethernet::emit(&mut frame, gateway, guest, EtherType::IPV4);
    let header = Ipv4Repr {
        src: *GUEST.ip(),
        dst: *GATEWAY.ip(),
        protocol: ip_proto::UDP,
        ttl: 64,
        tos: 0,
        id: 1,
        dont_fragment: true,
        payload_len: udp::HEADER_LEN + payload.len(),
    };
    header.emit(&mut frame[IP..]);
    frame[DATA..].copy_from_slice(payload);
    let (src, dst) = (GUEST.port(), GATEWAY.port());
    udp::emit(&mut frame[UDP..], src, dst, payload.len(), 0);
    let pseudo = pseudo_v4(header.src, header.dst, ip_proto::UDP, header.payload_len);
    let check = (pseudo + net_wire::checksum::sum(&frame[UDP..])).finish_udp();
    udp::emit(&mut frame[UDP..], src, dst, payload.len(), check);
    frame
}
