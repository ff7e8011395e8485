//! What RFC 5382 demands of a NAT for TCP, requirement by requirement.

use net_nat::config::{Behaviour, Dependence};
use net_nat::{Side, TcpState};

use crate::lab::{ACK, BOTH, FIN, Family, Lab, PSH, SYN, Tcp, V4, at, icmp_error, tcp};
use crate::tcp_lab::{Flow, OFFER, mine, strict, theirs};

const SYN_ACK: u8 = SYN | ACK;
const FIN_ACK: u8 = FIN | ACK;

#[test]
fn rfc5382_req1_endpoint_independent_mapping() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let me = at(family.inside(2), 5000);
        let first = Flow::between(&mut lab, me, at(family.remote(1), 80), &[]);
        for n in 2..50 {
            for them in [at(family.remote(n), 80), at(family.remote(1), 80 + n)] {
                let flow = Flow::between(&mut lab, me, them, &[]);
                assert_eq!(flow.seen, first.seen, "{them}");
            }
        }
    }
}

#[test]
fn rfc5382_req3_filtering() {
    use Dependence::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
    for family in BOTH {
        for (filtering, same_host, stranger) in [
            (EndpointIndependent, true, true),
            (AddressDependent, true, false),
            (AddressAndPortDependent, false, false),
        ] {
            let mut lab = Lab::with(family, |config| {
                config.tcp = Behaviour {
                    filtering,
                    ..Behaviour::default()
                };
            });
            let flow = Flow::established(&mut lab, family);
            for (them, admitted) in [
                (at(family.remote(1), 4444), same_host),
                (at(family.remote(2), 80), stranger),
            ] {
                // A segment that opens nothing is for nobody, whoever it is from.
                let done = lab.inn(tcp(them, flow.seen, &theirs((ACK, 5, 5, 0), &[])));
                assert!(!done.is_sent());
                let done = lab.inn(tcp(them, flow.seen, &theirs((SYN, 0, 0, 0), &[])));
                assert_eq!(done.is_sent(), admitted, "{filtering:?} {them}");
                if admitted {
                    assert_eq!(done.sent_to(Side::Inside).dst(), flow.me);
                    let answer = tcp(flow.me, them, &mine((SYN_ACK, 0, 1, 0), &[]));
                    assert_eq!(lab.out(answer).sent().src(), flow.seen);
                }
            }
        }
    }
}

#[test]
fn rfc5382_req6_payload_and_options_are_untouched() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let flow = Flow::established_with(&mut lab, family, OFFER);
        // What looks like an endpoint of ours, as FTP and SIP write it, is data too.
        let data = format!(
            "PORT 10,0,0,2,19,136\r\nVia: SIP/2.0/TCP {}\r\n{:?}",
            flow.me, [0u8; 64]
        );
        let segment = Tcp {
            options: &[1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8],
            ..mine((PSH | ACK, 1, 1, 0), data.as_bytes())
        };
        let seen = flow.out_with(&mut lab, &segment).sent();
        assert_eq!(seen.data(), data.as_bytes());
        // Every byte behind the ports and but for the checksum.
        let before = segment.l4(0, 0);
        assert_eq!(seen.l4()[4..16], before[4..16]);
        assert_eq!(seen.l4()[18..], before[18..]);
    }
}

#[test]
fn rfc5382_req7_no_port_overloading() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let them = at(family.remote(1), 80);
        let mut seen = std::collections::HashSet::new();
        for n in 2..200 {
            let flow = Flow::between(&mut lab, at(family.inside(n), 5000), them, &[]);
            assert!(seen.insert(flow.seen), "{} has two owners", flow.seen);
            assert_eq!(flow.inn(&mut lab, (SYN_ACK, 0, 1, 0)).sent().dst(), flow.me);
        }
    }
}

#[test]
fn rfc5382_req8_hairpinned_connections() {
    for family in BOTH {
        let mut lab = strict(family);
        let (client, server) = (at(family.inside(2), 5000), at(family.inside(3), 80));
        let published = at(family.outside(1), 8080);
        lab.forward(6, published, server).unwrap();
        let mut send = |from, to, segment: &Tcp<'_>| {
            let seen = lab.out(tcp(from, to, segment)).sent_to(Side::Inside);
            (seen.src(), seen.dst())
        };
        let (seen, to) = send(client, published, &mine((SYN, 0, 0, 0), &[]));
        assert_eq!((seen.ip(), to), (family.outside(1), server));
        for (out, brief) in [
            (false, (SYN_ACK, 0, 1, 0)),
            (true, (ACK, 1, 1, 0)),
            (true, (PSH | ACK, 1, 1, 9)),
            (false, (ACK, 1, 10, 0)),
            (false, (FIN_ACK, 1, 10, 0)),
            (true, (FIN_ACK, 10, 2, 0)),
            (false, (ACK, 2, 11, 0)),
        ] {
            let data = vec![1; brief.3];
            if out {
                assert_eq!(send(client, published, &mine(brief, &data)), (seen, server));
            } else {
                assert_eq!(
                    send(server, seen, &theirs(brief, &data)),
                    (published, client)
                );
            }
        }
        // Both halves have seen the whole connection.
        let states: Vec<_> = lab.engine().sessions().map(|s| s.tcp).collect();
        assert_eq!(states, [Some(TcpState::Closing); 2]);
    }
}

/// An error of this type and code about the SYN of `flow`, from a router on the way.
fn complain(lab: &mut Lab, family: Family, flow: &Flow, kind: (u8, u8)) -> crate::lab::Done {
    let left = tcp(flow.seen, flow.them, &mine((ACK, 1, 1, 0), &[]));
    let error = icmp_error(family.remote(99), family.outside(1), kind, [0; 4], &left);
    lab.inn(error)
}

#[test]
fn rfc5382_req9_icmp_with_embedded_packet_reverted() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let flow = Flow::established(&mut lab, family);
        let kind = if family == V4 { 3 } else { 1 };
        for code in 0..=if family == V4 { 15 } else { 6 } {
            let seen = complain(&mut lab, family, &flow, (kind, code)).sent_to(Side::Inside);
            assert_eq!((seen.kind, seen.code), (kind, code));
            assert_eq!((seen.src, seen.dst), (family.remote(99), flow.me.ip()));
            assert_eq!(
                (seen.quoted().src(), seen.quoted().dst()),
                (flow.me, flow.them)
            );
        }
    }
}

#[test]
fn rfc5382_req10_hard_error_does_not_kill() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let flow = Flow::established(&mut lab, family);
        let before = flow.view(&lab);
        // Protocol and port unreachable, which RFC 1122 calls hard; or the like of ICMPv6.
        let hard: &[(u8, u8)] = if family == V4 {
            &[(3, 2), (3, 3), (3, 4)]
        } else {
            &[(1, 1), (1, 4), (4, 1)]
        };
        for &kind in hard {
            assert!(complain(&mut lab, family, &flow, kind).is_sent());
            assert_eq!(flow.view(&lab), before);
        }
        assert!(flow.out(&mut lab, (PSH | ACK, 1, 1, 10)).is_sent());
        assert!(flow.inn(&mut lab, (ACK, 1, 11, 0)).is_sent());
        assert_eq!(flow.state(&lab), Some(TcpState::Established));
    }
}
