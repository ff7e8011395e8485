//! NPTv6: out and in again is nothing done, no sum changes, and what is refused is unchanged.
//!
//! Input: two prefix lengths, the upper halves of two prefixes, a byte of choices, the packet. With
//! choices the packet gets an address of the inside or of the outside prefix, so that it is translated.
#![no_main]

#[path = "nat_packet.rs"]
mod nat_packet;

use std::net::Ipv6Addr;

use libfuzzer_sys::fuzz_target;
use nat_packet::{Input, is_valid};
use net_nat::Direction;
use net_nat::nptv6::{Nptv6, Outcome};

const SRC: std::ops::Range<usize> = 8..24;
const DST: std::ops::Range<usize> = 24..40;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let lens = [input.byte() % 66, input.byte() % 66];
    let prefixes = lens.map(|len| {
        let mut half = [0; 8];
        let given = input.take(8);
        half[..given.len()].copy_from_slice(given);
        let bits = u128::from(u64::from_be_bytes(half)) << 64;
        let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
        (Ipv6Addr::from(bits & mask), len)
    });
    let Ok(nptv6) = Nptv6::new(prefixes[0], prefixes[1]) else {
        return;
    };
    let choices = input.byte();
    let mut packet = input.0.to_vec();
    for (bit, (prefix, len), at) in [
        (1, nptv6.inside(), SRC),
        (2, nptv6.outside(), DST),
        (4, nptv6.outside(), SRC),
        (8, nptv6.inside(), DST),
    ] {
        if choices & bit != 0
            && let Some(field) = packet.get_mut(at)
        {
            let old = u128::from_be_bytes(field.try_into().unwrap());
            let mask = u128::MAX << (128 - u32::from(len));
            let new = prefix.to_bits() | old & !mask;
            field.copy_from_slice(&new.to_be_bytes());
        }
    }
    for direction in [Direction::Outbound, Direction::Inbound] {
        once(&nptv6, &packet, direction);
    }
    if let Some(addr) = packet.get(SRC) {
        address(&nptv6, <[u8; 16]>::try_from(addr).unwrap().into());
    }
});

fn once(nptv6: &Nptv6, packet: &[u8], direction: Direction) {
    let mut out = packet.to_vec();
    match nptv6.translate(&mut out, direction) {
        Err(_) | Ok(Outcome::NotMine) => assert_eq!(out, packet),
        Ok(outcome) => {
            assert_eq!(is_valid(&out), is_valid(packet), "a sum has changed");
            assert_ne!(out, packet);
            // Answered, it comes back to whoever sent it; a quote would have to be turned as well.
            let mut back = out.clone();
            back[SRC].copy_from_slice(&out[DST]);
            back[DST].copy_from_slice(&out[SRC]);
            let other = match outcome {
                Outcome::Hairpin => Direction::Outbound,
                _ => direction.reverse(),
            };
            // Who came in with an address of the outside prefix cannot be told from a guest.
            let (prefix, len) = nptv6.outside();
            let from = u128::from_be_bytes(packet[SRC].try_into().unwrap());
            let near = (from ^ prefix.to_bits()) >> (128 - u32::from(len)) == 0;
            if let Ok(again) = nptv6.translate(&mut back, other)
                && !(near && direction == Direction::Inbound)
            {
                assert_eq!(again, outcome);
                assert_eq!((&back[SRC], &back[DST]), (&packet[DST], &packet[SRC]));
            }
        }
    }
}

fn address(nptv6: &Nptv6, addr: Ipv6Addr) {
    let sum = |addr: Ipv6Addr| net_wire::checksum::sum(&addr.octets()).fold() % 0xffff;
    if let Ok(Some(outside)) = nptv6.to_outside(addr) {
        assert_eq!(nptv6.to_inside(outside), Ok(Some(addr)));
        assert_eq!(sum(outside), sum(addr), "not neutral");
    }
    if let Ok(Some(inside)) = nptv6.to_inside(addr) {
        assert_eq!(nptv6.to_outside(inside), Ok(Some(addr)));
        assert_eq!(sum(inside), sum(addr), "not neutral");
    }
}
