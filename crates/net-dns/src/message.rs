//! The message format of RFC 1035 section 4, as far as a forwarder has to understand it: the
//! header, the question, where each record starts and ends, and the EDNS pseudo-record.
//!
//! A forwarder passes records on without reading what they hold, so there is no type here per
//! record type: unknown types need nothing (RFC 3597, RFC 5625 section 4.3).

use std::ops::Range;

use crate::name::{Name, walk};

/// Length of the header in bytes.
pub const HEADER: usize = 12;

/// Header flags, as bits of the 16-bit flag word (RFC 1035 section 4.1.1, RFC 4035).
pub mod flag {
    /// The message is a response.
    pub const QR: u16 = 0x8000;
    /// The four bits of the opcode; 0 is QUERY.
    pub const OPCODE: u16 = 0x7800;
    /// The answer is authoritative.
    pub const AA: u16 = 0x0400;
    /// The answer was cut to fit.
    pub const TC: u16 = 0x0200;
    /// Recursion is asked for.
    pub const RD: u16 = 0x0100;
    /// Recursion is available.
    pub const RA: u16 = 0x0080;
    /// Reserved.
    pub const Z: u16 = 0x0040;
    /// The data is authenticated (in a query: tell me whether it is).
    pub const AD: u16 = 0x0020;
    /// Checking disabled.
    pub const CD: u16 = 0x0010;
    /// The four bits of the response code.
    pub const RCODE: u16 = 0x000f;
}

/// Response codes (RFC 1035 section 4.1.1, RFC 6891 section 9).
pub mod rcode {
    /// No error.
    pub const NOERROR: u16 = 0;
    /// The query could not be read.
    pub const FORMERR: u16 = 1;
    /// The server failed.
    pub const SERVFAIL: u16 = 2;
    /// The name does not exist.
    pub const NXDOMAIN: u16 = 3;
    /// The kind of query is not supported.
    pub const NOTIMP: u16 = 4;
    /// The server will not answer this.
    pub const REFUSED: u16 = 5;
    /// The EDNS version is not supported; needs the upper bits of the OPT record.
    pub const BADVERS: u16 = 16;
}

/// Record types that the forwarder knows by number.
pub mod rtype {
    /// IPv4 address.
    pub const A: u16 = 1;
    /// Canonical name.
    pub const CNAME: u16 = 5;
    /// Start of authority.
    pub const SOA: u16 = 6;
    /// Pointer, used for reverse look-ups.
    pub const PTR: u16 = 12;
    /// IPv6 address.
    pub const AAAA: u16 = 28;
    /// EDNS pseudo-record (RFC 6891).
    pub const OPT: u16 = 41;
    /// Key exchange of a transaction (RFC 2930).
    pub const TKEY: u16 = 249;
    /// Transaction signature (RFC 8945).
    pub const TSIG: u16 = 250;
    /// Incremental zone transfer.
    pub const IXFR: u16 = 251;
    /// Zone transfer.
    pub const AXFR: u16 = 252;
    /// All records, or any of them (RFC 8482).
    pub const ANY: u16 = 255;
}

/// Record classes.
pub mod class {
    /// The Internet.
    pub const IN: u16 = 1;
    /// CHAOS, used to ask a server about itself (`version.bind`, `id.server`).
    pub const CH: u16 = 3;
    /// Any class.
    pub const ANY: u16 = 255;
}

/// Why bytes are not a DNS message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The message ends before what it announces.
    #[error("the message ends before what it announces")]
    Truncated,
    /// A label type other than 00 and 11.
    #[error("a name has a label of an unknown kind")]
    BadLabel,
    /// A compression pointer that does not point backward.
    #[error("a compression pointer does not point backward")]
    BadPointer,
    /// A name of more than 255 bytes.
    #[error("a name is longer than 255 bytes")]
    NameTooLong,
    /// The number of questions is not one.
    #[error("the message does not have exactly one question")]
    NotOneQuestion,
    /// More than one OPT record, or one that is not at the root in the additional section.
    #[error("the EDNS record is misplaced or there is more than one")]
    BadOpt,
}

/// The fixed header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Query id.
    pub id: u16,
    /// Flag word, see [`flag`].
    pub flags: u16,
    /// Number of questions, answers, authority and additional records.
    pub counts: [u16; 4],
}

impl Header {
    /// Reads the header; `None` when the message is shorter than 12 bytes.
    #[must_use]
    pub fn read(message: &[u8]) -> Option<Self> {
        let word = |at| u16_at(message, at);
        Some(Self {
            id: word(0)?,
            flags: word(2)?,
            counts: [word(4)?, word(6)?, word(8)?, word(10)?],
        })
    }

    /// The opcode; 0 is QUERY.
    #[must_use]
    pub fn opcode(&self) -> u16 {
        (self.flags & flag::OPCODE) >> 11
    }

    /// The header as bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let words = [self.id, self.flags].into_iter().chain(self.counts);
        for (place, word) in bytes.chunks_exact_mut(2).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }
}

/// The question of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The name asked for, in lower case.
    pub name: Name,
    /// Record type asked for.
    pub qtype: u16,
    /// Class asked for.
    pub qclass: u16,
    /// Offset of the first byte after the question.
    pub end: usize,
}

impl Question {
    /// Reads the one question of a message.
    ///
    /// # Errors
    /// [`MessageError::NotOneQuestion`], or what is wrong with its name.
    pub fn read(message: &[u8]) -> Result<Self, MessageError> {
        let header = Header::read(message).ok_or(MessageError::Truncated)?;
        if header.counts[0] != 1 {
            return Err(MessageError::NotOneQuestion);
        }
        let (name, at) = Name::read(message, HEADER)?;
        let qtype = u16_at(message, at).ok_or(MessageError::Truncated)?;
        let qclass = u16_at(message, at + 2).ok_or(MessageError::Truncated)?;
        Ok(Self {
            name,
            qtype,
            qclass,
            end: at + 4,
        })
    }
}

/// The section a record stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// Answers to the question.
    Answer,
    /// Who is responsible, and proofs of absence.
    Authority,
    /// Anything else that may help.
    Additional,
}

/// One record: where it is and the fixed part of what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The section it stands in.
    pub section: Section,
    /// Offset of the owner name.
    pub start: usize,
    /// Record type.
    pub rtype: u16,
    /// Class; the payload size in an OPT record.
    pub class: u16,
    /// Time to live in seconds; flags in an OPT record.
    pub ttl: u32,
    /// Where the record data is.
    pub rdata: Range<usize>,
}

impl Record {
    /// Offset of the TTL field.
    #[must_use]
    pub fn ttl_at(&self) -> usize {
        self.rdata.start.saturating_sub(6)
    }
}

/// Iterator over all records after the question. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    message: &'a [u8],
    at: usize,
    left: [u16; 3],
}

impl<'a> Records<'a> {
    /// Starts at `at`, which is [`Question::end`], with the counts of `header`.
    #[must_use]
    pub fn new(message: &'a [u8], header: &Header, at: usize) -> Self {
        let [_, answer, authority, additional] = header.counts;
        Self {
            message,
            at,
            left: [answer, authority, additional],
        }
    }

    /// Offset of the next record, which after the last is the end of the message proper.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    fn read(&self, section: Section) -> Result<Record, MessageError> {
        let fixed = walk(self.message, self.at, |_| ())?;
        let word = |at| u16_at(self.message, at).ok_or(MessageError::Truncated);
        let rtype = word(fixed)?;
        let class = word(fixed + 2)?;
        let ttl = u32::from(word(fixed + 4)?) << 16 | u32::from(word(fixed + 6)?);
        let rdata = fixed + 10..fixed + 10 + usize::from(word(fixed + 8)?);
        if rdata.end > self.message.len() {
            return Err(MessageError::Truncated);
        }
        Ok(Record {
            section,
            start: self.at,
            rtype,
            class,
            ttl,
            rdata,
        })
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, MessageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let sections = [Section::Answer, Section::Authority, Section::Additional];
        let (left, section) = self
            .left
            .iter_mut()
            .zip(sections)
            .find(|(left, _)| **left > 0)?;
        *left -= 1;
        let record = self.read(section);
        match &record {
            Ok(record) => self.at = record.rdata.end,
            Err(_) => self.left = [0; 3],
        }
        Some(record)
    }
}

/// What an OPT record says (RFC 6891 section 6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opt {
    /// Offset of the record.
    pub start: usize,
    /// How many additional records stand before it.
    pub index: u16,
    /// UDP payload size the sender can take, as written.
    pub payload: u16,
    /// Upper eight bits of the response code.
    pub extended_rcode: u8,
    /// EDNS version.
    pub version: u8,
    /// Flags; bit 15 is DO.
    pub flags: u16,
    /// Where the options are.
    pub options: Range<usize>,
}

impl Opt {
    /// The DO flag: the sender wants DNSSEC records.
    pub const DO: u16 = 0x8000;

    /// The codes of the options; `None` as an item where they do not fit the record.
    pub fn option_codes<'a>(&self, message: &'a [u8]) -> impl Iterator<Item = Option<u16>> + 'a {
        let mut rest = message.get(self.options.clone()).unwrap_or_default();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let code = u16_at(rest, 0);
            let length = u16_at(rest, 2).map(usize::from);
            match length.and_then(|length| rest.get(4 + length..)) {
                Some(after) => rest = after,
                None => {
                    rest = &[];
                    return Some(None);
                }
            }
            Some(code)
        })
    }
}

/// The sections of a message, found in one walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The OPT record, if there is one.
    pub opt: Option<Opt>,
    /// Offset after the last authority record.
    pub authority_end: usize,
    /// Offset after the last record; what follows belongs to nobody.
    pub end: usize,
    /// Whether any record other than OPT stands in the message.
    pub has_records: bool,
}

impl Layout {
    /// Walks every record of a message whose question ends at `at`.
    ///
    /// # Errors
    /// What is wrong with the first bad record, or [`MessageError::BadOpt`].
    pub fn read(message: &[u8], header: &Header, at: usize) -> Result<Self, MessageError> {
        let mut layout = Self {
            opt: None,
            authority_end: at,
            end: at,
            has_records: false,
        };
        let mut records = Records::new(message, header, at);
        let mut index = 0;
        while let Some(record) = records.next() {
            let record = record?;
            if record.rtype == rtype::OPT {
                let at_root = message.get(record.start) == Some(&0);
                if layout.opt.is_some() || !at_root || record.section != Section::Additional {
                    return Err(MessageError::BadOpt);
                }
                let [extended_rcode, version, high, low] = record.ttl.to_be_bytes();
                layout.opt = Some(Opt {
                    start: record.start,
                    index,
                    payload: record.class,
                    extended_rcode,
                    version,
                    flags: u16::from_be_bytes([high, low]),
                    options: record.rdata,
                });
            } else {
                layout.has_records = true;
            }
            if record.section == Section::Additional {
                index += 1;
            } else {
                layout.authority_end = records.position();
            }
        }
        layout.end = records.position();
        Ok(layout)
    }
}

/// The big-endian word at `at`, if the bytes reach that far.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let word = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(word.try_into().ok()?))
}

/// The big-endian double word at `at`, if the bytes reach that far.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(word.try_into().ok()?))
}

/// Writes `value` over the bytes at `at`; nothing where they do not reach that far.
pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = at
        .checked_add(value.len())
        .and_then(|end| bytes.get_mut(at..end))
    {
        place.copy_from_slice(value);
    }
}
