//! Frames that the benchmarks and the counts look at, a packet of each flow.

use net_wire::ip_proto;

/// Frames that take turns, so that no branch is learned from one frame.
pub const FRAMES: usize = 32;

/// One frame of `payload` bytes behind the transport header; checksums are not filled in.
pub fn frame(ipv6: bool, protocol: u8, flow: usize, payload: usize) -> Vec<u8> {
    let l4 = if protocol == ip_proto::TCP { 32 } else { 8 };
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    let ip_payload = (l4 + payload) as u16;
    if ipv6 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(ip_payload.to_be_bytes());
        frame.extend([protocol, 64]);
        frame.extend([0x20; 15]);
        frame.push(flow as u8);
        frame.extend([0x30; 16]);
    } else {
        frame.extend([8, 0, 0x45, 0]);
        frame.extend((20 + ip_payload).to_be_bytes());
        frame.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
        frame.extend([10, 0, 0, flow as u8, 10, 0, 1, 1]);
    }
    let start = frame.len();
    frame.resize(start + l4 + payload, 0x5a);
    let transport = &mut frame[start..];
    transport[..4].copy_from_slice(&[200, flow as u8, 1, 187]);
    if protocol == ip_proto::TCP {
        transport[12..14].copy_from_slice(&[8 << 4, 0x10]);
        transport[20..32].copy_from_slice(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    } else {
        transport[4..6].copy_from_slice(&ip_payload.to_be_bytes());
    }
    frame
}

/// [`FRAMES`] of them, each of another flow.
pub fn frames(ipv6: bool, protocol: u8, payload: usize) -> Vec<Vec<u8>> {
    (0..FRAMES)
        .map(|flow| frame(ipv6, protocol, flow, payload))
        .collect()
}
