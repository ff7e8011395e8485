//! Offloads: with the virtio header, without it, agreed to and not.

use net_backend::{NetworkBackend, Offloads, TxFrame};
use net_datapath::{VirtioNetHdr, ZeroCopyPacket};

use super::{frame, received, start};
use crate::fake::{Fake, Script, reply};
use crate::{Vmnet, VmnetConfig};

/// A TCP/IPv4 frame with `payload` bytes, an unfinished checksum, and super-frame if over 1,460.
fn tcp(payload: usize) -> (VirtioNetHdr, Vec<u8>) {
    let mut frame = vec![0x5a; 54 + payload];
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14..34].copy_from_slice(&[
        0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 2, 15, 10, 0, 2, 2,
    ]);
    frame[16..18].copy_from_slice(&((40 + payload) as u16).to_be_bytes());
    frame[34..54].copy_from_slice(&[
        0, 80, 0, 81, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0,
    ]);
    let words = frame[14..34].chunks_exact(2);
    let sum: u32 = words
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
        .sum();
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    // 0x0a00 + 0x020f + 0x0a00 + 0x0202 + 6 + the length of the segment.
    let pseudo = 0x1811 + 6 + (20 + payload as u32);
    let pseudo = (pseudo & 0xffff) + (pseudo >> 16);
    frame[50..52].copy_from_slice(&(pseudo as u16).to_be_bytes());
    let gso = payload > 1460;
    let header = VirtioNetHdr {
        flags: VirtioNetHdr::NEEDS_CSUM,
        gso_type: if gso { VirtioNetHdr::GSO_TCPV4 } else { 0 },
        hdr_len: 54,
        gso_size: if gso { 1460 } else { 0 },
        csum_start: 34,
        csum_offset: 16,
        num_buffers: 0,
    };
    (header, frame)
}

/// A packet as it crosses the framework with a virtio header.
fn with_header((header, frame): &(VirtioNetHdr, Vec<u8>)) -> Vec<u8> {
    [&header.to_bytes()[..], frame].concat()
}

fn with(config: VmnetConfig) -> (Fake, Vmnet) {
    let fake = Fake::with(Script {
        reply: reply(1500, 65_550),
        ..Script::default()
    });
    let vmnet = start(&fake, config).unwrap();
    (fake, vmnet)
}

fn virtio() -> VmnetConfig {
    VmnetConfig::shared()
        .with_virtio_header(true)
        .with_tso(true)
}

fn unannounced() -> VmnetConfig {
    VmnetConfig::shared()
        .with_checksum_offload(true)
        .with_tso(true)
}

fn send(vmnet: &mut Vmnet, (header, frame): &(VirtioNetHdr, Vec<u8>)) {
    let segments = [frame[..].into()];
    let offer = TxFrame {
        header: *header,
        segments: &segments,
    };
    assert_eq!(vmnet.transmit(&[offer]).unwrap(), 1);
}

/// Every received frame is finished: right checksums, no longer than the MTU, one sequence.
fn assert_finished(frames: &[Vec<u8>], payload: usize) {
    let mut bytes = 0;
    for frame in frames {
        assert!(frame.len() <= 1514);
        let packet = ZeroCopyPacket::from_slice(frame, VirtioNetHdr::PLAIN).unwrap();
        assert!(packet.verify_ip_checksum() && packet.verify_l4_checksum());
        let sequence = u32::from_be_bytes(frame[38..42].try_into().unwrap());
        assert_eq!(sequence as usize, 1 + bytes);
        bytes += packet.meta().payload_len();
    }
    assert_eq!(bytes, payload);
}

#[test]
fn what_is_announced() {
    let tcp = Offloads::RX_TSO4 | Offloads::RX_TSO6 | Offloads::TX_TSO4 | Offloads::TX_TSO6;
    let checksum = Offloads::RX_CSUM | Offloads::TX_CSUM;
    for (config, expected) in [
        (VmnetConfig::shared(), Offloads::NONE),
        (VmnetConfig::shared().with_virtio_header(true), checksum),
        (VmnetConfig::shared().with_checksum_offload(true), checksum),
        (virtio(), checksum | tcp),
        (unannounced(), checksum | tcp),
    ] {
        let (_fake, mut vmnet) = with(config);
        assert_eq!(vmnet.capabilities().offloads, expected);
        assert_eq!(vmnet.set_offloads(Offloads::ALL).unwrap(), expected);
        assert_eq!(vmnet.set_offloads(Offloads::NONE).unwrap(), Offloads::NONE);
    }
}

/// A header stands in front of every packet, of a finished one too, and of none without the option.
#[test]
fn headers_in_front() {
    let (fake, mut vmnet) = with(virtio());
    let plain = (VirtioNetHdr::PLAIN, frame(1, 60));
    send(&mut vmnet, &plain);
    assert_eq!(fake.taken(), Some(with_header(&plain)));
    fake.deliver(&with_header(&plain));
    assert_eq!(received(&mut vmnet, 4), [frame(1, 60)]);
    // Too short for a header and a frame.
    for len in [0, 11, 12, 25] {
        fake.deliver(&vec![0; len]);
    }
    assert!(received(&mut vmnet, 8).is_empty());
    assert_eq!(vmnet.statistics().rx_malformed, 4);
}

#[test]
fn super_frames_pass_whole() {
    let (fake, mut vmnet) = with(virtio());
    vmnet.set_offloads(Offloads::ALL).unwrap();
    let big = tcp(30_000);
    send(&mut vmnet, &big);
    assert_eq!(fake.taken(), Some(with_header(&big)));
    fake.deliver(&with_header(&big));
    let mut seen = 0;
    vmnet
        .receive(8, &mut |batch| {
            assert_eq!((batch[0].vnet(), batch[0].len()), (&big.0, big.1.len()));
            seen += batch.len();
        })
        .unwrap();
    assert_eq!(seen, 1);
}

/// With the header refused in two pieces it is gathered with its frame.
#[test]
fn a_header_is_gathered_where_it_must_be() {
    let (fake, mut vmnet) = with(virtio());
    fake.state().script.one_piece = true;
    vmnet.set_offloads(Offloads::ALL).unwrap();
    let big = tcp(20_000);
    send(&mut vmnet, &big);
    assert_eq!(fake.taken(), Some(with_header(&big)));
    assert_eq!(fake.state().writes, [(1, 2), (1, 1)]);
}

/// What nobody agreed to is finished here: cut to the MTU, checksums filled in, in order.
#[test]
fn super_frames_that_nobody_agreed_to() {
    let (fake, mut vmnet) = with(virtio());
    fake.deliver(&with_header(&(VirtioNetHdr::PLAIN, frame(1, 60))));
    fake.deliver(&with_header(&tcp(4000)));
    fake.deliver(&with_header(&(VirtioNetHdr::PLAIN, frame(2, 60))));
    let mut frames = Vec::new();
    loop {
        // On a budget of two, so that pieces are left over again and again.
        let some = received(&mut vmnet, 2);
        if some.is_empty() {
            break;
        }
        frames.extend(some);
    }
    assert_eq!(frames.len(), 5);
    assert_eq!((&frames[0], &frames[4]), (&frame(1, 60), &frame(2, 60)));
    assert_finished(&frames[1..4], 4000);
    let stats = vmnet.statistics();
    assert_eq!((stats.rx_frames, stats.rx_malformed), (5, 0));
}

/// The same segment over IPv6.
fn tcp_v6(payload: usize) -> (VirtioNetHdr, Vec<u8>) {
    let (header, v4) = tcp(payload);
    let mut frame = v4[..12].to_vec();
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 6, 64]);
    frame[18..20].copy_from_slice(&((20 + payload) as u16).to_be_bytes());
    frame.extend([0xfd; 32]);
    frame.extend(&v4[34..]);
    let header = VirtioNetHdr {
        gso_type: VirtioNetHdr::GSO_TCPV6,
        gso_size: 1440,
        hdr_len: 74,
        csum_start: 54,
        ..header
    };
    (header, frame)
}

/// Each family's super-frames pass by the agreement on that family, and are cut without it.
#[test]
fn an_agreement_on_one_family() {
    let checksum = Offloads::RX_CSUM;
    let (v4, v6) = (Offloads::RX_TSO4, Offloads::RX_TSO6);
    for (agreed, packet, pieces) in [
        (checksum, tcp(4000), 3),
        (checksum | v6, tcp(4000), 3),
        (checksum | v4, tcp(4000), 1),
        (checksum, tcp_v6(4000), 3),
        (checksum | v4, tcp_v6(4000), 3),
        (checksum | v6, tcp_v6(4000), 1),
    ] {
        let (fake, mut vmnet) = with(virtio());
        assert_eq!(vmnet.set_offloads(agreed).unwrap(), agreed);
        fake.deliver(&with_header(&packet));
        assert_eq!(received(&mut vmnet, 8).len(), pieces, "{agreed}");
        assert_eq!(vmnet.statistics().rx_malformed, 0);
    }
}

/// A header that contradicts its frame is counted and goes no further.
#[test]
fn headers_that_lie() {
    let (fake, mut vmnet) = with(virtio());
    vmnet.set_offloads(Offloads::ALL).unwrap();
    let (good, bytes) = tcp(3000);
    let lies = [
        VirtioNetHdr {
            csum_start: 60_000,
            ..good
        },
        VirtioNetHdr {
            gso_size: 0,
            ..good
        },
        VirtioNetHdr {
            gso_type: VirtioNetHdr::GSO_TCPV6,
            ..good
        },
        VirtioNetHdr {
            gso_type: VirtioNetHdr::GSO_UDP,
            ..good
        },
        VirtioNetHdr {
            gso_type: 77,
            ..good
        },
    ];
    for lie in lies {
        fake.deliver(&with_header(&(lie, bytes.clone())));
    }
    assert!(received(&mut vmnet, 8).is_empty());
    assert_eq!(vmnet.statistics().rx_malformed, 5);
}

/// Before macOS 15.4 nothing tells a super-frame: its header is made again.
#[test]
fn unannounced_super_frames() {
    let (fake, mut vmnet) = with(unannounced());
    vmnet.set_offloads(Offloads::ALL).unwrap();
    let big = tcp(3000);
    fake.deliver(&big.1);
    let mut headers = Vec::new();
    vmnet
        .receive(8, &mut |batch| {
            headers.extend(batch.iter().map(|packet| *packet.vnet()))
        })
        .unwrap();
    assert_eq!(headers, [big.0]);
    send(&mut vmnet, &big);
    assert_eq!(fake.taken(), Some(big.1));
}

#[test]
fn unannounced_super_frames_that_nobody_agreed_to() {
    let (fake, mut vmnet) = with(unannounced());
    fake.deliver(&tcp(3000).1);
    assert_finished(&received(&mut vmnet, 8), 3000);
    // And a short one, whose checksum may be anything.
    fake.deliver(&tcp(100).1);
    assert_finished(&received(&mut vmnet, 8), 100);
}

/// Frames to send need what was agreed, not what could be.
#[test]
fn nothing_unfinished_is_sent_without_agreement() {
    for config in [VmnetConfig::shared(), virtio(), unannounced()] {
        let (fake, mut vmnet) = with(config);
        send(&mut vmnet, &tcp(100));
        send(&mut vmnet, &tcp(3000));
        assert_eq!(fake.taken(), None);
        assert_eq!(vmnet.statistics().tx_invalid, 2);
    }
}
