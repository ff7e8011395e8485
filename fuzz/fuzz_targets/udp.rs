//! UDP: the length field rules, a header is written back unchanged, and a checksum that was
//! computed verifies.
#![no_main]

use libfuzzer_sys::fuzz_target;
use net_wire::checksum::{Delta, pseudo_v4, sum};
use net_wire::ip_proto;
use net_wire::udp::{self, HEADER_LEN, UdpDatagram};

fuzz_target!(|bytes: &[u8]| {
    let Ok(datagram) = UdpDatagram::parse(bytes) else {
        return;
    };
    let len = datagram.len();
    assert!(HEADER_LEN <= len && len <= bytes.len());
    assert_eq!(datagram.payload(), &bytes[HEADER_LEN..len]);
    assert!(UdpDatagram::parse(&bytes[..len - 1]).is_err());

    let mut again = bytes[..len].to_vec();
    again[..HEADER_LEN].fill(0xaa);
    let (src, dst) = (datagram.src_port(), datagram.dst_port());
    udp::emit(
        &mut again,
        src,
        dst,
        datagram.payload().len(),
        datagram.checksum(),
    );
    assert_eq!(again, bytes[..len]);

    // Compute, verify, translate the source port, patch, verify.
    let pseudo = pseudo_v4(
        [10, 0, 2, 15].into(),
        [192, 0, 2, 1].into(),
        ip_proto::UDP,
        len,
    );
    let mut copy = UdpDatagram::parse(&mut again[..]).unwrap();
    copy.set_checksum(0);
    assert!(copy.verify_checksum(pseudo), "0 says there is none");
    let value = (pseudo + sum(&copy_bytes(&copy))).finish_udp();
    copy.set_checksum(value);
    assert!(value != 0 && copy.verify_checksum(pseudo));
    copy.set_src_port(!src);
    copy.set_checksum(Delta::new16(src, !src).apply_udp(value));
    assert!(copy.verify_checksum(pseudo));
    assert_eq!((copy.src_port(), copy.dst_port()), (!src, dst));
    // One bit wrong is always seen.
    copy.set_dst_port(dst ^ 1);
    assert!(!copy.verify_checksum(pseudo));
});

/// The datagram's own bytes: the view does not lend them, so they are put together again.
fn copy_bytes(datagram: &UdpDatagram<&mut [u8]>) -> Vec<u8> {
    let payload = datagram.payload();
    let mut bytes = vec![0; HEADER_LEN];
    let (src, dst) = (datagram.src_port(), datagram.dst_port());
    udp::emit(&mut bytes, src, dst, payload.len(), datagram.checksum());
    bytes.extend(payload);
    bytes
}
