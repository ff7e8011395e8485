//! Arbitrary segments in any order: no panic, bounded tables, nobody else's flow.

use net_datapath::VirtioNetHdr;
use net_usernet::tcp::{HostSocket, RelayConfig};
use net_wire::tcp::TcpFlags;
use proptest::prelude::*;

use super::lab::{Lab, Seg, config, ms};
use super::wire::PORT;

#[derive(Debug, Clone)]
enum Act {
    /// Source and destination ports, distances from plausible numbers, flags, window, payload.
    Segment(u16, u16, i32, i32, u8, u16, Vec<u8>, Vec<u8>),
    Bytes(Vec<u8>),
    Connect(u32, bool),
    Feed(u32, usize),
    End(u32),
    Fail(u32),
    Drain(u32, usize),
    Wait(u64),
    Room(usize),
    Gone,
}

fn act() -> impl Strategy<Value = Act> {
    let near = prop_oneof![4 => -3i32..3, 2 => -3000i32..70_000, 1 => any::<i32>()];
    let flags = prop_oneof![
        3 => Just(2u8), 6 => Just(16), 3 => Just(17), 1 => Just(4), 1 => Just(20), 2 => Just(18), 1 => any::<u8>()
    ];
    let payload = prop_oneof![
        3 => Just(Vec::new()),
        2 => proptest::collection::vec(any::<u8>(), 1..40),
        1 => Just(vec![3; 1400]),
    ];
    let options = prop_oneof![
        2 => Just(vec![2, 4, 5, 180]),
        1 => Just(vec![2, 4, 5, 180, 1, 3, 3, 14]),
        1 => proptest::collection::vec(any::<u8>(), 0..10).prop_map(|mut bytes| {
            bytes.resize(bytes.len() * 4, 0);
            bytes
        }),
    ];
    let socket = 0u32..6;
    prop_oneof![
        12 => (1u16..4, 79u16..81, near.clone(), near, flags, any::<u16>(), options, payload)
            .prop_map(|(a, b, c, d, e, f, g, h)| Act::Segment(a, b, c, d, e, f, g, h)),
        1 => proptest::collection::vec(any::<u8>(), 0..80).prop_map(Act::Bytes),
        6 => (socket.clone(), any::<bool>()).prop_map(|(n, ok)| Act::Connect(n, ok)),
        2 => (socket.clone(), 1usize..5000).prop_map(|(n, len)| Act::Feed(n, len)),
        1 => socket.clone().prop_map(Act::End),
        1 => socket.clone().prop_map(Act::Fail),
        2 => (socket, 1usize..5000).prop_map(|(n, len)| Act::Drain(n, len)),
        2 => (1u64..100_000).prop_map(Act::Wait),
        1 => (1usize..30).prop_map(Act::Room),
        1 => Just(Act::Gone),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn any_segments_in_any_order(acts in proptest::collection::vec(act(), 1..80)) {
        let mut lab = Lab::with(RelayConfig { flows_per_port: 4, half_open_per_port: 3, ..config() });
        // Another guest, whose flow must outlive whatever the first one does.
        lab.wire.link_mut().port = 99;
        let (guest, remote) = (lab.guest, lab.remote);
        lab.guest = "10.0.2.99:5000".parse().unwrap();
        lab.host.instant = true;
        let syn = lab.syn(true);
        lab.give_packet(99, &syn.packet(), VirtioNetHdr::PLAIN);
        lab.settle();
        let answer = lab.one();
        lab.host.instant = false;
        (lab.guest, lab.remote) = (guest, remote);
        lab.wire.link_mut().port = PORT;

        // Where each flow was last heard of, so that segments come near it.
        let mut heard = std::collections::HashMap::new();
        for act in acts {
            let pick = |lab: &Lab, n: u32| {
                let live: Vec<u32> = lab.host.sockets.iter()
                    .filter(|(id, far)| **id != 1 && !far.closed && !far.reset)
                    .map(|(id, _)| *id).collect();
                live.get(n as usize % live.len().max(1)).map(|&id| HostSocket(id))
            };
            match act {
                Act::Segment(from, to, seq, ack, flags, window, options, payload) => {
                    let mut seg = lab.seg(0, 0, TcpFlags(flags));
                    seg.src.set_port(from);
                    seg.dst.set_port(to);
                    let (expected, next) = *heard.get(&(from, to)).unwrap_or(&(1000u32, 0u32));
                    seg.seq = expected.wrapping_add(seq as u32);
                    seg.ack = next.wrapping_add(ack as u32);
                    seg.window = window;
                    seg.payload = payload;
                    seg.options = options;
                    let header = VirtioNetHdr::PLAIN;
                    lab.give_packet(PORT, &seg.packet(), header);
                }
                Act::Bytes(bytes) => lab.give_packet(PORT, &bytes, VirtioNetHdr::PLAIN),
                Act::Connect(n, ok) => if let Some(socket) = pick(&lab, n) {
                    let refused = net_usernet::tcp::ConnectError::Refused;
                    let far = lab.host.far(socket);
                    far.connected = far.connected.or(Some(if ok { Ok(()) } else { Err(refused) }));
                    lab.host.events.push_back((socket, super::host::WRITABLE));
                },
                Act::Feed(n, len) => if let Some(socket) = pick(&lab, n)
                    && !lab.host.far(socket).inbox_ended {
                    lab.host.feed(socket, &vec![1; len]);
                },
                Act::End(n) => if let Some(socket) = pick(&lab, n) { lab.host.end(socket) },
                Act::Fail(n) => if let Some(socket) = pick(&lab, n)
                    && lab.host.far(socket).connected.is_some() {
                    lab.host.fail(socket);
                },
                Act::Drain(n, len) => if let Some(socket) = pick(&lab, n) { lab.host.drain(socket, len) },
                Act::Wait(time) => { lab.wait(ms(time)); }
                Act::Room(room) => lab.wire.room = room,
                Act::Gone => lab.relay.guest_gone(&mut lab.host, PORT),
            }
            lab.settle();
            for seg in lab.taken() {
                let Seg { seq, ack, .. } = seg;
                let next = seq.wrapping_add(seg.payload.len() as u32 + u32::from(seg.flags.intersects(TcpFlags::SYN | TcpFlags::FIN)));
                if seg.dst.ip() == guest.ip() {
                    heard.insert((seg.dst.port(), seg.src.port()), (ack, next));
                }
            }
            lab.relay.guest_writable(PORT);
            lab.settle();
            let stats = lab.relay.statistics();
            // A flow in TIME-WAIT has no socket any more.
            prop_assert!(stats.flows <= 5 && lab.host.open() as u64 <= stats.flows);
        }
        // The other guest can still finish its handshake and be served, if its time has not passed.
        if lab.now < ms(30_000) {
            lab.wire.room = usize::MAX;
            lab.taken();
            lab.wire.link_mut().port = 99;
            lab.guest = "10.0.2.99:5000".parse().unwrap();
            let ack = lab.seg(syn.seq.wrapping_add(1), answer.seq.wrapping_add(1), TcpFlags::ACK);
            lab.give_packet(99, &ack.packet(), VirtioNetHdr::PLAIN);
            lab.host.feed(HostSocket(1), b"yours");
            lab.settle();
            prop_assert_eq!(lab.data(answer.seq.wrapping_add(1)), b"yours");
        }
        lab.wait(config().time_wait + ms(1));
        prop_assert_eq!(lab.relay.statistics().flows, lab.host.open() as u64);
    }
}
