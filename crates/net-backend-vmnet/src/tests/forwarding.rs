//! Ports of the host that lead to guests.

use std::net::IpAddr;

use super::{SHORT, hasty, shared, start};
use crate::fake::{Answer, Fake, Script};
use crate::forwarding::{RawRule, family, from_octets, octets};
use crate::{ConfigError, ForwardProtocol, ForwardRule, Status, Vmnet, VmnetConfig, VmnetError};

pub(super) fn rule() -> ForwardRule {
    ForwardRule {
        protocol: ForwardProtocol::Tcp,
        external_port: 8080,
        address: IpAddr::from([192, 168, 105, 7]),
        port: 80,
    }
}

fn over_v6() -> ForwardRule {
    ForwardRule {
        protocol: ForwardProtocol::Udp,
        external_port: 5353,
        address: "fd00::7".parse().unwrap(),
        port: 53,
    }
}

/// By `netinet/in.h` and `sys/socket.h` of macOS.
#[test]
fn numbers_of_the_system() {
    assert_eq!(ForwardProtocol::Tcp.number(), 6);
    assert_eq!(ForwardProtocol::Udp.number(), 17);
    assert_eq!(ForwardProtocol::from_number(6), Some(ForwardProtocol::Tcp));
    assert_eq!(ForwardProtocol::from_number(17), Some(ForwardProtocol::Udp));
    assert_eq!(ForwardProtocol::from_number(1), None);
    assert_eq!((family(rule().address), family(over_v6().address)), (2, 30));
}

#[test]
fn addresses_in_the_layout_of_the_system() {
    let v4 = octets(rule().address);
    assert_eq!(v4, [192, 168, 105, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let v6 = octets(over_v6().address);
    assert_eq!(v6, [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    assert_eq!(from_octets(2, v4), rule().address);
    assert_eq!(from_octets(30, v6), over_v6().address);
}

#[test]
fn rules_come_and_go() {
    let (fake, mut vmnet) = shared(Script::default());
    assert_eq!(vmnet.forwards().unwrap(), []);
    vmnet.add_forward(over_v6()).unwrap();
    vmnet.add_forward(rule()).unwrap();
    let raw = RawRule {
        protocol: 6,
        external_port: 8080,
        address: rule().address,
        port: 80,
    };
    assert_eq!(fake.state().rules[1], raw);
    // Those of IPv4 first.
    assert_eq!(vmnet.forwards().unwrap(), [rule(), over_v6()]);
    let v4 = rule().address;
    vmnet
        .remove_forward(ForwardProtocol::Tcp, 8080, v4)
        .unwrap();
    assert_eq!(vmnet.forwards().unwrap(), [over_v6()]);
    // A rule of the other family, protocol or port is another rule.
    for (protocol, port, address) in [
        (ForwardProtocol::Udp, 5353, v4),
        (ForwardProtocol::Tcp, 5353, over_v6().address),
        (ForwardProtocol::Udp, 5354, over_v6().address),
    ] {
        let error = vmnet.remove_forward(protocol, port, address).unwrap_err();
        assert!(matches!(
            error,
            VmnetError::Refused {
                status: Status::InvalidArgument,
                ..
            }
        ));
    }
    assert_eq!(vmnet.forwards().unwrap(), [over_v6()]);
}

#[test]
fn rules_from_the_start() {
    let fake = Fake::new();
    let config = VmnetConfig::shared()
        .with_forward(rule())
        .with_forward(over_v6());
    let mut vmnet = start(&fake, config).unwrap();
    assert_eq!(vmnet.forwards().unwrap(), [rule(), over_v6()]);
}

/// One that is refused ends the start, and the interface is stopped.
#[test]
fn a_refused_rule_from_the_start() {
    let fake = Fake::with(Script {
        rules_status: 1001,
        ..Script::default()
    });
    let error = start(&fake, VmnetConfig::shared().with_forward(rule())).unwrap_err();
    assert!(matches!(
        error,
        VmnetError::Refused {
            what: "add a forwarding rule",
            status: Status::Failure
        }
    ));
    assert_eq!(fake.state().stops, 1);
}

#[test]
fn rules_that_lead_nowhere_are_not_asked_for() {
    let (fake, mut vmnet) = shared(Script::default());
    let bad = ForwardRule { port: 0, ..rule() };
    assert!(matches!(
        vmnet.add_forward(bad),
        Err(VmnetError::Config(ConfigError::Forward(r))) if r == bad
    ));
    assert!(fake.state().rules.is_empty());
}

/// Refused at once, refused later, never answered: each of the three calls says so.
#[test]
fn refusals_and_silence() {
    type Call = fn(&mut Vmnet) -> Result<(), VmnetError>;
    let calls: [(&str, Call); 3] = [
        ("add a forwarding rule", |vmnet| vmnet.add_forward(rule())),
        ("remove a forwarding rule", |vmnet| {
            vmnet.remove_forward(ForwardProtocol::Tcp, 8080, rule().address)
        }),
        ("list the forwarding rules", |vmnet| {
            vmnet.forwards().map(drop)
        }),
    ];
    for (expected, call) in calls {
        for number in 1001..=1010 {
            let status = Status::check(number).unwrap_err();
            for at_once in [true, false] {
                let (fake, mut vmnet) = shared(Script::default());
                vmnet.add_forward(rule()).unwrap();
                if at_once {
                    fake.state().script.rules_asked = number;
                } else {
                    fake.state().script.rules_status = number;
                }
                let error = call(&mut vmnet).unwrap_err();
                assert!(
                    matches!(error, VmnetError::Refused { what, status: s } if what == expected && s == status),
                    "{number}"
                );
            }
        }
        let fake = Fake::with(Script {
            rules_answer: Answer::Never,
            ..Script::default()
        });
        let mut vmnet =
            Vmnet::start(fake.framework(), None, VmnetConfig::shared(), hasty()).unwrap();
        let error = call(&mut vmnet).unwrap_err();
        assert!(
            matches!(error, VmnetError::Timeout { what, after } if what == expected && after == SHORT)
        );
    }
}

#[test]
fn answers_told_twice_or_at_once() {
    for answer in [Answer::Times(2), Answer::Within, Answer::After(SHORT)] {
        let (fake, mut vmnet) = shared(Script {
            rules_answer: answer,
            ..Script::default()
        });
        vmnet.add_forward(rule()).unwrap();
        assert_eq!(vmnet.forwards().unwrap(), [rule()]);
        fake.shared.completions.settle();
    }
}

#[test]
fn a_rule_in_words() {
    assert_eq!(rule().to_string(), "tcp 8080 to 192.168.105.7 80");
    assert_eq!(over_v6().to_string(), "udp 5353 to fd00::7 53");
}
