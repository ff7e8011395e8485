//! Real ICMP sockets on the host's loopback, where the host allows them.

use core::time::Duration;

use mio::Poll;
use net_datapath::{VirtioNetHdr, ZeroCopyPacket};
use net_wire::icmpv4::{ECHO_REPLY, ECHO_REQUEST, IcmpMessage};
use net_wire::ipv4::Ipv4Packet;

use super::*;
use crate::UserNet;
use crate::testing::{PORT, Recorder, config, frame, run_until};

fn request(to: &str, id: u16, sequence: u16, data: &[u8]) -> Vec<u8> {
    let header = IcmpError {
        kind: ECHO_REQUEST,
        code: 0,
        rest: u32::from(id) << 16 | u32::from(sequence),
    };
    let (guest, to): (IpAddr, IpAddr) = ("10.0.2.15".parse().unwrap(), to.parse().unwrap());
    let mut l3 = vec![0; 28 + data.len()];
    compose::ip_header(&mut l3, guest, to, ip_proto::ICMP, 64, 8 + data.len()).unwrap();
    compose::icmp_message(&mut l3[20..], guest, to, header, data).unwrap();
    frame(&l3)
}

/// Row 54, the half that needs no network: without ICMP sockets there is no answer at all.
#[test]
fn an_echo_is_never_answered_by_the_relay_itself() {
    let poll = Poll::new().unwrap();
    let mut config = config(false);
    config.limits.ping_flows = 0;
    let mut net = UserNet::new(config, poll.registry().try_clone().unwrap(), 0).unwrap();
    let mut out = Recorder::new(1500);
    let bytes = request("192.0.2.1", 1, 1, b"x");
    let packet = ZeroCopyPacket::from_slice(&bytes, VirtioNetHdr::PLAIN).unwrap();
    net.ingress(PORT, &packet, Duration::ZERO, &mut out);
    assert!(out.sent.is_empty());
    assert_eq!(net.statistics().ping.refused_host, 1);
}

/// The reply has the guest's identifier, sequence number and data, whatever the length.
#[test]
fn replies_carry_the_guests_identifier() {
    if let Err(reason) = probe_ping_sockets() {
        println!("skipped: {reason}");
        return;
    }
    let mut poll = Poll::new().unwrap();
    // The gateway's address stands for 127.0.0.1, which answers.
    let mut net = UserNet::new(config(true), poll.registry().try_clone().unwrap(), 0).unwrap();
    let mut out = Recorder::new(1500);
    for (i, len) in [0usize, 1, 56, 1400].into_iter().enumerate() {
        let data: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let bytes = request("10.0.2.1", 0xbeef, i as u16, &data);
        let packet = ZeroCopyPacket::from_slice(&bytes, VirtioNetHdr::PLAIN).unwrap();
        net.ingress(PORT, &packet, Duration::ZERO, &mut out);
        run_until(&mut poll, |events| {
            for event in events {
                net.ready(event, Duration::ZERO, &mut out);
            }
            out.sent.len() == i + 1
        });
        let reply = Ipv4Packet::parse(&out.sent[i].l3[..]).unwrap();
        assert_eq!(reply.src().to_string(), "10.0.2.1");
        let message = IcmpMessage::parse(reply.payload()).unwrap();
        assert!(message.verify_checksum());
        assert_eq!(
            (message.kind(), message.id(), message.sequence()),
            (ECHO_REPLY, 0xbeef, i as u16)
        );
        assert_eq!(message.data(), &data[..]);
    }
    let stats = net.statistics().ping;
    assert_eq!((stats.flows, stats.requests, stats.replies), (1, 4, 4));
    net.on_deadline(Duration::from_secs(3600), &mut out);
    assert_eq!(
        (net.statistics().ping.flows, net.next_deadline()),
        (0, None)
    );
}

#[test]
fn a_reason_is_one_line_for_the_user() {
    for reason in [
        PingUnavailable::NotAllowed,
        PingUnavailable::NotSupported,
        PingUnavailable::Host(io::Error::from_raw_os_error(libc::EMFILE)),
    ] {
        let text = reason.to_string();
        assert!(!text.is_empty() && !text.contains('\n'), "{text}");
    }
}
