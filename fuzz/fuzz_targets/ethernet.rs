//! Ethernet: whatever parses is written back unchanged, and no view leaves the buffer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use net_wire::ethernet::{self, EtherType, EthernetFrame, HEADER_LEN, VLAN_TAG_LEN};

fuzz_target!(|bytes: &[u8]| {
    let Ok(frame) = EthernetFrame::parse(bytes) else {
        assert!(bytes.len() < HEADER_LEN, "a whole header was refused");
        return;
    };
    let mut again = bytes.to_vec();
    again[..HEADER_LEN].fill(0);
    ethernet::emit(&mut again, frame.dst(), frame.src(), frame.ethertype());
    assert_eq!(again, bytes);
    assert_eq!(frame.payload(), &bytes[HEADER_LEN..]);

    let tagged = matches!(frame.ethertype(), EtherType::VLAN | EtherType::QINQ);
    match frame.vlan() {
        Some((tag, inner, payload)) => {
            assert!(tagged);
            let mut rest = tag.to_be_bytes().to_vec();
            rest.extend(inner.0.to_be_bytes());
            rest.extend(payload);
            assert_eq!(rest, frame.payload());
        }
        None => assert!(!tagged || frame.payload().len() < VLAN_TAG_LEN),
    }

    let mac = frame.src();
    assert_eq!(mac.to_string().parse(), Ok(mac));
    assert!(!(mac.is_unicast() && (mac.is_multicast() || mac.is_broadcast())));

    let mut copy = EthernetFrame::parse(bytes.to_vec()).unwrap();
    copy.set_dst(frame.src());
    copy.set_src(frame.dst());
    copy.set_ethertype(EtherType::ARP);
    assert_eq!((copy.dst(), copy.src()), (frame.src(), frame.dst()));
    assert_eq!(copy.ethertype(), EtherType::ARP);
    assert_eq!(
        copy.payload_mut(),
        frame.payload(),
        "a setter wrote past its field"
    );
});
