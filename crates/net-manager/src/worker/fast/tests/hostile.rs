//! Guests and strangers that mean harm.

use super::frames::{self, Frame, partial, tcp_in, tcp_out, udp_in, udp_out};
use super::*;

/// SplitMix64: the same numbers in every run.
pub(super) struct Random(pub(super) u64);

/// Flips up to three bits of the headers, but for the destination's hardware address, and now and then cuts
/// the frame or tells lies about offloads.
pub(super) fn damage(frame: &mut Frame, random: &mut Random) {
    for _ in 0..random.below(4) {
        let headers = frame.bytes.len().min(80);
        let at = 6 + random.below(headers - 6);
        frame.bytes[at] ^= 1 << random.below(8);
    }
    if random.below(10) == 0 {
        let len = 14 + random.below(frame.bytes.len() - 13);
        frame.bytes.truncate(len);
    }
    if random.below(10) == 0 {
        frame.header.csum_start = random.below(100) as u16;
        frame.header.gso_size = random.below(2000) as u16;
    }
}

impl Random {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

const PEER: (Ipv4Addr, u16) = (FAR, 7000);

/// Whoever completes the checksum would write it over the translated source.
#[test]
fn a_checksum_that_would_be_written_into_an_address_is_dropped() {
    let mut world = World::connected(1, 1500);
    for (start, offset) in [(26, 0), (34, 0), (14, 12), (34, 17), (33, 17)] {
        let mut frame = tcp_out(0, 4000, PEER, (2, 1, 0), b"data");
        partial(&mut frame, guest_ip(0), FAR);
        (frame.header.csum_start, frame.header.csum_offset) = (start, offset);
        world.guest_sends(0, &frame);
        assert!(world.outside().is_empty(), "{start} {offset}");
    }
    assert_eq!(world.status().drops.offload, 5);
    let mut frame = tcp_out(0, 4000, PEER, (2, 1, 0), b"data");
    partial(&mut frame, guest_ip(0), FAR);
    world.guest_sends(0, &frame);
    assert_eq!(world.outside().len(), 1);
}

#[test]
fn only_frames_for_us_come_in() {
    let mut world = World::connected(1, 1500);
    world.guest_sends(0, &udp_out(0, 5000, FAR, 7000, b"x"));
    let port = world.outside()[0].ends().src.1;
    let good = udp_in(PEER, port, b"x");
    let change = |at: usize, byte: u8| {
        let mut frame = good.clone();
        frame.bytes[at] ^= byte;
        frame
    };
    for (what, frame) in [
        ("another station's", change(5, 1)),
        ("a group's", change(0, 1)),
        ("from a group", change(6, 1)),
        ("a broken header", change(14 + 10, 1)),
        ("another address", {
            let mut frame = change(14 + 19, 1);
            let sum = u16::from_be_bytes([frame.bytes[24], frame.bytes[25]]);
            let fixed = if good.bytes[33] & 1 == 0 {
                sum - 1
            } else {
                sum + 1
            };
            frame.bytes[24..26].copy_from_slice(&fixed.to_be_bytes());
            frame
        }),
    ] {
        world.outside_sends(&frame);
        assert!(world.guest(0).is_empty(), "{what}");
    }
    // From a guest's address, and from our own.
    for src in [guest_ip(0), guest_ip(7), OUTSIDE] {
        world.outside_sends(&udp_in((src, 7000), port, b"x"));
        assert!(world.guest(0).is_empty(), "{src}");
    }
    let mut tagged = good.clone();
    tagged.bytes.splice(12..12, [0x81, 0, 0, 5]);
    world.outside_sends(&tagged);
    assert!(world.guest(0).is_empty());
    world.outside_sends(&good);
    assert_eq!(world.guest(0).len(), 1);
}

#[test]
fn a_scan_of_the_outside_network_does_not_stop_the_neighbour() {
    let mut world = World::connected(2, 1500);
    for last in 3..=254 {
        let ip = Ipv4Addr::new(198, 51, 100, last);
        world.guest_sends(0, &udp_out(0, 5000, ip, 7000, b"scan"));
    }
    world.outside();
    world.guest_sends(
        1,
        &udp_out(1, 5000, Ipv4Addr::new(198, 51, 100, 200), 7000, b"x"),
    );
    let near = Ipv4Addr::new(198, 51, 100, 201);
    world.guest_sends(1, &udp_out(1, 5000, near, 7000, b"x"));
    world.router_says(near);
    let sent = world.outside();
    assert!(
        sent.iter()
            .any(|it| it.arp().is_none() && it.ends().dst.0 == near)
    );
    world.pass(5);
    // Told about some, and no more than the rate allows.
    assert!(world.guest(0).len() <= 300);
}

/// Frames of all kinds with flipped bits, cut and stretched, from both sides: nothing panics, the
/// tables stay sound, nothing leaves under any other address than the outside one, and nothing
/// reaches a guest that is not for it.
#[test]
fn nothing_sent_breaks_the_router() {
    let mut random = Random(0x5eed);
    let mut world = World::connected(2, 1400);
    let published: crate::config::PublishedPort = "8080:80".parse().unwrap();
    world.worker.publish(&published, None).unwrap();
    for round in 0..20_000u32 {
        if round % 64 == 0 {
            world.now += Duration::from_millis(random.below(3000) as u64);
        }
        let n = random.below(2);
        let port = 1 + random.below(59_999) as u16;
        let data = vec![0x55; random.below(1500)];
        let guest_sends = random.below(2) == 0;
        let mut frame = match (guest_sends, random.below(5)) {
            (true, 0) => udp_out(n, port, FAR, 7000, &data),
            (true, 1) => udp_out(n, port, FAR, 7000, &data).may_fragment(),
            (true, 2) => frames::super_out(n, port, PEER, 9000, 1300),
            (true, 3) => frames::echo_out(n, FAR),
            (true, _) => tcp_out(n, port, (OUTSIDE, 8080), (2, 1, 0), &data),
            (false, 0) => tcp_in(PEER, 8080, (2, port.into(), 0), &data),
            (false, 1) => frames::echo_in(FAR),
            (false, 2) => udp_in(PEER, port, &data).may_fragment(),
            (false, _) => udp_in(PEER, port, &data),
        };
        damage(&mut frame, &mut random);
        if guest_sends {
            world.guest_sends(n, &frame);
        } else {
            world.outside_sends(&frame);
        }
        for frame in world.outside() {
            if frame.bytes[12..14] == [8, 0] {
                assert_eq!(frame.bytes[26..30], OUTSIDE.octets(), "{frame:?}");
            }
        }
        for n in 0..2 {
            for frame in world.guest(n) {
                let routed = frame.bytes[6..12] == GATEWAY_MAC.0 && frame.bytes[12..14] == [8, 0];
                let other = guest_ip(1 - n).octets();
                assert!(!routed || frame.bytes[30..34] != other, "{frame:?}");
            }
        }
    }
    let packets = world.worker.core.uplink.packets().unwrap();
    packets.nat.validate().unwrap();
}
