//! Our reading of messages against smoltcp's.

use net_dns::Name;
use net_dns::message::{Header, Question, Records};
use proptest::prelude::*;
use smoltcp::wire::{DnsFlags, DnsPacket, DnsQuestion, DnsRcode, DnsRecord, DnsRecordData};

use crate::common::*;

fn labels_of_smoltcp(message: &[u8], at: usize) -> Option<Vec<Vec<u8>>> {
    let packet = DnsPacket::new_checked(message).ok()?;
    let labels = packet
        .parse_name(message.get(at..)?)
        .map(|label| label.map(<[u8]>::to_ascii_lowercase));
    labels.collect::<Result<_, _>>().ok()
}

fn labels_of_ours(message: &[u8], at: usize) -> Option<Vec<Vec<u8>>> {
    let (name, _) = Name::read(message, at).ok()?;
    Some(name.labels().map(<[u8]>::to_vec).collect())
}

#[test]
fn local_replies_read_back() {
    let mut net = Net::new(config(&[S1]));
    net.dns
        .set_gateway(&["10.0.2.1".parse().unwrap(), "fd00::1".parse().unwrap()])
        .unwrap();
    let reply = net.reply_to(&query(0x4242, "gateway.internal", 255));
    let packet = DnsPacket::new_checked(&reply[..]).unwrap();
    assert_eq!(packet.transaction_id(), 0x4242);
    assert_eq!(packet.rcode(), DnsRcode::NoError);
    assert!(
        packet
            .flags()
            .contains(DnsFlags::RESPONSE | DnsFlags::AUTHORITATIVE | DnsFlags::RECURSION_AVAILABLE)
    );
    assert_eq!(
        (packet.question_count(), packet.answer_record_count()),
        (1, 2)
    );
    let (rest, _) = DnsQuestion::parse(packet.payload()).unwrap();
    let (rest, first) = DnsRecord::parse(rest).unwrap();
    let (rest, second) = DnsRecord::parse(rest).unwrap();
    assert!(rest.is_empty());
    assert_eq!(first.data, DnsRecordData::A("10.0.2.1".parse().unwrap()));
    assert_eq!(second.data, DnsRecordData::Aaaa("fd00::1".parse().unwrap()));
    for record in [first, second] {
        let owner: Vec<&[u8]> = packet.parse_name(record.name).map(Result::unwrap).collect();
        assert_eq!(owner, [&b"gateway"[..], b"internal"]);
    }
}

/// Where a name starts, and its labels.
type Known = (usize, Vec<Vec<u8>>);

/// A message of names, each a few labels ended by the root or by a pointer to an earlier name.
fn compressed() -> impl Strategy<Value = (Vec<u8>, Vec<Known>)> {
    let label = prop::collection::vec(any::<u8>(), 1..12);
    let labels = prop::collection::vec(label, 0..4);
    let names = prop::collection::vec((labels, any::<prop::sample::Index>(), any::<bool>()), 1..8);
    names.prop_map(|names| {
        let mut message = vec![0u8; 12];
        let mut known: Vec<Known> = Vec::new();
        for (own, target, compress) in names {
            let start = message.len();
            for label in &own {
                message.push(label.len() as u8);
                message.extend_from_slice(label);
            }
            let mut full: Vec<Vec<u8>> =
                own.iter().map(|label| label.to_ascii_lowercase()).collect();
            if compress && !known.is_empty() {
                let (at, rest) = target.get(&known);
                message.extend((0xc000 | *at as u16).to_be_bytes());
                full.extend(rest.clone());
            } else {
                message.push(0);
            }
            known.push((start, full));
        }
        (message, known)
    })
}

proptest! {
    #[test]
    fn compressed_names_read_the_same((message, names) in compressed()) {
        for (at, labels) in names {
            prop_assert_eq!(labels_of_ours(&message, at), Some(labels.clone()));
            prop_assert_eq!(labels_of_smoltcp(&message, at), Some(labels));
        }
    }

    /// On bytes with many pointers, ours is the stricter of the two, and where both read a name
    /// it is the same.
    #[test]
    fn any_bytes_as_names(
        bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(2), Just(0xc0), 10u8..40, any::<u8>()], 12..80),
        at in 12usize..80,
    ) {
        if let (Some(ours), Some(theirs)) = (labels_of_ours(&bytes, at), labels_of_smoltcp(&bytes, at)) {
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn any_bytes_as_records(mut bytes in prop::collection::vec(prop_oneof![Just(0u8), 0u8..4, any::<u8>()], 12..120)) {
        bytes[4..12].copy_from_slice(&[0, 1, 0, 2, 0, 1, 0, 1]);
        let header = Header::read(&bytes).unwrap();
        if let Ok(question) = Question::read(&bytes) {
            let mut last = question.end;
            for record in Records::new(&bytes, &header, question.end).map_while(Result::ok) {
                prop_assert_eq!(record.start, last);
                prop_assert!(record.rdata.end <= bytes.len());
                prop_assert!(record.ttl_at() + 6 == record.rdata.start);
                last = record.rdata.end;
            }
        }
    }
}
