//! The DHCPv4 message: fixed header, option field, and the values options carry.
//!
//! [`Message::parse`] checks every length once and joins options that were split (RFC 3396) or
//! put into the `sname` and `file` fields (option 52, "overload"); afterwards no accessor can
//! fail in a way that panics. [`Writer`] is the way back: it knows the size limit of the receiver
//! and refuses, whole, an option that would not fit.
//!
//! | file | holds |
//! |---|---|
//! | [`Message`], [`Header`] | the 236-byte BOOTP header and the magic cookie |
//! | [`option`] | option codes, the parsed option field |
//! | [`Writer`] | building a message under a size limit |
//! | [`names`] | host names, domain names, the search list of RFC 3397 |
//! | [`Route`] | classless static routes of RFC 3442 |

pub mod names;
pub mod option;
mod routes;
mod writer;

use std::net::Ipv4Addr;

use thiserror::Error;

pub use option::Options;
pub use routes::{Route, decode_routes, encode_routes};
pub use writer::Writer;

/// Fixed header plus magic cookie: where options begin.
pub const OPTIONS_OFFSET: usize = 240;
/// The smallest message a BOOTP receiver has to accept; shorter ones are padded (RFC 1542 2.1).
pub const MIN_MESSAGE_LEN: usize = 300;
/// The largest message every client takes without announcing more: an IP datagram of 576 bytes
/// less its IP and UDP headers (RFC 2131 section 2).
pub const DEFAULT_MAX_LEN: usize = 548;

const MAGIC: [u8; 4] = [99, 130, 83, 99];
const HTYPE_ETHERNET: u8 = 1;
const FLAG_BROADCAST: u16 = 0x8000;

/// Direction of a message: the `op` field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// From a client (BOOTREQUEST, 1).
    Request,
    /// From a server (BOOTREPLY, 2).
    Reply,
}

/// Option 53 (RFC 2132 section 9.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the RFC's")]
pub enum MessageType {
    Discover = 1,
    Offer = 2,
    Request = 3,
    Decline = 4,
    Ack = 5,
    Nak = 6,
    Release = 7,
    Inform = 8,
}

impl MessageType {
    /// The type with this number, if RFC 2131 defines it.
    pub fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Discover,
            2 => Self::Offer,
            3 => Self::Request,
            4 => Self::Decline,
            5 => Self::Ack,
            6 => Self::Nak,
            7 => Self::Release,
            8 => Self::Inform,
            _ => return None,
        })
    }
}

/// Why bytes are not a DHCPv4 message over Ethernet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Fewer than 240 bytes.
    #[error("message ends before its options")]
    Truncated,
    /// `op` is neither 1 nor 2.
    #[error("neither a request nor a reply")]
    Op,
    /// `htype`/`hlen` are not those of Ethernet.
    #[error("hardware address is not Ethernet")]
    Hardware,
    /// The cookie of RFC 2131 section 3 is missing: plain BOOTP or noise.
    #[error("no DHCP magic cookie")]
    Magic,
    /// An option claims more bytes than its field has.
    #[error("option runs past its field")]
    OptionTruncated,
    /// Option 52 with a value other than 1, 2 or 3.
    #[error("invalid option overload")]
    Overload,
}

/// The fixed fields, less `sname` and `file` (their only use here is option overload).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Direction.
    pub op: Op,
    /// Transaction id, chosen by the client.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// Flags; see [`Header::broadcast`].
    pub flags: u16,
    /// The client's address, when it has one and answers ARP for it.
    pub ciaddr: Ipv4Addr,
    /// "Your" address: what the server gives.
    pub yiaddr: Ipv4Addr,
    /// Next server of a network boot.
    pub siaddr: Ipv4Addr,
    /// Relay agent.
    pub giaddr: Ipv4Addr,
    /// The client's Ethernet address.
    pub chaddr: [u8; 6],
}

impl Header {
    /// A header of zeros for this direction, transaction and client.
    pub fn new(op: Op, xid: u32, chaddr: [u8; 6]) -> Self {
        Self {
            op,
            xid,
            secs: 0,
            flags: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr,
        }
    }

    /// Whether the client cannot receive unicast before it is configured (RFC 2131 section 4.1).
    pub fn broadcast(&self) -> bool {
        self.flags & FLAG_BROADCAST != 0
    }

    /// Sets or clears the broadcast flag.
    pub fn set_broadcast(&mut self, on: bool) {
        if on {
            self.flags |= FLAG_BROADCAST
        } else {
            self.flags &= !FLAG_BROADCAST
        }
    }

    fn encode(&self) -> [u8; OPTIONS_OFFSET] {
        let mut out = [0u8; OPTIONS_OFFSET];
        out[0] = match self.op {
            Op::Request => 1,
            Op::Reply => 2,
        };
        out[1] = HTYPE_ETHERNET;
        out[2] = 6;
        out[4..8].copy_from_slice(&self.xid.to_be_bytes());
        out[8..10].copy_from_slice(&self.secs.to_be_bytes());
        out[10..12].copy_from_slice(&self.flags.to_be_bytes());
        out[12..16].copy_from_slice(&self.ciaddr.octets());
        out[16..20].copy_from_slice(&self.yiaddr.octets());
        out[20..24].copy_from_slice(&self.siaddr.octets());
        out[24..28].copy_from_slice(&self.giaddr.octets());
        out[28..34].copy_from_slice(&self.chaddr);
        out[236..240].copy_from_slice(&MAGIC);
        out
    }
}

/// One parsed message; options borrow from the bytes unless they had to be joined.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    /// Fixed fields.
    pub header: Header,
    /// All options, joined per code.
    pub options: Options<'a>,
}

impl<'a> Message<'a> {
    /// Parses the UDP payload of a DHCPv4 packet.
    ///
    /// # Errors
    /// [`ParseError`] names the first thing that is wrong. A missing end option is accepted, and
    /// so are codes this crate does not know.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let Some((f, options)) = bytes.split_first_chunk::<OPTIONS_OFFSET>() else {
            return Err(ParseError::Truncated);
        };
        let op = match f[0] {
            1 => Op::Request,
            2 => Op::Reply,
            _ => return Err(ParseError::Op),
        };
        if f[1] != HTYPE_ETHERNET || f[2] != 6 {
            return Err(ParseError::Hardware);
        }
        if f[236..240] != MAGIC {
            return Err(ParseError::Magic);
        }
        let header = Header {
            op,
            xid: u32::from_be_bytes([f[4], f[5], f[6], f[7]]),
            secs: u16::from_be_bytes([f[8], f[9]]),
            flags: u16::from_be_bytes([f[10], f[11]]),
            ciaddr: Ipv4Addr::new(f[12], f[13], f[14], f[15]),
            yiaddr: Ipv4Addr::new(f[16], f[17], f[18], f[19]),
            siaddr: Ipv4Addr::new(f[20], f[21], f[22], f[23]),
            giaddr: Ipv4Addr::new(f[24], f[25], f[26], f[27]),
            chaddr: [f[28], f[29], f[30], f[31], f[32], f[33]],
        };
        let options = Options::parse(options, &f[108..236], &f[44..108])?;
        Ok(Self { header, options })
    }

    /// Option 53, when it is present, one byte long and known.
    pub fn message_type(&self) -> Option<MessageType> {
        match self.options.get(option::MESSAGE_TYPE) {
            Some(&[value]) => MessageType::from_u8(value),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trip() {
        let mut header = Header::new(Op::Request, 0x0102_0304, [2, 0, 0, 0, 0, 7]);
        header.set_broadcast(true);
        header.secs = 9;
        header.ciaddr = Ipv4Addr::new(10, 0, 0, 1);
        header.yiaddr = Ipv4Addr::new(10, 0, 0, 2);
        header.siaddr = Ipv4Addr::new(10, 0, 0, 3);
        header.giaddr = Ipv4Addr::new(10, 0, 0, 4);
        let bytes = Writer::new(&header, DEFAULT_MAX_LEN).finish(None);
        assert_eq!(bytes.len(), MIN_MESSAGE_LEN);
        assert_eq!(Message::parse(&bytes).unwrap().header, header);
    }

    #[test]
    fn each_fixed_field_is_checked() {
        let header = Header::new(Op::Reply, 1, [2, 0, 0, 0, 0, 7]);
        let good = Writer::new(&header, DEFAULT_MAX_LEN).finish(None);
        let broken = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            Message::parse(&bytes).unwrap_err()
        };
        assert_eq!(broken(0, 3), ParseError::Op);
        assert_eq!(broken(1, 6), ParseError::Hardware);
        assert_eq!(broken(2, 16), ParseError::Hardware);
        assert_eq!(broken(239, 0), ParseError::Magic);
        assert_eq!(
            Message::parse(&good[..239]).unwrap_err(),
            ParseError::Truncated
        );
        assert!(Message::parse(&good[..240]).is_ok());
    }
}
