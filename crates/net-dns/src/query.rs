//! Judging what a client sent: a query to answer, a query to refuse, or nothing to answer.

use crate::message::{Header, Layout, MessageError, Opt, Question, class, flag, rcode, rtype};

/// Longest query taken, in bytes. A question with every option in use is a tenth of it.
pub const MAX_QUERY: usize = 4096;
/// Answer size that every UDP client can take (RFC 1035 section 4.2.1).
pub(crate) const MIN_UDP_PAYLOAD: u16 = 512;

/// EDNS options between two neighbours, which a forwarder ends and does not pass on: COOKIE
/// (RFC 7873), edns-tcp-keepalive (RFC 7828), Padding (RFC 7830).
const HOP_BY_HOP: [u16; 3] = [10, 11, 12];

/// What the reply needs of the query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) id: u16,
    /// Flags of the query.
    pub(crate) flags: u16,
    /// Name, type and class as asked, in the case they were asked in; empty when unreadable.
    pub(crate) question: Box<[u8]>,
    /// Present when the query had an OPT record.
    pub(crate) edns: Option<Edns>,
    /// Longest reply in bytes.
    pub(crate) limit: usize,
}

/// The client's EDNS state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edns {
    pub(crate) payload: u16,
    pub(crate) dnssec_ok: bool,
}

/// A well-formed query.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) asker: Asker,
    pub(crate) question: Question,
    /// Nothing in the query goes beyond the question and known flags, so its answer is anyone's
    /// who asks the same: it may be shared and cached. Otherwise the query travels verbatim.
    pub(crate) plain: bool,
    /// End of the last record; bytes behind it are not passed on.
    pub(crate) end: usize,
}

/// What to do with bytes from a client.
#[derive(Debug)]
pub(crate) enum Verdict {
    Query(Query),
    /// Answer with this code.
    Refuse(Asker, u16),
    /// Under 12 bytes: there is no id to answer to.
    TooShort,
    /// A response: answering it could start an endless exchange (RFC 5625 section 6).
    Response,
}

/// Reads a query that may be answered with up to `limit` bytes (further bound for UDP by what the
/// client can take).
pub(crate) fn judge(message: &[u8], udp: bool, limit: usize) -> Verdict {
    let Some(header) = Header::read(message) else {
        return Verdict::TooShort;
    };
    if header.flags & flag::QR != 0 {
        return Verdict::Response;
    }
    let small = if udp {
        limit.min(usize::from(MIN_UDP_PAYLOAD))
    } else {
        limit
    };
    let mut asker = Asker {
        id: header.id,
        flags: header.flags,
        question: Box::default(),
        edns: None,
        limit: small,
    };
    if header.opcode() != 0 {
        return Verdict::Refuse(asker, rcode::NOTIMP);
    }
    if message.len() > MAX_QUERY {
        return Verdict::Refuse(asker, rcode::FORMERR);
    }
    let Ok(question) = Question::read(message) else {
        return Verdict::Refuse(asker, rcode::FORMERR);
    };
    asker.question = message
        .get(crate::message::HEADER..question.end)
        .unwrap_or_default()
        .into();
    let layout = match Layout::read(message, &header, question.end) {
        Ok(layout) => layout,
        Err(_) => return Verdict::Refuse(asker, rcode::FORMERR),
    };
    if let Some(opt) = &layout.opt {
        // Values below 512 count as 512 (RFC 6891 section 6.2.3).
        let payload = opt.payload.max(MIN_UDP_PAYLOAD);
        asker.edns = Some(Edns {
            payload,
            dnssec_ok: opt.flags & Opt::DO != 0,
        });
        if udp {
            asker.limit = limit.min(usize::from(payload));
        }
        if opt.version != 0 {
            return Verdict::Refuse(asker, rcode::BADVERS);
        }
    }
    if let Some(code) = refused(&question) {
        return Verdict::Refuse(asker, code);
    }
    let plain = match is_plain(message, &header, &layout, &question) {
        Ok(plain) => plain,
        Err(_) => return Verdict::Refuse(asker, rcode::FORMERR),
    };
    Verdict::Query(Query {
        asker,
        question,
        plain,
        end: layout.end,
    })
}

/// Questions that are neither forwarded nor answered.
fn refused(question: &Question) -> Option<u16> {
    match (question.qtype, question.qclass) {
        // A pseudo-record cannot be asked for.
        (rtype::OPT, _) => Some(rcode::FORMERR),
        // A transfer is a stream of messages, and the host's right to one is not the guest's.
        (rtype::AXFR | rtype::IXFR, _) => Some(rcode::REFUSED),
        // `hostname.bind` and its like would name the machine behind the host.
        (_, class::CH) => Some(rcode::REFUSED),
        _ => None,
    }
}

fn is_plain(
    message: &[u8],
    header: &Header,
    layout: &Layout,
    question: &Question,
) -> Result<bool, MessageError> {
    let known = flag::RD | flag::AD | flag::CD;
    let mut plain = header.flags & !known == 0
        && !layout.has_records
        && !matches!(question.qtype, rtype::TKEY | rtype::TSIG);
    if let Some(opt) = &layout.opt {
        plain &= opt.flags & !Opt::DO == 0 && opt.extended_rcode == 0;
        for code in opt.option_codes(message) {
            plain &= HOP_BY_HOP.contains(&code.ok_or(MessageError::Truncated)?);
        }
    }
    Ok(plain)
}
