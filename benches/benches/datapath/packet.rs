//! What it costs to look at a packet, make one and change it, on data in the first-level cache.
//!
//! Every run goes over 32 frames of different flows in turn, so that no branch is learned from one
//! frame. smoltcp's line is its checked views of the same headers, without a record of what they
//! said.

use std::hint::black_box;

use net_benches::frames::{FRAMES, frame, frames};
use net_benches::harness::{Contender, Options, Unit, alone, contender, table};
use net_datapath::gro::{GroLimits, merge, run_length};
use net_datapath::gso::{Checksums, Segmenter};
use net_datapath::{IoSegment, PacketMeta, VirtioNetHdr, ZeroCopyPacket};
use net_wire::ip_proto;
use smoltcp::wire;

/// Packets per run.
const OPERATIONS: usize = 1 << 18;

/// `work` on each of `frames` in turn. The next call does not wait for the result of the last.
fn over<'a, R>(
    name: &'static str,
    frames: &'a [Vec<u8>],
    work: impl Fn(&'a [u8]) -> R + Copy + Send + 'a,
) -> Contender<'a> {
    contender(name, move || {
        alone(move || {
            for _ in 0..OPERATIONS / FRAMES {
                for frame in frames {
                    // By reference: a value would be copied once more.
                    black_box(&work(black_box(frame.as_slice())));
                }
            }
        })
    })
}

fn nanoseconds(title: &str, options: &Options, contenders: Vec<Contender<'_>>) {
    table(
        title,
        Unit::Nanoseconds,
        OPERATIONS as u64,
        options.rounds,
        contenders,
    );
}

pub(crate) fn parse(options: &Options) {
    let tcp4 = frames(false, ip_proto::TCP, 1448);
    let tcp6 = frames(true, ip_proto::TCP, 1428);
    let udp4 = frames(false, ip_proto::UDP, 1200);
    let udp6 = frames(true, ip_proto::UDP, 1200);
    let mut tagged = tcp4.clone();
    for frame in &mut tagged {
        frame.splice(12..12, [0x81, 0, 0, 9]);
    }
    let parse = |frame: &[u8]| PacketMeta::parse(frame, frame.len());
    let lines = vec![
        over("TCP/IPv4", &tcp4, parse),
        over("TCP/IPv6", &tcp6, parse),
        over("UDP/IPv4", &udp4, parse),
        over("UDP/IPv6", &udp6, parse),
        over("TCP/IPv4 with a VLAN tag", &tagged, parse),
        over("TCP/IPv4, smoltcp's views", &tcp4, |frame| {
            let eth = wire::EthernetFrame::new_checked(frame).ok()?;
            let ip = wire::Ipv4Packet::new_checked(eth.payload()).ok()?;
            let header = ip.header_len();
            let tcp = wire::TcpPacket::new_checked(&ip.into_inner()[header.into()..]).ok()?;
            Some((tcp.src_port(), tcp.dst_port(), tcp.header_len()))
        }),
        over("TCP/IPv6, smoltcp's views", &tcp6, |frame| {
            let eth = wire::EthernetFrame::new_checked(frame).ok()?;
            let ip = wire::Ipv6Packet::new_checked(eth.payload()).ok()?;
            let tcp = wire::TcpPacket::new_checked(&ip.into_inner()[40..]).ok()?;
            Some((tcp.src_port(), tcp.dst_port(), tcp.header_len()))
        }),
    ];
    nanoseconds("parse: headers to PacketMeta", options, lines);
}

pub(crate) fn build(options: &Options) {
    let tcp4 = frames(false, ip_proto::TCP, 1448);
    let small = frames(false, ip_proto::UDP, 18);
    let packet = |frame| ZeroCopyPacket::from_slice(frame, VirtioNetHdr::PLAIN);
    let lines = vec![
        over("from_slice, 1,514 bytes", &tcp4, packet),
        over("from_slice, 60 bytes", &small, packet),
        over("from_segments, 4 pieces", &tcp4, |frame| {
            let pieces = [0..66, 66..500, 500..1000, 1000..1514].map(|range| &frame[range]);
            ZeroCopyPacket::from_segments(&pieces.map(IoSegment::from), VirtioNetHdr::PLAIN)
        }),
        over("from_slice and iovec export", &tcp4, |frame| {
            let packet = ZeroCopyPacket::from_slice(frame, VirtioNetHdr::PLAIN).ok()?;
            Some(packet.frame_segments().len())
        }),
    ];
    nanoseconds("build: a packet of a frame", options, lines);
}

pub(crate) fn edit(options: &Options) {
    let tcp4 = frames(false, ip_proto::TCP, 1448);
    let tcp6 = frames(true, ip_proto::TCP, 1428);
    fn packets(frames: &[Vec<u8>]) -> Vec<ZeroCopyPacket<'_>> {
        let packet = |frame| ZeroCopyPacket::from_slice(frame, VirtioNetHdr::PLAIN);
        frames.iter().map(|f| packet(f).expect("a frame")).collect()
    }
    let (packets4, packets6) = (packets(&tcp4), packets(&tcp6));
    fn on<'a, R>(
        name: &'static str,
        packets: &'a [ZeroCopyPacket<'a>],
        work: impl Fn(&mut ZeroCopyPacket<'a>) -> R + Copy + Send + Sync + 'a,
    ) -> Contender<'a> {
        let mut packets = packets.to_vec();
        contender(name, move || {
            alone(|| {
                for _ in 0..OPERATIONS / FRAMES {
                    for packet in &mut packets {
                        black_box(work(black_box(packet)));
                    }
                }
            })
        })
    }
    let outer = frame(false, ip_proto::UDP, 1, 0);
    let outer = &outer;
    let lines = vec![
        on("flow hash, IPv4", &packets4, |p| p.flow_hash(1)),
        on("flow hash, IPv6", &packets6, |p| p.flow_hash(1)),
        on("symmetric flow hash, IPv4", &packets4, |p| {
            p.flow_hash_symmetric(1)
        }),
        on("tag pushed and popped", &packets4, |p| {
            (p.push_vlan(7), p.pop_vlan())
        }),
        on("42 bytes pushed and pulled", &packets4, |p| {
            (p.push_head(outer), p.pull_head(outer.len()))
        }),
        on("iovec export", &packets4, |p| p.frame_segments().len()),
    ];
    nanoseconds("edit: a packet there already", options, lines);
}

pub(crate) fn gso(options: &Options) {
    /// Frames of 1,514 bytes in a super-frame.
    const SEGMENTS: usize = 44;
    let bytes = frame(false, ip_proto::TCP, 1, SEGMENTS * 1448);
    let header = VirtioNetHdr {
        flags: VirtioNetHdr::NEEDS_CSUM,
        gso_type: VirtioNetHdr::GSO_TCPV4,
        hdr_len: 66,
        gso_size: 1448,
        csum_start: 34,
        csum_offset: 16,
        num_buffers: 0,
    };
    let packet = ZeroCopyPacket::from_slice(&bytes, header).expect("a frame");
    let packet = &packet;
    const SUPER_FRAMES: usize = 64;
    let segment = |name, checksums| {
        contender(name, move || {
            let packet = packet.clone();
            alone(move || {
                let mut out = [0; 1514];
                for _ in 0..SUPER_FRAMES {
                    let segmenter = Segmenter::new(&packet, 1500, checksums);
                    let mut segmenter = segmenter.expect("a super-frame");
                    while let Some(result) = segmenter.write_next(&mut out) {
                        black_box(&result);
                    }
                    black_box(&out);
                }
            })
        })
    };
    let mut pieces = Vec::new();
    let mut segmenter = Segmenter::new(packet, 1500, Checksums::Complete).expect("a super-frame");
    while let Some(len) = segmenter.next_len() {
        let mut piece = vec![0; len];
        segmenter.write_next(&mut piece);
        pieces.push(piece);
    }
    let pieces: Vec<_> = pieces
        .iter()
        .map(|piece| ZeroCopyPacket::from_slice(piece, VirtioNetHdr::PLAIN).expect("a frame"))
        .collect();
    let pieces = &pieces;
    let lines = vec![
        segment("cut, checksums complete", Checksums::Complete),
        segment("cut, checksums partial", Checksums::Partial),
        contender("merge by reference, all verified", || {
            let pieces = pieces.clone();
            alone(move || {
                for _ in 0..SUPER_FRAMES {
                    let n = run_length(black_box(&pieces), &GroLimits::default());
                    assert_eq!(n, SEGMENTS);
                    black_box(merge(&pieces[..n]));
                }
            })
        }),
    ];
    table(
        "gso: nanoseconds per segment of 1,448 bytes",
        Unit::Nanoseconds,
        (SUPER_FRAMES * SEGMENTS) as u64,
        options.rounds,
        lines,
    );
}
