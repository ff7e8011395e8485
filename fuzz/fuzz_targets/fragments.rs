//! Fragments: cut and put together again is the datagram, and so it is through the translator, in
//! whatever order the pieces come and whatever comes between them.
//!
//! Input: the MTU, the length of the payload, a byte of choices, then steps of one byte: which piece
//! comes next, or what else does.
#![no_main]

#[path = "nat_packet.rs"]
mod nat_packet;

use std::collections::BTreeMap;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use nat_packet::{Input, OURS4, config, guest4, is_valid, mend, remote4, transport, v4};
use net_nat::fragment::fragments_v4;
use net_nat::{Direction, NatEngine, Verdict};

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let mtu = 28 + usize::from(input.word() % 1500);
    let payload: Vec<u8> = (0..input.word() % 6000).map(|i| (i % 251) as u8).collect();
    let choices = input.byte();
    let mut datagram = v4(
        guest4(1),
        remote4(1),
        77,
        0,
        &transport(choices & 1, false, [5000, 80], 2, &payload),
    );
    mend(&mut datagram, choices & 2 != 0);
    let pieces: Vec<_> = fragments_v4(&datagram, mtu)
        .expect("it may be cut")
        .collect();
    for piece in &pieces {
        assert!(piece.len() <= mtu && is_valid(piece));
    }
    assert_eq!(together(&pieces).as_ref(), Some(&datagram));

    let mut engine = NatEngine::new(config()).expect("a sound configuration");
    let (mut now, mut out) = (Duration::ZERO, Vec::new());
    let (mut whole, mut came) = (true, vec![false; pieces.len()]);
    while !input.is_empty() {
        let step = usize::from(input.byte());
        let mut packet = match step {
            250.. => {
                now += Duration::from_secs(step as u64 - 249);
                whole &= step == 250;
                engine.expire(now);
                continue;
            }
            240.. => {
                // Something else: as a rule nonsense, at times a piece of the datagram with a byte changed.
                let mut packet = match pieces.get(step - 240) {
                    Some(piece) => piece.clone(),
                    None => input.take(64).to_vec(),
                };
                let (at, value) = (usize::from(input.byte()), input.byte());
                if let Some(byte) = packet.get_mut(at) {
                    *byte = value;
                }
                whole = false;
                packet
            }
            _ => {
                let number = step % pieces.len();
                came[number] = true;
                pieces[number].clone()
            }
        };
        let valid = is_valid(&packet);
        let verdict = engine.translate(&mut packet[..], Direction::Outbound, now);
        if let Verdict::Translated(_) = verdict {
            assert!(!valid || is_valid(&packet));
            out.push(packet);
        }
        while let Some(output) = engine.next_output() {
            out.push(output.packet);
        }
    }
    engine.validate().unwrap();
    // Nothing but the datagram came, all of it, and none too late or too much to be held.
    let few = pieces.len() <= 40;
    if whole && few && !transport_is_split(&pieces) && came.iter().all(|&c| c) {
        let mut expected = datagram.clone();
        let got = newest(&out).expect("all pieces came out");
        expected[12..16].copy_from_slice(&OURS4.octets());
        let l4 = 20;
        expected[l4..l4 + 2].copy_from_slice(&got[l4..l4 + 2]);
        expected[4..6].copy_from_slice(&got[4..6]);
        let none = choices & 1 == 0 && choices & 2 == 0;
        mend(&mut expected, !none);
        assert_eq!(got, expected);
    }
});

/// Whether the first piece is too short for its transport header.
fn transport_is_split(pieces: &[Vec<u8>]) -> bool {
    pieces.len() > 1 && pieces[0].len() < 20 + if pieces[0][9] == 6 { 20 } else { 8 }
}

/// The datagram that was completed under some identification.
fn newest(pieces: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut by_id: BTreeMap<[u8; 2], Vec<Vec<u8>>> = BTreeMap::new();
    for piece in pieces {
        by_id
            .entry([piece[4], piece[5]])
            .or_default()
            .push(piece.clone());
    }
    by_id.values().find_map(|pieces| together(pieces))
}

/// Puts pieces together, slowly; `None` while some is missing.
fn together(pieces: &[Vec<u8>]) -> Option<Vec<u8>> {
    let word = |p: &[u8], at: usize| usize::from(u16::from_be_bytes([p[at], p[at + 1]]));
    let mut sorted: Vec<_> = pieces
        .iter()
        .map(|p| ((word(p, 6) & 0x1fff) * 8, p))
        .collect();
    sorted.sort();
    sorted.dedup();
    let (_, first) = *sorted.first()?;
    let mut out = first[..20].to_vec();
    let mut more = true;
    for (offset, piece) in sorted {
        if offset != out.len() - 20 {
            return None;
        }
        out.extend_from_slice(&piece[20..]);
        more = word(piece, 6) & 0x2000 != 0;
    }
    if more {
        return None;
    }
    let len = (out.len() as u16).to_be_bytes();
    out[2..4].copy_from_slice(&len);
    let flags = word(&out, 6) & 0xc000;
    out[6..8].copy_from_slice(&(flags as u16).to_be_bytes());
    mend_header(&mut out);
    Some(out)
}

fn mend_header(packet: &mut [u8]) {
    if let Ok(mut ip) = net_wire::ipv4::Ipv4Packet::parse(packet) {
        ip.fill_header_checksum();
    }
}
