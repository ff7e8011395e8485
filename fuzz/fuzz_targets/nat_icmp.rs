//! ICMP errors about translated packets: whatever they quote, what comes out is sound, and goes to
//! whom the quote names.
//!
//! Input: a byte of choices, the type, the code, the four bytes behind the checksum, a length to cut
//! the quote to, a byte with the number of edits, that many edits of two bytes, what follows the quote.
#![no_main]

#[path = "nat_packet.rs"]
mod nat_packet;

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use nat_packet::{
    Input, OURS4, OURS6, config, guest4, guest6, is_valid, mend, remote4, remote6, transport, v4,
    v6,
};
use net_nat::{Direction, NatEngine, Side, Verdict};

const NOW: Duration = Duration::ZERO;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let choices = input.byte();
    let (six, inbound) = (choices & 4 != 0, choices & 8 != 0);
    let mut engine = NatEngine::new(config()).expect("a sound configuration");
    let (seen, from) = exchange(&mut engine, choices, six, inbound);
    let fixed = [
        input.byte(),
        input.byte(),
        0,
        0,
        input.byte(),
        input.byte(),
        input.byte(),
        input.byte(),
    ];
    let cut = usize::from(input.byte());
    let mut quote = seen;
    let whole = quote.clone();
    for _ in 0..input.byte() % 8 {
        let (at, value) = (usize::from(input.byte()), input.byte());
        if let Some(byte) = quote.get_mut(at) {
            *byte = value;
        }
    }
    quote.truncate(cut.max(1));
    let sound = whole.starts_with(&quote) && quote.len() >= if six { 48 } else { 28 };
    let mut message = fixed.to_vec();
    message.extend_from_slice(&quote);
    message.extend_from_slice(input.0);

    let message = (if six { 58 } else { 1 }, message);
    let (mut error, direction) = match (six, inbound) {
        // From a router outside, or from the guest that got the packet.
        (false, true) => (
            v4([198, 51, 100, 1], OURS4.octets(), 0, 0x4000, &message),
            Direction::Inbound,
        ),
        (true, true) => (
            v6("2001:db8:9::9".parse().unwrap(), OURS6, &message),
            Direction::Inbound,
        ),
        (false, false) => {
            let to = whole[12..16].try_into().unwrap();
            (
                v4(from[..4].try_into().unwrap(), to, 0, 0x4000, &message),
                Direction::Outbound,
            )
        }
        (true, false) => {
            let [from, to]: [[u8; 16]; 2] =
                [from.try_into().unwrap(), whole[8..24].try_into().unwrap()];
            (v6(from.into(), to.into(), &message), Direction::Outbound)
        }
    };
    mend(&mut error, true);
    let before = error.clone();
    let sessions = engine.usage().sessions;
    let verdict = engine.translate(&mut error[..], direction, NOW);
    assert_eq!(error.len(), before.len());
    let kinds: &[u8] = if six { &[1, 2, 3, 4] } else { &[3, 11, 12] };
    let is_error = kinds.contains(&fixed[0]);
    match verdict {
        Verdict::Translated(_) if !is_error => assert!(is_valid(&error)),
        Verdict::Translated(side) => {
            assert!(is_valid(&error), "{before:?}\n{error:?}");
            assert_eq!(side, if inbound { Side::Inside } else { Side::Outside });
            let (src, dst, inner) = if six {
                (8..24, 24..40, 48)
            } else {
                (12..16, 16..20, 28)
            };
            if inbound {
                // It goes to the host that sent the quoted packet.
                assert_eq!(error[dst], error[src.start + inner..src.end + inner]);
                assert_eq!(error[src.clone()], before[src]);
            }
            if !six {
                let header = |packet: &[u8]| {
                    let len = usize::from(packet[inner] & 15) * 4;
                    net_wire::checksum::sum(&packet[inner..inner + len]).is_valid()
                };
                assert!(header(&before) && header(&error));
            }
        }
        Verdict::Pass => assert_eq!(error, before),
        verdict => {
            // An error about a packet that was there, quoted as it was, must get through.
            let plain = is_error && fixed[4..] == [0; 4];
            assert!(
                !(sound && plain && input.0.is_empty()),
                "{verdict:?}\n{before:?}"
            );
        }
    }
    assert!(
        !is_error || engine.usage().sessions == sessions,
        "an error opened or ended a session"
    );
});

/// A guest's packet out or, for an error from the inside, the answer to it: the packet that the error
/// will quote, and the address it was delivered to.
fn exchange(engine: &mut NatEngine, choices: u8, six: bool, inbound: bool) -> (Vec<u8>, Vec<u8>) {
    let kind = choices & 3;
    let request = if six { 0 } else { 1 };
    let data = [1; 24];
    let flags = if kind == 2 { request } else { 2 };
    let sent = transport(kind, six, [5000, 80], flags, &data);
    let mut out = match six {
        false => v4(guest4(1), remote4(1), 7, 0x4000, &sent),
        true => v6(guest6(1), remote6(1), &sent),
    };
    mend(&mut out, choices & 32 == 0);
    let verdict = engine.translate(&mut out[..], Direction::Outbound, NOW);
    assert_eq!(verdict, Verdict::Translated(Side::Outside));
    if inbound {
        return (out, Vec::new());
    }
    // A port stands first in its header, an identifier behind type, code and checksum.
    let at = if six { 40 } else { 20 } + if kind == 2 { 4 } else { 0 };
    let port = u16::from_be_bytes([out[at], out[at + 1]]);
    let (ports, flags) = match kind {
        2 => ([port, port], 1 - request),
        _ => ([80, port], 0x12),
    };
    let answer = transport(kind, six, ports, flags, &data);
    let mut back = match six {
        false => v4(remote4(1), OURS4.octets(), 9, 0x4000, &answer),
        true => v6(remote6(1), OURS6, &answer),
    };
    mend(&mut back, true);
    let verdict = engine.translate(&mut back[..], Direction::Inbound, NOW);
    assert_eq!(verdict, Verdict::Translated(Side::Inside));
    let guest = back[if six { 24..40 } else { 16..20 }].to_vec();
    (back, guest)
}
