//! Router advertisements: asked for, by time, and at the end.

use super::*;

/// Every advertisement that is due up to `until`.
fn advertisements(gateway: &mut Gateway, until: Duration) -> Vec<(Target, Vec<u8>)> {
    let mut sent = Vec::new();
    while let Some(due) = gateway.next_deadline().filter(|due| *due <= until) {
        let mut out = Vec::new();
        gateway.on_deadline(due, &mut out);
        for output in out {
            if let Output::Frame { to, frame } = output {
                sent.push((to, frame));
            }
        }
    }
    sent
}

pub(super) fn router_solicitation(src: Ipv6Addr, mac: MacAddr, told: Option<MacAddr>) -> Vec<u8> {
    let ends = (src, ALL_ROUTERS);
    let option = told.map_or(Vec::new(), |MacAddr([a, b, c, d, e, f])| {
        vec![1, 1, a, b, c, d, e, f]
    });
    let bytes = message(ends, icmpv6::ROUTER_SOLICIT, 0, &option);
    let to = MacAddr([0x33, 0x33, 0, 0, 0, 2]);
    ip_frame((mac, to), ends, ip_proto::ICMPV6, 255, &bytes)
}

#[test]
fn row62_a_guest_that_asks_hears_an_advertisement() {
    let mut gateway = gateway(1400);
    assert_eq!(gateway.next_deadline(), None, "nobody is there to hear one");
    let (verdict, _) = hand(&mut gateway, PORT, &router_solicitation(NOBODY, MAC, None));
    assert_eq!(verdict, Verdict::Answered);
    let sent = advertisements(&mut gateway, NOW + Duration::from_millis(500));
    assert_eq!(sent.len(), 1);
    let (to, frame) = &sent[0];
    assert_eq!(*to, Target::Flood);
    let (packet, view) = icmp(frame);
    assert_eq!(
        (packet.src(), packet.dst()),
        (gateway.link_local().unwrap(), ALL_NODES)
    );
    assert_eq!(
        (packet.hop_limit(), view.kind()),
        (255, icmpv6::ROUTER_ADVERT)
    );
    assert_eq!(view.ndp_link_address(1), Some(gateway.config().mac));
    assert_eq!(frame[60..62], 1800u16.to_be_bytes(), "a default router");
    // The next guest is answered alone; one that lies about its hardware address is not.
    let own = link_local(OTHER);
    let lie = router_solicitation(own, OTHER, Some(MAC));
    assert_eq!(
        hand(&mut gateway, 2, &lie).0,
        Verdict::Dropped(DropReason::Spoofed)
    );
    let honest = router_solicitation(own, OTHER, Some(OTHER));
    let mut out = Vec::new();
    let packet = ZeroCopyPacket::from_slice(&honest, VirtioNetHdr::PLAIN).unwrap();
    let now = NOW + Duration::from_secs(1);
    gateway.ingress(2, &packet, now, &mut out);
    let sent = advertisements(&mut gateway, now + Duration::from_millis(500));
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].0, Target::Port(2));
    assert_eq!(sent[0].1[..6], OTHER.0);
    assert_eq!(icmp(&sent[0].1).0.dst(), own);
}

#[test]
fn row62_a_port_that_opens_is_told_and_so_are_all_at_the_end() {
    let mut gateway = gateway(1500);
    let kept = gateway.allocate_ip().unwrap();
    gateway.port_opened(PORT, kept, "guest1", None, NOW);
    assert_eq!(
        advertisements(&mut gateway, NOW + Duration::from_millis(500)).len(),
        1
    );
    // The way out is lost: told at once that this is no router, but a network still.
    let now = NOW + Duration::from_secs(60);
    advertisements(&mut gateway, now);
    gateway.set_ipv6_router(false, now);
    let sent = advertisements(&mut gateway, now + Duration::from_secs(3));
    assert_eq!(sent[0].1[60..62], [0, 0]);
    let mut out = Vec::new();
    gateway.farewell(&mut out);
    let Some(Output::Frame {
        to: Target::Flood,
        frame,
    }) = out.first()
    else {
        panic!("{out:?}")
    };
    let at = frame.windows(3).position(|w| w == [3, 4, 64]).unwrap();
    assert_eq!(
        frame[at + 4..at + 12],
        [0; 8],
        "valid and preferred for no time"
    );
    let config = gateway.config().clone();
    let mut silent = Gateway::new(config, [9; 16]).unwrap();
    let mut out = Vec::new();
    silent.farewell(&mut out);
    assert!(out.is_empty());
}
