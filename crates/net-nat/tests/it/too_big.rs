//! Packets that do not fit (RFC 4787, REQ-13).

use std::net::SocketAddr;

use net_nat::fragment::fragments_v4;
use net_nat::{DropReason, Side, Verdict};

use crate::fragments::{data, ends, reassemble};
use crate::lab::build::{Ip, udp_l4};
use crate::lab::{BOTH, Lab, V4, V6, fragments, see, udp};

#[test]
fn rfc4787_req13_too_big_with_df_draws_an_icmp_error() {
    for family in BOTH {
        let mut lab = Lab::with(family, |c| c.mtu = [1500, 1400]);
        let (me, remote) = ends(family);
        let outside = lab.map_udp(me, remote);
        let long = |from: SocketAddr, to: SocketAddr, len: usize| {
            let mut ip = Ip::new(from.ip(), to.ip(), 17);
            ip.dont_fragment = true;
            let l4 = udp_l4(from.port(), to.port(), &data(len - family.header() - 8));
            ip.seal(l4)
        };
        let _ = lab.out(long(me, remote, 1400)).sent_to(Side::Outside);
        let packet = long(me, remote, 1401);
        assert_eq!(lab.out(&packet).verdict, Verdict::Reply);
        let output = lab.output();
        assert_eq!(output.side, Side::Inside);
        let error = see(&output.packet);
        assert_eq!(error.dst, me.ip());
        assert_eq!(
            (error.kind, error.code),
            if family == V4 { (3, 4) } else { (2, 0) }
        );
        let mtu = error.l4()[4..8].try_into().map(u32::from_be_bytes).unwrap();
        assert_eq!(mtu, 1400);
        assert!(
            packet.starts_with(error.data()),
            "the guest's own packet is quoted"
        );
        // From the outside likewise, with our address and theirs.
        let packet = long(remote, outside, 1501);
        assert_eq!(lab.inn(&packet).verdict, Verdict::Reply);
        let output = lab.output();
        assert_eq!(output.side, Side::Outside);
        let error = see(&output.packet);
        assert_eq!((error.src, error.dst), (outside.ip(), remote.ip()));
        assert!(packet.starts_with(error.data()));
        assert_eq!(lab.drops(DropReason::TooBig), 2);
    }
}

#[test]
fn rfc4787_req13_too_big_without_df_is_cut_in_order() {
    let mut lab = Lab::with(V4, |c| c.mtu = [576, 1400]);
    let (me, remote) = ends(V4);
    let outside = lab.map_udp(me, remote);
    let done = lab.out(udp(me, remote, &data(4000)));
    assert_eq!(done.verdict, Verdict::Fragment(Side::Outside));
    let pieces: Vec<_> = fragments_v4(&done.packet, 1400).unwrap().collect();
    assert!(pieces.iter().all(|p| p.len() <= 1400) && pieces.len() == 3);
    assert!(pieces.is_sorted_by_key(|p| see(p).offset));
    let whole = see(&reassemble(&pieces));
    assert_eq!(
        (whole.src(), whole.dst(), whole.data()),
        (outside, remote, &data(4000)[..])
    );
    let done = lab.inn(udp(remote, outside, &data(600)));
    assert_eq!(done.verdict, Verdict::Fragment(Side::Inside));
    let pieces: Vec<_> = fragments_v4(&done.packet, 576).unwrap().collect();
    let whole = see(&reassemble(&pieces));
    assert_eq!((whole.dst(), whole.data()), (me, &data(600)[..]));
    assert!(lab.outputs().is_empty());
}

#[test]
fn rfc4787_req13_a_fragment_may_be_too_big_itself() {
    // Every piece of the datagram, not only the first, is held to the MTU.
    for family in BOTH {
        let mut lab = Lab::with(family, |c| c.mtu = [1500, 1400]);
        let (me, remote) = ends(family);
        // A short beginning, and the rest of the datagram in pieces of 1,440 bytes.
        let packet = udp(me, remote, &data(3872));
        let l4 = see(&packet).l4().to_vec();
        let mut ip = Ip::new(me.ip(), remote.ip(), 17);
        for (from, to) in [(0, 1000), (1000, 2440), (2440, 3880)] {
            ip.fragment = Some((from, to < l4.len()));
            let verdict = lab.out(ip.carry(&l4[from..to])).verdict;
            match family {
                _ if from == 0 => assert_eq!(verdict, Verdict::Translated(Side::Outside)),
                V4 => assert_eq!(verdict, Verdict::Fragment(Side::Outside)),
                // No errors about later pieces: whoever gets one must know the datagram by it.
                V6 => assert_eq!(verdict, Verdict::Drop(DropReason::TooBig)),
            }
        }
        assert!(lab.outputs().is_empty());
    }
}

#[test]
fn rfc4787_req13_what_was_held_is_cut_too() {
    let mut lab = Lab::with(V4, |c| c.mtu = [1500, 1400]);
    let (me, remote) = ends(V4);
    let mut pieces = fragments(&udp(me, remote, &data(4000)), 1440, 7);
    let first = pieces.remove(0);
    for piece in &pieces {
        assert_eq!(lab.out(piece).verdict, Verdict::Hold);
    }
    let done = lab.out(&first);
    assert_eq!(done.verdict, Verdict::Fragment(Side::Outside));
    let mut sent: Vec<_> = fragments_v4(&done.packet, 1400).unwrap().collect();
    sent.extend(lab.outputs().into_iter().map(|o| o.packet));
    assert!(sent.iter().all(|p| p.len() <= 1400));
    assert_eq!(see(&reassemble(&sent)).data(), data(4000));
}
