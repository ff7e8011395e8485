//! What a router does to a packet, without touching its payload: parse the headers once, give the
//! packet its next hop and one hop less to live, tag it for the next link, and hand the pieces to
//! `writev`. Here the payload lies in pool buffers; in a VMM it lies in the guest's memory, and
//! `ZeroCopyPacket::from_raw` takes its descriptors.
//!
//! `cargo run --release -p net-datapath --example forward`

use std::error::Error;

use net_datapath::gso::{Checksums, Segmenter};
use net_datapath::{
    IoSegment, PacketBuf, PacketPool, PoolConfig, SegmentList, VirtioNetHdr, ZeroCopyPacket,
};
use net_wire::MacAddr;
use net_wire::ethernet::{self, EtherType};
use net_wire::ipv4::Ipv4Repr;
use net_wire::tcp::{self, SeqNumber, TcpFlags, TcpRepr};

const GUEST: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const ROUTER: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 2]);
const NEXT_HOP: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 3]);
/// What flow hashes are keyed with; random in earnest.
const SEED: u64 = 0x5eed;

fn main() -> Result<(), Box<dyn Error>> {
    let pool = PacketPool::new(PoolConfig {
        buffers: 64,
        buffer_size: 2048,
        headroom: 128,
    })?;
    let (buffers, header) = receive(&pool)?;

    // The pieces of the frame, wherever they are. Nothing but the headers is read.
    let pieces: Vec<IoSegment<'_>> = buffers.iter().map(IoSegment::from).collect();
    let mut packet = ZeroCopyPacket::from_segments(&pieces, header)?;
    let queue = packet.flow_hash_symmetric(SEED) % 4;
    println!(
        "{} bytes in {} pieces, {} port {} to {} port {}, queue {queue}",
        packet.len(),
        pieces.len(),
        packet.ip_src().ok_or("not IP")?,
        packet.meta().src_port,
        packet.ip_dst().ok_or("not IP")?,
        packet.meta().dst_port,
    );

    if let Err(reason) = forward(&mut packet) {
        println!("dropped: {reason}");
        return Ok(());
    }

    // A port with offloads takes the super-frame as it is: its virtio header, then the pieces.
    let header = packet.vnet().to_bytes();
    let mut list = SegmentList::new();
    list.push(IoSegment::from(&header[..]))?;
    for piece in packet.frame_segments().iter() {
        list.push(*piece)?;
    }
    // The list has the layout of `struct iovec[]`:
    // `libc::writev(tap, list.as_ptr().cast(), list.len() as i32)`. Here a copy stands for it.
    let mut wire = vec![0; list.total_len()];
    list.copy_to_slice(0, &mut wire);
    println!("to a TAP: {} bytes in {} pieces", wire.len(), list.len());

    // A port without them takes frames of one MTU with finished checksums.
    let mut segmenter = Segmenter::new(&packet, 1500, Checksums::Complete)?;
    let mut frame = pool.alloc().ok_or("the pool is empty")?;
    while let Some(written) = segmenter.write_next(frame.spare_mut()) {
        let (len, _plain) = written?;
        frame.set_len(len).ok_or("longer than the buffer")?;
        let segment = ZeroCopyPacket::from_slice(&frame, VirtioNetHdr::PLAIN)?;
        println!(
            "to a wire: {len} bytes, tag {:?}, checksums right: {}",
            segment.meta().vlan(),
            segment.verify_ip_checksum() && segment.verify_l4_checksum(),
        );
        frame.clear();
    }
    Ok(())
}

/// Gives the packet its next hop, in the private copy of its headers.
fn forward(packet: &mut ZeroCopyPacket<'_>) -> Result<(), &'static str> {
    let meta = packet.meta();
    if !meta.is_ip() || packet.dst_mac() != ROUTER {
        return Err("not for a router");
    }
    if meta.malformed || !packet.verify_ip_checksum() {
        return Err("malformed");
    }
    packet.decrement_ttl().ok_or("time exceeded")?;
    packet.set_src_mac(ROUTER);
    packet.set_dst_mac(NEXT_HOP);
    // VLAN 9, into the room in front of the head.
    packet.push_vlan(9).ok_or("no room for a tag")
}

/// Stands for a receive queue: a TCP super-frame of 3,000 bytes of payload in two buffers.
fn receive(pool: &PacketPool) -> Result<([PacketBuf; 2], VirtioNetHdr), Box<dyn Error>> {
    const PAYLOAD: usize = 3000;
    const IP: usize = ethernet::HEADER_LEN;
    const TCP: usize = IP + net_wire::ipv4::MIN_HEADER_LEN;
    const DATA: usize = TCP + tcp::MIN_HEADER_LEN;

    let mut frame = vec![0x5a; DATA + PAYLOAD];
    ethernet::emit(&mut frame, ROUTER, GUEST, EtherType::IPV4);
    let ip = Ipv4Repr {
        src: [10, 0, 0, 2].into(),
        dst: [192, 0, 2, 80].into(),
        protocol: net_wire::ip_proto::TCP,
        ttl: 64,
        tos: 0,
        id: 1,
        dont_fragment: true,
        payload_len: tcp::MIN_HEADER_LEN + PAYLOAD,
    };
    ip.emit(&mut frame[IP..TCP]);
    let segment = TcpRepr {
        src_port: 40_000,
        dst_port: 80,
        seq: SeqNumber(1),
        ack: SeqNumber(1),
        flags: TcpFlags::ACK | TcpFlags::PSH,
        window: 500,
    };
    segment.emit(&mut frame[TCP..DATA], &[]);
    // A guest with offloads leaves the pseudo-header sum in the checksum field.
    let pseudo = net_wire::checksum::pseudo_v4(ip.src, ip.dst, ip.protocol, ip.payload_len);
    frame[TCP + 16..TCP + 18].copy_from_slice(&pseudo.fold().to_be_bytes());

    let (first, second) = frame.split_at(1500);
    let mut buffers = [(); 2].map(|()| pool.alloc());
    for (buffer, bytes) in buffers.iter_mut().zip([first, second]) {
        let buffer = buffer.as_mut().ok_or("the pool is empty")?;
        buffer.extend_from_slice(bytes).ok_or("too small")?;
    }
    let [Some(first), Some(second)] = buffers else {
        return Err("the pool is empty".into());
    };
    let header = VirtioNetHdr {
        flags: VirtioNetHdr::NEEDS_CSUM,
        gso_type: VirtioNetHdr::GSO_TCPV4,
        hdr_len: DATA as u16,
        gso_size: 1400,
        csum_start: TCP as u16,
        csum_offset: 16,
        num_buffers: 0,
    };
    Ok(([first, second], header))
}
