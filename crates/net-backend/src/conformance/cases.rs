//! The cases themselves.

use std::time::Duration;

use net_datapath::{IoSegment, VirtioNetHdr};

use super::{Frame, Harness, PATIENCE, Peer, Random, carry_in, carry_out, content, lend, tick};
use crate::{BackendError, MIN_FRAME, NetworkBackend, Offloads, TxFrame};

/// Lengths at the edges of what drivers, buffers and length fields can do.
const SIZES: [usize; 17] = [
    14, 15, 18, 59, 60, 64, 127, 128, 129, 142, 1514, 1518, 4096, 9014, 32_768, 65_535, 65_550,
];

/// More bytes than any socket buffer: a back end that takes them all has no bound.
const BOUND: usize = 64 << 20;

/// Cuts `bytes` after each of the lengths in `cuts`.
fn cut<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<IoSegment<'a>> {
    let mut rest = bytes;
    let mut segments = Vec::new();
    for len in cuts {
        let (piece, tail) = rest.split_at((*len).min(rest.len()));
        segments.push(IoSegment::from(piece));
        rest = tail;
    }
    segments.push(IoSegment::from(rest));
    segments
}

fn whole(frames: &[Frame]) -> Vec<[IoSegment<'_>; 1]> {
    frames.iter().map(|f| [f.bytes[..].into()]).collect()
}

/// Frames from [`MIN_FRAME`] bytes to the longest the back end carries, one by one, both ways,
/// transmitted in one piece, with the headers apart, and in many pieces with empty ones between.
pub fn frame_sizes<H: Harness>(harness: &mut H) {
    let (mut backend, mut peer) = harness.connect();
    let window = harness.properties().most();
    let longest = backend.capabilities().max_frame;
    let sizes = SIZES.into_iter().filter(|size| *size <= longest);
    for (seed, size) in sizes.chain([longest]).enumerate() {
        let frame = content(seed as u64, size);
        let got = carry_in(
            (&mut backend, &mut peer),
            std::slice::from_ref(&frame),
            8,
            window,
        );
        assert_eq!(got, std::slice::from_ref(&frame), "received, {size} bytes");
        let frame = frame.turned();
        let cuts: [&[usize]; 4] = [&[], &[14], &[0, 1, 13, 0, 20, 20, 1], &[size / 16; 16]];
        for cuts in cuts {
            let segments = cut(&frame.bytes, cuts);
            let offer = [TxFrame::plain(&segments)];
            let got = carry_out((&mut backend, &mut peer), &offer, (1, 1), window);
            assert_eq!(
                got,
                std::slice::from_ref(&frame),
                "sent, {size} bytes, cut at {cuts:?}"
            );
        }
    }
}

/// A thousand frames each way arrive once and in order, with budgets and batches of 1 to 1,000.
pub fn batches<H: Harness>(harness: &mut H) {
    let (mut backend, mut peer) = harness.connect();
    let window = harness.properties().most();
    let frames: Vec<Frame> = (0..1000).map(|i| content(i, 60 + i as usize)).collect();
    for budget in [1, 3, 64, 1000] {
        let got = carry_in((&mut backend, &mut peer), &frames, budget, window);
        assert!(
            got == frames,
            "received out of order on a budget of {budget}"
        );
    }
    let frames: Vec<Frame> = frames.iter().map(Frame::turned).collect();
    let segments = whole(&frames);
    let offer: Vec<TxFrame<'_>> = segments.iter().map(|s| TxFrame::plain(s)).collect();
    for batch in [1, 3, 64, 1000] {
        let got = carry_out((&mut backend, &mut peer), &offer, (batch, 64), window);
        assert!(got == frames, "sent out of order in batches of {batch}");
    }
    assert_eq!(backend.transmit(&[]).expect("an empty offer"), 0);
    let mut none = Vec::new();
    assert_eq!(lend(&mut backend, 0, &mut none).expect("no budget"), 0);
}

/// Nothing to receive is `Ok(0)` and no call of the sink, time after time.
pub fn receive_would_block<H: Harness>(harness: &mut H) {
    let (mut backend, mut peer) = harness.connect();
    let window = harness.properties().most();
    let mut got = Vec::new();
    for round in 0..3 {
        for _ in 0..3 {
            let count = lend(&mut backend, 64, &mut got).expect("would block is no error");
            assert_eq!(count, 0);
        }
        let frame = content(round, 100);
        let got = carry_in(
            (&mut backend, &mut peer),
            std::slice::from_ref(&frame),
            64,
            window,
        );
        assert_eq!(got, [frame]);
    }
    assert!(got.is_empty());
}

/// A peer that does not read makes `transmit` say so within bounded memory; once it reads, every
/// frame that was taken arrives, in order, and transmission goes on. Where frames are lost instead, the
/// first ones are not, and those that arrive are in order.
pub fn transmit_would_block<H: Harness>(harness: &mut H) {
    let (mut backend, mut peer) = harness.connect();
    let window = harness.properties().most();
    if harness.properties().window.is_some() {
        return transmit_overflows(&mut backend, &mut peer, window);
    }
    let frame = |i: usize| content(i as u64, 1514).turned();
    let mut taken = 0;
    for round in 0.. {
        assert!(taken * 1514 < BOUND, "{taken} frames taken, none read");
        let frames: Vec<Frame> = (taken..taken + 64).map(frame).collect();
        let segments = whole(&frames);
        let offer: Vec<TxFrame<'_>> = segments.iter().map(|s| TxFrame::plain(s)).collect();
        let count = backend.transmit(&offer).expect("a slow peer is no error");
        taken += count;
        if count == 0 && round > 0 {
            break;
        }
    }
    assert!(
        backend.wants_write() || backend.next_deadline().is_some(),
        "blocked, and nothing to wait for"
    );
    let (mut got, mut idle, mut now) = (0, 0, Duration::ZERO);
    while got < taken {
        match peer.recv() {
            Some(arrived) => {
                assert_eq!(arrived, frame(got), "frame {got} of {taken}");
                (got, idle) = (got + 1, 0);
            }
            None => idle += 1,
        }
        if got % 16 == 0 || idle > 0 {
            backend.flush().expect("flush failed while the peer lives");
            tick(&mut backend, &mut now);
        }
        super::give_up_after(idle, "draining", got, taken);
    }
    assert_eq!(backend.statistics().tx_dropped(), 0);
    let after = [content(7, 777).turned()];
    let segments = whole(&after);
    let offer = [TxFrame::plain(&segments[0])];
    assert_eq!(
        carry_out((&mut backend, &mut peer), &offer, (1, 1), window),
        after
    );
}

/// Twice as many frames as there is room for, to a reader that does not read.
fn transmit_overflows<B: NetworkBackend, P: Peer>(backend: &mut B, peer: &mut P, window: usize) {
    let frames: Vec<Frame> = (0..2 * window as u64)
        .map(|i| content(i, 1514).turned())
        .collect();
    let segments = whole(&frames);
    let offer: Vec<TxFrame<'_>> = segments.iter().map(|s| TxFrame::plain(s)).collect();
    let mut taken = 0;
    for _ in 0..PATIENCE {
        taken += backend
            .transmit(&offer[taken..])
            .expect("a slow peer is no error");
        if taken == offer.len() {
            break;
        }
    }
    assert_eq!(taken, offer.len(), "held back by a peer that loses frames");
    let (mut next, mut idle) = (0, 0);
    while next < frames.len() && idle < 1000 {
        let Some(arrived) = peer.recv() else {
            idle += 1;
            std::thread::yield_now();
            continue;
        };
        let place = frames[next..].iter().position(|frame| *frame == arrived);
        let place = place.expect("a frame that was not sent, or out of order");
        assert!(place == 0 || next >= window, "frame {next} is lost");
        next += place + 1;
    }
    assert!(next >= window, "only {next} frames arrived");
    let after = [content(7, 777).turned()];
    let segments = whole(&after);
    let offer = [TxFrame::plain(&segments[0])];
    let got = carry_out((backend, peer), &offer, (1, 1), window);
    assert_eq!(got, after);
}

/// Frames of random sizes, in random batches, to a reader slower than the writer, arrive whole and
/// in order; and so they do the other way.
pub fn partial_progress<H: Harness>(harness: &mut H) {
    let (mut backend, mut peer) = harness.connect();
    let window = harness.properties().most();
    let longest = backend.capabilities().max_frame;
    let mut random = Random(0x5eed);
    for (batch, pace) in [(1, 1), (17, 3), (200, 1), (200, 50)] {
        let frames: Vec<Frame> = (0..200)
            .map(|seed| {
                let most = if seed % 5 == 0 { longest } else { 3000 };
                content(seed, random.between(MIN_FRAME, most.min(longest)))
            })
            .collect();
        let turned: Vec<Frame> = frames.iter().map(Frame::turned).collect();
        let segments: Vec<_> = turned
            .iter()
            .map(|f| cut(&f.bytes, &[random.between(0, 40), random.between(0, 3000)]))
            .collect();
        let offer: Vec<TxFrame<'_>> = segments.iter().map(|s| TxFrame::plain(s)).collect();
        let got = carry_out((&mut backend, &mut peer), &offer, (batch, pace), window);
        assert!(got == turned, "batches of {batch}, {pace} read at a time");
        let got = carry_in((&mut backend, &mut peer), &frames, batch, window);
        assert!(got == frames, "received on a budget of {batch}");
    }
}

/// Frames of impossible lengths are taken, counted and not sent; those around them are.
pub fn invalid_frames<H: Harness>(harness: &mut H) {
    let (mut backend, mut peer) = harness.connect();
    let longest = backend.capabilities().max_frame;
    let mut frames = vec![content(1, 64).turned()];
    for len in [0, 1, 13, longest + 1, longest + 1000] {
        frames.push(Frame::plain(vec![0xa5; len]));
        frames.push(content(len as u64, 64).turned());
    }
    let segments = whole(&frames);
    let offer: Vec<TxFrame<'_>> = segments.iter().map(|s| TxFrame::plain(s)).collect();
    let before = backend.statistics();
    let (mut taken, mut got, mut idle) = (0, Vec::new(), 0);
    while taken < offer.len() || got.len() < 6 {
        let count = backend.transmit(&offer[taken..]).expect("no error");
        taken += count;
        backend.flush().expect("no error");
        let arrived = peer.recv();
        idle = if count == 0 && arrived.is_none() {
            idle + 1
        } else {
            0
        };
        got.extend(arrived);
        super::give_up_after(idle, "skipping invalid frames", got.len(), 6);
    }
    let valid: Vec<Frame> = frames.iter().step_by(2).cloned().collect();
    assert!(got == valid && peer.recv().is_none(), "{got:?}");
    let after = backend.statistics();
    assert_eq!(after.tx_invalid - before.tx_invalid, 5);
    assert_eq!(after.tx_frames - before.tx_frames, 6);
}

/// What the peer sent before it went arrives; then the back end says [`BackendError::Disconnected`]
/// within a bounded number of calls, and goes on saying so unless it reattaches.
pub fn disconnect<H: Harness>(harness: &mut H) {
    let (mut backend, mut peer) = harness.connect();
    let frames: Vec<Frame> = (0..5).map(|i| content(i, 200)).collect();
    for frame in &frames {
        assert!(peer.send(frame.header, &frame.bytes));
    }
    drop(peer);
    let mut got = Vec::new();
    let mut idle = 0;
    while got.len() < frames.len() && !harness.properties().purges_on_disconnect {
        let count = lend(&mut backend, 2, &mut got).expect("frames under way were lost");
        idle = if count == 0 { idle + 1 } else { 0 };
        super::give_up_after(idle, "receiving the last frames", got.len(), frames.len());
    }
    assert!(got == frames || harness.properties().purges_on_disconnect);
    assert_gone(harness, &mut backend);
    if !backend.reattaches() {
        assert_gone(harness, &mut backend);
    }
    assert!(backend.statistics().disconnects >= 1);
}

/// Waits until the back end has told of the disconnect.
fn assert_gone<H: Harness>(harness: &H, backend: &mut H::Backend) {
    let frame = [content(9, 100).turned()];
    let segments = whole(&frame);
    for _ in 0..PATIENCE {
        let result = if harness.properties().receive_disconnects {
            lend(backend, 1, &mut Vec::new())
        } else {
            backend.transmit(&[TxFrame::plain(&segments[0])])
        };
        match result {
            Err(BackendError::Disconnected) => return,
            Err(other) => panic!("another error than a disconnect: {other}"),
            Ok(_) => std::thread::yield_now(),
        }
    }
    panic!("the disconnect was never told");
}

/// After a disconnect in the middle of traffic the next peer gets a clean attachment: nothing of
/// the old one's frames, both directions working.
pub fn reconnect<H: Harness>(harness: &mut H) {
    let (mut backend, mut peer) = harness.connect();
    let window = harness.properties().most();
    for round in 0..3 {
        let frame = [content(round, 1000).turned()];
        let segments = whole(&frame);
        let offer = [TxFrame::plain(&segments[0])];
        // Left unread, so that something of the old peer's is always under way.
        while backend.transmit(&offer).expect("the peer lives") > 0 {
            if backend.statistics().tx_bytes > BOUND as u64 {
                break;
            }
        }
        drop(peer);
        assert_gone(harness, &mut backend);
        (backend, peer) = harness.reconnect(backend);
        let fresh = [content(100 + round, 333)];
        let turned = [fresh[0].turned()];
        let segments = whole(&turned);
        let offer = [TxFrame::plain(&segments[0])];
        assert_eq!(
            carry_in((&mut backend, &mut peer), &fresh, 8, window),
            fresh
        );
        assert_eq!(
            carry_out((&mut backend, &mut peer), &offer, (1, 1), window),
            turned
        );
    }
}

/// A TCP/IPv4 frame of `len` bytes that needs its checksum, and segmentation if `gso` is given.
fn unfinished(len: usize, gso: Option<u8>) -> Frame {
    let v6 = gso == Some(VirtioNetHdr::GSO_TCPV6);
    let udp = gso == Some(VirtioNetHdr::GSO_UDP_L4);
    let mut bytes = content(4, len).bytes;
    let l3 = len - 14;
    let (l4, protocol) = (if v6 { 54 } else { 34 }, if udp { 17 } else { 6 });
    if v6 {
        bytes[12..14].copy_from_slice(&[0x86, 0xdd]);
        bytes[14..22].copy_from_slice(&[0x60, 0, 0, 0, 0, 0, protocol, 64]);
        bytes[18..20].copy_from_slice(&((l3 - 40) as u16).to_be_bytes());
    } else {
        bytes[12..14].copy_from_slice(&[8, 0]);
        bytes[14..24].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol]);
        bytes[16..18].copy_from_slice(&(l3 as u16).to_be_bytes());
    }
    let header_len = if udp {
        let len = (len - l4) as u16;
        bytes[l4 + 4..l4 + 6].copy_from_slice(&len.to_be_bytes());
        8
    } else {
        bytes[l4 + 12] = 0x50;
        20
    };
    let header = VirtioNetHdr {
        flags: VirtioNetHdr::NEEDS_CSUM,
        gso_type: gso.unwrap_or(VirtioNetHdr::GSO_NONE),
        hdr_len: (l4 + header_len) as u16,
        gso_size: if gso.is_some() { 1400 } else { 0 },
        csum_start: l4 as u16,
        csum_offset: if udp { 6 } else { 16 },
        num_buffers: 0,
    };
    Frame { header, bytes }
}

/// Every kind of unfinished frame with the offload it needs on transmit and on receive.
fn offload_kinds() -> [(Offloads, Offloads, Frame); 4] {
    use VirtioNetHdr as H;
    [
        (Offloads::TX_CSUM, Offloads::RX_CSUM, unfinished(600, None)),
        (
            Offloads::TX_TSO4,
            Offloads::RX_TSO4,
            unfinished(9000, Some(H::GSO_TCPV4)),
        ),
        (
            Offloads::TX_TSO6,
            Offloads::RX_TSO6,
            unfinished(9000, Some(H::GSO_TCPV6)),
        ),
        (
            Offloads::TX_USO,
            Offloads::RX_USO,
            unfinished(9000, Some(H::GSO_UDP_L4)),
        ),
    ]
}

/// Without agreement, and after one is withdrawn, an unfinished frame is not sent as it stands.
pub fn offloads_refused<H: Harness>(harness: &mut H) {
    let (mut backend, mut peer) = harness.connect();
    for withdrawn in [false, true] {
        if withdrawn {
            backend.set_offloads(Offloads::ALL).expect("offloads");
            let none = backend.set_offloads(Offloads::NONE).expect("offloads");
            assert_eq!(none, harness.properties().always_received);
        }
        for (_, _, frame) in offload_kinds() {
            let (plain, frame) = (content(3, 90).turned(), frame.turned());
            let (one, two) = (
                [IoSegment::from(&frame.bytes[..])],
                [IoSegment::from(&plain.bytes[..])],
            );
            let offer = [
                TxFrame {
                    header: frame.header,
                    segments: &one,
                },
                TxFrame::plain(&two),
            ];
            let before = backend.statistics().tx_invalid;
            let mut taken = 0;
            for _ in 0..PATIENCE {
                taken += backend.transmit(&offer[taken..]).expect("no error");
                if taken == 2 {
                    break;
                }
            }
            let mut got = None;
            for _ in 0..PATIENCE {
                backend.flush().expect("no error");
                got = peer.recv();
                if got.is_some() {
                    break;
                }
                std::thread::yield_now();
            }
            assert_eq!(got, Some(plain), "an unfinished frame went out");
            assert_eq!(backend.statistics().tx_invalid - before, 1);
        }
    }
}

/// What is agreed is what both sides can do; frames that use it arrive, with their headers where
/// the attachment carries those.
pub fn offloads_agreed<H: Harness>(harness: &mut H) {
    let (mut backend, mut peer) = harness.connect();
    let window = harness.properties().most();
    let have = backend.capabilities().offloads;
    assert_eq!(
        have,
        have.consistent(),
        "super-frames announced without checksum"
    );
    for want in [
        Offloads::NONE,
        Offloads::TX_CSUM,
        Offloads::RX_ALL,
        Offloads::ALL,
    ] {
        let got = backend.set_offloads(want).expect("offloads");
        let always = harness.properties().always_received;
        assert_eq!(got, Offloads::negotiate(want, have) | always);
    }
    let carries = harness.properties().carries_headers;
    for (tx, rx, frame) in offload_kinds() {
        if have.contains(tx) {
            let frame = frame.turned();
            let segments = cut(&frame.bytes, &[54, 100]);
            let offer = [TxFrame {
                header: frame.header,
                segments: &segments,
            }];
            let got = carry_out((&mut backend, &mut peer), &offer, (1, 1), window);
            assert_eq!(got[0].bytes.len(), frame.bytes.len());
            if carries {
                assert_eq!(without_hints(&got[0]), without_hints(&frame));
            }
        }
        if have.contains(rx) && carries {
            let frames = std::slice::from_ref(&frame);
            let got = carry_in((&mut backend, &mut peer), frames, 8, window);
            assert_eq!(without_hints(&got[0]), without_hints(&frame));
        }
    }
}

/// A frame without what its header may say or not: the number of buffers is the receiver's (VIRTIO
/// 1.3, 5.1.6.4), the length of the headers a hint (5.1.6.2) that a kernel in between works out anew.
fn without_hints(frame: &Frame) -> Frame {
    Frame {
        header: VirtioNetHdr {
            num_buffers: 0,
            hdr_len: 0,
            ..frame.header
        },
        bytes: frame.bytes.clone(),
    }
}

/// The counters agree with the frames and bytes that passed.
pub fn statistics<H: Harness>(harness: &mut H) {
    let (mut backend, mut peer) = harness.connect();
    let window = harness.properties().most();
    let start = backend.statistics();
    let frames: Vec<Frame> = (0..100).map(|i| content(i, 100 + i as usize)).collect();
    let bytes: u64 = frames.iter().map(|f| f.bytes.len() as u64).sum();
    carry_in((&mut backend, &mut peer), &frames, 10, window);
    let frames: Vec<Frame> = frames.iter().map(Frame::turned).collect();
    let segments = whole(&frames);
    let offer: Vec<TxFrame<'_>> = segments.iter().map(|s| TxFrame::plain(s)).collect();
    carry_out((&mut backend, &mut peer), &offer, (10, 10), window);
    let end = backend.statistics();
    assert_eq!(end.rx_frames - start.rx_frames, 100);
    assert_eq!(end.rx_bytes - start.rx_bytes, bytes);
    assert_eq!(end.tx_frames - start.tx_frames, 100);
    assert_eq!(end.tx_bytes - start.tx_bytes, bytes);
    assert_eq!(
        (end.rx_dropped(), end.tx_dropped()),
        (start.rx_dropped(), start.tx_dropped())
    );
    assert!(end.peers >= 1);
}
