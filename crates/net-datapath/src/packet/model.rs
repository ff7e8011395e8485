//! Packets against a plain byte vector, under every operation in any order.

use alloc::vec;
use alloc::vec::Vec;
use std::fmt::Debug;

use net_wire::checksum::{self, sum};
use net_wire::tcp::TcpFlags;
use proptest::prelude::*;

use super::*;
use crate::pool::{PacketBuf, PacketPool, PoolConfig};
use crate::test_frames::{Frame, payload};

#[derive(Clone, Debug)]
enum Op {
    Push(Vec<u8>),
    /// An outer Ethernet, IP and UDP header, as a tunnel's.
    Wrap,
    Pull(usize),
    /// Everything up to the transport payload.
    PullHeaders,
    PushVlan(u16),
    PopVlan,
    Write(usize, u8),
    Macs([u8; 6], [u8; 6]),
    DecrementTtl,
    Rebuild,
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => proptest::collection::vec(any::<u8>(), 0..100).prop_map(Op::Push),
        2 => Just(Op::Wrap),
        3 => (0usize..60).prop_map(Op::Pull),
        1 => (0usize..400).prop_map(Op::Pull),
        2 => Just(Op::PullHeaders),
        3 => any::<u16>().prop_map(Op::PushVlan),
        3 => Just(Op::PopVlan),
        3 => (0usize..130, any::<u8>()).prop_map(|(at, byte)| Op::Write(at, byte)),
        1 => any::<([u8; 6], [u8; 6])>().prop_map(|(dst, src)| Op::Macs(dst, src)),
        2 => Just(Op::DecrementTtl),
        1 => Just(Op::Rebuild),
    ]
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let valid = (any::<[bool; 4]>(), 0usize..=10, 0usize..400).prop_map(|(bits, words, len)| {
        let [ipv6, udp, vlan, icmp] = bits;
        let frame = Frame {
            ipv6,
            udp,
            vlan,
            flags: TcpFlags::ACK,
            options: [1, 1, 1, 0].repeat(words),
            payload: payload(len),
            ..Frame::default()
        };
        let mut bytes = frame.build(false);
        if icmp {
            // A protocol whose head is not its headers.
            bytes[if vlan { 27 } else { 23 }] = 1;
        }
        bytes
    });
    // A frame in a frame, so that pulling finds headers that were payload.
    let nested = (0usize..100, valid.clone()).prop_map(|(skip, inner)| {
        let payload = [&[0; 100][..skip], &inner[..]].concat();
        let outer = Frame {
            udp: true,
            payload,
            ..Frame::default()
        };
        outer.build(false)
    });
    let noise = proptest::collection::vec(any::<u8>(), 14..300);
    prop_oneof![3 => valid, 2 => nested, 1 => noise]
}

/// Bytes and virtio header, nothing cleverer.
struct Model {
    bytes: Vec<u8>,
    vnet: VirtioNetHdr,
}

impl Model {
    fn can_push(&self, n: usize) -> bool {
        self.bytes.len() + n <= MAX_FRAME_LEN
    }

    fn push(&mut self, at: usize, header: &[u8]) {
        self.bytes.splice(at..at, header.iter().copied());
        if self.vnet.needs_csum() {
            self.vnet.csum_start += header.len() as u16;
        }
    }

    fn can_pull(&self, n: usize) -> bool {
        let checksum = !self.vnet.needs_csum() || usize::from(self.vnet.csum_start) >= n;
        n + 14 <= self.bytes.len() && checksum
    }

    fn pull(&mut self, at: usize, n: usize) {
        self.bytes.drain(at..at + n);
        if self.vnet.needs_csum() {
            self.vnet.csum_start -= n as u16;
        }
    }
}

/// The packet is the model's bytes by every way of asking.
fn check(packet: &ZeroCopyPacket<'_>, model: &Model) -> Result<(), TestCaseError> {
    let bytes = &model.bytes;
    prop_assert_eq!(packet.len(), bytes.len());
    prop_assert_eq!(packet.vnet(), &model.vnet);
    prop_assert_eq!(packet.head(), &bytes[..packet.head().len()]);
    let list = packet.frame_segments();
    let mut out = vec![0; bytes.len() + 1];
    prop_assert_eq!(list.total_len(), bytes.len());
    prop_assert_eq!(list.copy_to_slice(0, &mut out), bytes.len());
    prop_assert_eq!(&out[..bytes.len()], &bytes[..]);
    for at in [
        0,
        13,
        66,
        packet.head().len(),
        bytes.len() / 2,
        bytes.len() + 9,
    ] {
        let n = packet.copy_range(at, &mut out);
        prop_assert_eq!(&out[..n], bytes.get(at..).unwrap_or_default());
        let range = packet.range_segments(at, 33);
        let end = (at + 33).min(bytes.len());
        prop_assert_eq!(range.total_len(), end.saturating_sub(at));
        let want = sum(bytes.get(at..end).unwrap_or_default());
        prop_assert_eq!(packet.sum_range(at, 33).fold(), want.fold());
    }
    // What was parsed is what a new packet of the bytes says.
    let seen = packet.head().len().max(ZeroCopyPacket::HEAD_MAX);
    let mut meta = PacketMeta::parse(&bytes[..seen.min(bytes.len())], bytes.len()).unwrap();
    meta.offload = model.vnet;
    prop_assert_eq!(packet.meta(), &meta);
    let (from, to) = (usize::from(meta.payload_offset), meta.payload_end as usize);
    let n = packet.payload(0, usize::MAX).copy_to_slice(0, &mut out);
    prop_assert_eq!(&out[..n], &bytes[from..to]);
    if let Some(run) = packet.contiguous_payload() {
        prop_assert_eq!(run, &bytes[from..to]);
    }
    let fresh = ZeroCopyPacket::from_slice(bytes, model.vnet).unwrap();
    if fresh.meta() == packet.meta() {
        type Ask<'a> = (&'a str, fn(&ZeroCopyPacket<'_>) -> std::string::String);
        fn text(value: impl Debug) -> std::string::String {
            std::format!("{value:?}")
        }
        let ask: [Ask<'_>; 8] = [
            ("source", |p| text((p.src_mac(), p.ip_src()))),
            ("destination", |p| text((p.dst_mac(), p.ip_dst()))),
            ("fragment", |p| text(p.fragment())),
            ("IP checksum", |p| text(p.verify_ip_checksum())),
            ("checksum", |p| text(p.verify_l4_checksum())),
            ("hash", |p| text(p.flow_hash(5))),
            ("hash of both", |p| text(p.flow_hash_symmetric(5))),
            ("validate", |p| text(p.vnet().validate(p.len(), p.meta()))),
        ];
        for (what, ask) in ask {
            prop_assert_eq!(ask(packet), ask(&fresh), "{}", what);
        }
    }
    Ok(())
}

fn apply(packet: &mut ZeroCopyPacket<'_>, model: &mut Model, op: Op) -> Result<(), TestCaseError> {
    let room = packet.headroom();
    match op {
        Op::Push(header) => {
            let can = header.len() <= room && model.can_push(header.len());
            prop_assert_eq!(packet.push_head(&header).is_some(), can);
            if can {
                model.push(0, &header);
            }
        }
        Op::Wrap => {
            let whole = Frame {
                udp: true,
                payload: model.bytes.clone(),
                ..Frame::default()
            };
            let header = &whole.build(false)[..42];
            prop_assert_eq!(packet.push_head(header).is_some(), room >= 42);
            if room >= 42 {
                model.push(0, header);
            }
        }
        Op::Pull(n) => {
            prop_assert_eq!(packet.pull_head(n).is_some(), model.can_pull(n));
            if model.can_pull(n) {
                model.pull(0, n);
            }
        }
        Op::PullHeaders => {
            let n = usize::from(packet.meta().payload_offset);
            return apply(packet, model, Op::Pull(n));
        }
        Op::PushVlan(tag) => {
            let can = room >= 4 && model.can_push(4);
            prop_assert_eq!(packet.push_vlan(tag).is_some(), can);
            if can {
                let [a, b] = tag.to_be_bytes();
                model.push(12, &[0x81, 0, a, b]);
                prop_assert_eq!(packet.meta().vlan(), Some(tag));
            }
        }
        Op::PopVlan => {
            let tagged = matches!(model.bytes[12..14], [0x81, 0] | [0x88, 0xa8]);
            let can = tagged && model.bytes.len() >= 18 && model.can_pull(4);
            let tag = can.then(|| u16::from_be_bytes([model.bytes[14], model.bytes[15]]));
            prop_assert_eq!(packet.pop_vlan(), tag);
            if can {
                model.pull(12, 4);
            }
        }
        Op::Write(at, byte) => {
            let at = at % packet.head().len();
            packet.head_mut()[at] = byte;
            packet.reparse();
            model.bytes[at] = byte;
        }
        Op::Macs(dst, src) => {
            packet.set_dst_mac(MacAddr(dst));
            packet.set_src_mac(MacAddr(src));
            model.bytes[..6].copy_from_slice(&dst);
            model.bytes[6..12].copy_from_slice(&src);
        }
        Op::DecrementTtl => {
            let l3 = usize::from(packet.meta().l3_offset);
            let at = match packet.meta().l3 {
                L3::Ipv4 => l3 + 8,
                L3::Ipv6 => l3 + 7,
                _ => {
                    prop_assert_eq!(packet.decrement_ttl(), None);
                    return Ok(());
                }
            };
            let valid = packet.verify_ip_checksum();
            let left = model.bytes[at].checked_sub(1).filter(|left| *left > 0);
            prop_assert_eq!(packet.decrement_ttl(), left);
            let Some(left) = left else { return Ok(()) };
            model.bytes[at] = left;
            if packet.meta().l3 == L3::Ipv4 {
                // A wrong checksum stays wrong by the same amount.
                prop_assert_eq!(packet.verify_ip_checksum(), valid);
                model.bytes[l3 + 10..l3 + 12].copy_from_slice(&packet.head()[l3 + 10..l3 + 12]);
            }
        }
        // Done by the caller, whose memory the new packet lies over.
        Op::Rebuild => {}
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_packet_is_its_bytes_whatever_is_done_to_it(
        frame in any_frame(),
        cuts in proptest::collection::vec(0usize..700, 0..12),
        backing in 0u8..4,
        partial in any::<bool>(),
        ops in proptest::collection::vec(any_op(), 0..20),
    ) {
        let mut vnet = VirtioNetHdr::PLAIN;
        if partial {
            let meta = PacketMeta::parse(&frame, frame.len()).unwrap();
            vnet.flags = VirtioNetHdr::NEEDS_CSUM;
            (vnet.csum_start, vnet.csum_offset) = (meta.l4_offset, 6);
        }
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(frame.len())).collect();
        cuts.extend([0, frame.len()]);
        cuts.sort_unstable();
        let pieces = || cuts.windows(2).map(|w| &frame[w[0]..w[1]]);
        let config = PoolConfig { buffers: 16, buffer_size: 1024, headroom: 0 };
        let pool = PacketPool::new(config).unwrap();
        let buffers: Vec<PacketBuf> = pieces().map(|piece| {
            let mut buf = pool.alloc().unwrap();
            buf.extend_from_slice(piece).unwrap();
            buf
        }).collect();
        let packet = match backing {
            0 => ZeroCopyPacket::from_slice(&frame, vnet),
            1 => {
                let segments: Vec<_> = pieces().map(IoSegment::from).collect();
                ZeroCopyPacket::from_segments(&segments, vnet)
            }
            2 => {
                let segments: Vec<_> = buffers.iter().map(IoSegment::from).collect();
                ZeroCopyPacket::from_segments(&segments, vnet)
            }
            // SAFETY: `frame` outlives the packet, and nobody writes it.
            _ => unsafe { ZeroCopyPacket::from_raw(pieces().map(|p| (p.as_ptr(), p.len())), vnet) },
        };
        let mut packet = packet.unwrap();
        let mut model = Model { bytes: frame.clone(), vnet };
        check(&packet, &model)?;
        prop_assert_eq!(packet.headroom(), ZeroCopyPacket::HEADROOM);
        for op in ops {
            if let Op::Rebuild = op {
                let old = packet.clone();
                let list = old.frame_segments();
                let again = ZeroCopyPacket::from_segments(&list, *old.vnet()).unwrap();
                check(&again, &model)?;
            }
            apply(&mut packet, &mut model, op)?;
            check(&packet, &model)?;
        }
    }

    /// The parser of the usual packets and that of all packets agree on any bytes.
    #[test]
    fn the_two_parsers_agree(
        frame in any_frame(),
        flips in proptest::collection::vec((0usize..80, 0u8..8), 0..4),
        len in 0usize..500,
        more in 0usize..3,
    ) {
        let mut frame = frame;
        for (at, bit) in flips {
            let at = at % frame.len();
            frame[at] ^= 1 << bit;
        }
        let head = &frame[..len.min(frame.len())];
        let frame_len = [head.len(), frame.len(), head.len() / 2][more];
        let cut = head.get(..frame_len).unwrap_or(head);
        prop_assert_eq!(PacketMeta::parse(head, frame_len), PacketMeta::parse_any(cut, frame_len));
    }
}

/// Every value of every byte of the headers, and every truncation.
#[test]
fn the_two_parsers_agree_on_near_misses() {
    let mut fast = 0;
    for bits in 0..8 {
        let frame = Frame {
            ipv6: bits & 1 != 0,
            udp: bits & 2 != 0,
            vlan: bits & 4 != 0,
            payload: payload(30),
            ..Frame::default()
        };
        let good = frame.build(false);
        for len in 0..=good.len() {
            let head = &good[..len];
            for frame_len in [len, good.len()] {
                let want = PacketMeta::parse_any(head, frame_len);
                assert_eq!(PacketMeta::parse(head, frame_len), want);
            }
        }
        for at in 0..good.len() {
            let mut frame = good.clone();
            for value in 0..=255 {
                frame[at] = value;
                let want = PacketMeta::parse_any(&frame, frame.len());
                assert_eq!(PacketMeta::parse(&frame, frame.len()), want);
                let other = |_: &[u8], _| Err(WireError::Truncated);
                let mut meta = PacketMeta::BLANK;
                let in_place = fast::parse(&mut meta, &frame, frame.len(), other);
                let returned = fast::parse(fast::Returned, &frame, frame.len(), other);
                assert_eq!(in_place.map(|()| meta), returned);
                fast += usize::from(returned.is_ok());
            }
        }
    }
    assert!(
        fast > 100_000,
        "the usual packets take the short way: {fast}"
    );
}

#[test]
fn there_is_room_for_a_tunnel_and_two_tags() {
    let bytes = Frame::default().build(false);
    let mut packet = ZeroCopyPacket::from_slice(&bytes, VirtioNetHdr::PLAIN).unwrap();
    let inner = packet.clone();
    packet.push_head(&[0x55; 70]).unwrap();
    packet.push_vlan(1).unwrap();
    packet.push_vlan(2).unwrap();
    assert_eq!((packet.headroom(), packet.push_head(&[0; 3])), (2, None));
    assert_eq!(
        (packet.push_vlan(3), packet.len()),
        (None, bytes.len() + 78)
    );
    assert_eq!((packet.pop_vlan(), packet.pop_vlan()), (Some(2), Some(1)));
    packet.pull_head(70).unwrap();
    assert_eq!(packet.pop_vlan(), None);
    assert_eq!((packet.head(), packet.meta()), (inner.head(), inner.meta()));
    assert!(packet.verify_l4_checksum());
}

#[test]
fn the_longest_frame_takes_no_more() {
    let bytes = vec![0; MAX_FRAME_LEN - 4];
    let mut packet = ZeroCopyPacket::from_slice(&bytes, VirtioNetHdr::PLAIN).unwrap();
    assert_eq!(packet.push_head(&[0; 5]), None);
    assert_eq!(packet.push_vlan(1), Some(()));
    assert_eq!(packet.push_vlan(1), None);
    assert_eq!(packet.len(), MAX_FRAME_LEN);
}

/// What stays behind the tag must not be taken with it: a checksum that starts in it.
#[test]
fn a_checksum_that_starts_in_the_tag_keeps_it() {
    let frame = Frame {
        vlan: true,
        ..Frame::default()
    };
    let bytes = frame.build(false);
    let vnet = VirtioNetHdr {
        flags: VirtioNetHdr::NEEDS_CSUM,
        csum_start: 3,
        ..VirtioNetHdr::PLAIN
    };
    let mut packet = ZeroCopyPacket::from_slice(&bytes, vnet).unwrap();
    assert_eq!(packet.pop_vlan(), None);
    assert_eq!(packet.head(), &bytes[..packet.head().len()]);
    assert_eq!(packet.meta().vlan(), Some(9));
    packet.set_vnet(VirtioNetHdr {
        csum_start: 65_535,
        ..vnet
    });
    assert_eq!(packet.push_vlan(1), None);
    assert_eq!(packet.head(), &bytes[..packet.head().len()]);
}

#[test]
fn both_directions_of_a_connection_hash_alike() {
    for (ipv6, udp) in [(false, false), (false, true), (true, false), (true, true)] {
        let frame = Frame {
            ipv6,
            udp,
            ..Frame::default()
        };
        let there = frame.build(false);
        let mut back = there.clone();
        let (ip, len) = if ipv6 { (22, 16) } else { (26, 4) };
        back[ip..ip + len].copy_from_slice(&there[ip + len..ip + 2 * len]);
        back[ip + len..ip + 2 * len].copy_from_slice(&there[ip..ip + len]);
        let l4 = ip + 2 * len;
        back[l4..l4 + 2].copy_from_slice(&there[l4 + 2..l4 + 4]);
        back[l4 + 2..l4 + 4].copy_from_slice(&there[l4..l4 + 2]);
        let [there, back] =
            [&there, &back].map(|f| ZeroCopyPacket::from_slice(f, VirtioNetHdr::PLAIN).unwrap());
        for seed in [0, 1, u64::MAX] {
            assert_ne!(there.flow_hash(seed), back.flow_hash(seed));
            let hash = there.flow_hash_symmetric(seed);
            assert_eq!(hash, back.flow_hash_symmetric(seed));
            assert_ne!(hash, there.flow_hash_symmetric(seed ^ 2));
        }
    }
}

/// Neighbouring flows spread over queues: no queue of 8 gets more than twice its share of 4,096.
#[test]
fn flows_spread_over_queues() {
    for ipv6 in [false, true] {
        for seed in [0, 7, 0x0123_4567_89ab_cdef] {
            let mut low = [0u32; 8];
            let mut high = [0u32; 8];
            let frame = Frame {
                ipv6,
                ..Frame::default()
            };
            let mut bytes = frame.build(false);
            let ip_end = if ipv6 { 54 } else { 34 };
            for host in 0..64u8 {
                for port in 0..64u8 {
                    bytes[ip_end - 1] = host;
                    bytes[ip_end + 1] = port;
                    let packet = ZeroCopyPacket::from_slice(&bytes, VirtioNetHdr::PLAIN).unwrap();
                    for hash in [packet.flow_hash(seed), packet.flow_hash_symmetric(seed)] {
                        low[(hash % 8) as usize] += 1;
                        high[(hash >> 61) as usize] += 1;
                    }
                }
            }
            let most = low.iter().chain(&high).max();
            assert!(most < Some(&2048), "{low:?} {high:?}");
        }
    }
}

#[test]
fn a_decremented_ttl_is_what_a_new_checksum_says() {
    for ttl in 0..=255u8 {
        let mut bytes = Frame::default().build(false);
        bytes[22] = ttl;
        bytes[24..26].fill(0);
        let check = checksum::sum(&bytes[14..34]).finish();
        bytes[24..26].copy_from_slice(&check.to_be_bytes());
        let mut packet = ZeroCopyPacket::from_slice(&bytes, VirtioNetHdr::PLAIN).unwrap();
        let left = packet.decrement_ttl();
        assert_eq!(left, (ttl > 1).then(|| ttl - 1));
        assert_eq!(packet.head()[22], left.unwrap_or(ttl));
        assert!(packet.verify_ip_checksum());
    }
}
