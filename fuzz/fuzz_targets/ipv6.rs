//! IPv6: lengths stay inside the buffer, the fixed header is written back unchanged, and the walk
//! over extension headers ends inside the payload.
#![no_main]

use libfuzzer_sys::fuzz_target;
use net_wire::ipv6::{HEADER_LEN, Ipv6Packet, Ipv6Repr, MAX_EXTENSIONS, walk_extensions};

fuzz_target!(|bytes: &[u8]| {
    // The walk alone, over bytes that no fixed header has measured.
    if let Some((&next, rest)) = bytes.split_first() {
        check_walk(next, rest);
    }

    let Ok(packet) = Ipv6Packet::parse(bytes) else {
        return;
    };
    let total = HEADER_LEN + packet.payload_len();
    assert!(total <= bytes.len());
    assert_eq!(packet.payload(), &bytes[HEADER_LEN..total]);
    assert!(packet.flow_label() <= 0xf_ffff);
    assert!(Ipv6Packet::parse(&bytes[..total - 1]).is_err());
    check_walk(packet.next_header(), packet.payload());

    let repr = Ipv6Repr {
        src: packet.src(),
        dst: packet.dst(),
        next_header: packet.next_header(),
        hop_limit: packet.hop_limit(),
        traffic_class: packet.traffic_class(),
        payload_len: packet.payload_len(),
    };
    let mut again = [0xaa; HEADER_LEN];
    repr.emit(&mut again);
    // The flow label is not part of it.
    let label = packet.flow_label().to_be_bytes();
    again[1] |= label[1];
    again[2..4].copy_from_slice(&label[2..]);
    assert_eq!(again, bytes[..HEADER_LEN]);

    let mut copy = Ipv6Packet::parse(bytes.to_vec()).unwrap();
    copy.set_src(packet.dst());
    copy.set_dst(packet.src());
    copy.set_hop_limit(1);
    assert_eq!(
        (copy.src(), copy.dst(), copy.hop_limit()),
        (packet.dst(), packet.src(), 1)
    );
    assert_eq!(copy.payload(), packet.payload());
});

fn check_walk(next: u8, payload: &[u8]) {
    let Ok(upper) = walk_extensions(next, payload) else {
        return;
    };
    assert!(
        upper.offset <= payload.len(),
        "the upper layer starts past the end"
    );
    // Each extension header is at least 8 bytes and at most 8 of them are walked.
    assert!(upper.offset == 0 || upper.offset >= 8);
    assert!(upper.offset <= MAX_EXTENSIONS * 256 * 8);
    if let Some(fragment) = upper.fragment {
        assert!(fragment.offset <= 65_528 && fragment.offset % 8 == 0);
        assert!(upper.offset >= 8);
    }
    // What lies behind the headers has no part in the walk.
    assert_eq!(walk_extensions(next, &payload[..upper.offset]), Ok(upper));
}
