//! ICMP and ICMPv6: a message with a right checksum is written back unchanged, and the options of
//! neighbour discovery end.
#![no_main]

use std::net::Ipv6Addr;

use libfuzzer_sys::fuzz_target;
use net_wire::checksum::pseudo_v6;
use net_wire::icmpv4::{self, HEADER_LEN, IcmpMessage};
use net_wire::icmpv6::{self, Icmpv6Message};
use net_wire::ip_proto;

fuzz_target!(|bytes: &[u8]| {
    let Ok(message) = IcmpMessage::parse(bytes) else {
        assert!(bytes.len() < HEADER_LEN && Icmpv6Message::parse(bytes).is_err());
        return;
    };
    assert_eq!(message.data(), &bytes[HEADER_LEN..]);
    assert_eq!(
        message.rest(),
        u32::from(message.id()) << 16 | u32::from(message.sequence())
    );
    let mut again = bytes.to_vec();
    icmpv4::emit(&mut again, message.kind(), message.code(), message.rest());
    let written = IcmpMessage::parse(&again[..]).unwrap();
    assert!(written.verify_checksum());
    assert_eq!(written.is_error(), message.is_error());
    if message.verify_checksum() {
        same(bytes, &again, message.checksum(), written.checksum());
    }

    let message = Icmpv6Message::parse(bytes).expect("both headers are 8 bytes");
    let pseudo = pseudo_v6(
        Ipv6Addr::LOCALHOST,
        Ipv6Addr::UNSPECIFIED,
        ip_proto::ICMPV6,
        bytes.len(),
    );
    let mut again = bytes.to_vec();
    icmpv6::emit(
        &mut again,
        message.kind(),
        message.code(),
        message.rest(),
        pseudo,
    );
    let written = Icmpv6Message::parse(&again[..]).unwrap();
    assert!(written.verify_checksum(pseudo));
    if message.verify_checksum(pseudo) {
        same(bytes, &again, message.checksum(), written.checksum());
    }
    if let Some(target) = message.ndp_target() {
        assert_eq!(target.octets(), message.data()[..16]);
    }
    for kind in [1, 2, 0, 255] {
        if let Some(mac) = message.ndp_link_address(kind) {
            let mut option = vec![kind, 1];
            option.extend(mac.0);
            assert!(
                message.data().windows(8).any(|w| w == option),
                "an option from nowhere"
            );
        }
    }
});

/// Two messages that differ at most in the form of a zero checksum.
fn same(a: &[u8], b: &[u8], stored: u16, written: u16) {
    assert!(stored == written || (stored, written) == (0xffff, 0));
    assert_eq!((&a[..2], &a[4..]), (&b[..2], &b[4..]));
}
