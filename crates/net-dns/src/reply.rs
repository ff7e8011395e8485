//! Building replies: errors, local answers, and answers passed on to one asker.

use crate::message::{HEADER, Header, Layout, flag, put};
use crate::query::{Asker, Edns};

/// UDP payload size we announce: what crosses every link unfragmented.
const OWN_PAYLOAD: u16 = 1232;

/// The 11 bytes of an OPT record without options.
pub(crate) fn opt_record(payload: u16, extended_rcode: u8, dnssec_ok: bool) -> [u8; 11] {
    let [size_high, size_low] = payload.to_be_bytes();
    let flags = if dnssec_ok { 0x80 } else { 0 };
    [
        0,
        0,
        41,
        size_high,
        size_low,
        extended_rcode,
        0,
        flags,
        0,
        0,
        0,
    ]
}

/// A reply without records: header, question, and OPT when the query had one.
pub(crate) fn empty(asker: &Asker, extra_flags: u16, code: u16) -> Vec<u8> {
    let kept = asker.flags & (flag::OPCODE | flag::RD | flag::CD);
    let header = Header {
        id: asker.id,
        flags: flag::QR | flag::RA | kept | extra_flags | (code & flag::RCODE),
        counts: [u16::from(!asker.question.is_empty()), 0, 0, 0],
    };
    let mut message = header.to_bytes().to_vec();
    message.extend_from_slice(&asker.question);
    add_opt(&mut message, asker.edns, code);
    message
}

/// Appends our OPT record, when the asker used EDNS.
pub(crate) fn add_opt(message: &mut Vec<u8>, edns: Option<Edns>, code: u16) {
    let (Some(edns), Some(header)) = (edns, Header::read(message)) else {
        return;
    };
    message.extend_from_slice(&opt_record(OWN_PAYLOAD, (code >> 4) as u8, edns.dnssec_ok));
    set_count(message, 3, header.counts[3].saturating_add(1));
}

/// An answer from upstream, turned into the reply to one asker: its id, its spelling of the
/// question, no OPT unless it sent one.
pub(crate) fn pass_on(message: &[u8], layout: &Layout, asker: &Asker) -> Vec<u8> {
    let mut end = layout.end;
    let mut cut_to = None;
    if let (Some(opt), None) = (&layout.opt, asker.edns) {
        // Records behind the OPT go too: names in them may be compressed against offsets that
        // would shift. The additional section is optional by definition.
        end = opt.start;
        cut_to = Some(opt.index);
    }
    let mut reply = message.get(..end).unwrap_or_default().to_vec();
    if let Some(count) = cut_to {
        set_count(&mut reply, 3, count);
    }
    address(&mut reply, asker);
    reply
}

/// Puts the asker's id and its spelling of the question in place.
pub(crate) fn address(reply: &mut [u8], asker: &Asker) {
    put(reply, 0, &asker.id.to_be_bytes());
    put(reply, HEADER, &asker.question);
}

/// Cuts a reply that is longer than the asker can take: TC and no records (RFC 2181 section 9).
///
/// `None` when not even the header fits. The flag says whether it was cut.
pub(crate) fn fit(reply: Vec<u8>, asker: &Asker) -> Option<(Vec<u8>, bool)> {
    if reply.len() <= asker.limit {
        return Some((reply, false));
    }
    let header = Header::read(&reply)?;
    let kept = header.flags & !(flag::AD | flag::OPCODE | flag::QR | flag::RCODE);
    let mut cut = empty(asker, kept | flag::TC, header.flags & flag::RCODE);
    if cut.len() > asker.limit {
        cut.truncate(HEADER);
        put(&mut cut, 4, &[0; 8]);
    }
    (cut.len() <= asker.limit).then_some((cut, true))
}

/// Sets one of the four counts.
pub(crate) fn set_count(message: &mut [u8], index: usize, count: u16) {
    put(message, 4 + 2 * index, &count.to_be_bytes());
}
