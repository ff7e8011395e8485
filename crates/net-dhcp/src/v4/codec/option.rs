//! Option codes and the parsed option field (RFC 2132).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::ParseError;

/// Subnet mask (RFC 2132 3.3).
pub const SUBNET_MASK: u8 = 1;
/// Routers (RFC 2132 3.5).
pub const ROUTER: u8 = 3;
/// Domain name servers (RFC 2132 3.8).
pub const DNS: u8 = 6;
/// Host name (RFC 2132 3.14).
pub const HOST_NAME: u8 = 12;
/// Domain name (RFC 2132 3.17).
pub const DOMAIN: u8 = 15;
/// Interface MTU (RFC 2132 5.1).
pub const MTU: u8 = 26;
/// Broadcast address (RFC 2132 5.3).
pub const BROADCAST: u8 = 28;
/// NTP servers (RFC 2132 8.3).
pub const NTP: u8 = 42;
/// Requested IP address (RFC 2132 9.1).
pub const REQUESTED_IP: u8 = 50;
/// Lease time in seconds (RFC 2132 9.2).
pub const LEASE_TIME: u8 = 51;
/// Option overload (RFC 2132 9.3).
pub const OVERLOAD: u8 = 52;
/// Message type (RFC 2132 9.6).
pub const MESSAGE_TYPE: u8 = 53;
/// Server identifier (RFC 2132 9.7).
pub const SERVER_ID: u8 = 54;
/// Parameter request list (RFC 2132 9.8).
pub const PARAMETER_LIST: u8 = 55;
/// Message: the reason of a NAK, as text (RFC 2132 9.9).
pub const MESSAGE: u8 = 56;
/// Maximum DHCP message size (RFC 2132 9.10).
pub const MAX_SIZE: u8 = 57;
/// Renewal time T1 in seconds (RFC 2132 9.11).
pub const RENEWAL_TIME: u8 = 58;
/// Rebinding time T2 in seconds (RFC 2132 9.12).
pub const REBINDING_TIME: u8 = 59;
/// Client identifier (RFC 2132 9.14, RFC 4361).
pub const CLIENT_ID: u8 = 61;
/// Client FQDN (RFC 4702).
pub const FQDN: u8 = 81;
/// Relay agent information (RFC 3046).
pub const RELAY_INFO: u8 = 82;
/// IPv6-only preferred (RFC 8925).
pub const V6ONLY: u8 = 108;
/// Domain search list (RFC 3397).
pub const SEARCH: u8 = 119;
/// Classless static routes (RFC 3442).
pub const CLASSLESS_ROUTES: u8 = 121;
/// Classless static routes as older Windows clients ask for them; same format as 121.
pub const CLASSLESS_ROUTES_MS: u8 = 249;

const PAD: u8 = 0;
/// End of options.
pub(super) const END: u8 = 255;

/// The options of one message, each code once.
///
/// Bounded by the message: at most 254 codes, and the values together are no longer than the
/// bytes they came from.
#[derive(Debug, Clone, Default)]
pub struct Options<'a> {
    values: BTreeMap<u8, Cow<'a, [u8]>>,
}

impl<'a> Options<'a> {
    /// Reads the option field and, when option 52 says so, `file` and then `sname`: the order in
    /// which RFC 3396 section 5 joins the pieces of an option.
    pub(super) fn parse(
        options: &'a [u8],
        file: &'a [u8],
        sname: &'a [u8],
    ) -> Result<Self, ParseError> {
        let mut parsed = Self::default();
        parsed.read_field(options)?;
        let overload = match parsed.get(OVERLOAD) {
            None => 0,
            Some(&[value @ 1..=3]) => value,
            Some(_) => return Err(ParseError::Overload),
        };
        if overload & 1 != 0 {
            parsed.read_field(file)?;
        }
        if overload & 2 != 0 {
            parsed.read_field(sname)?;
        }
        Ok(parsed)
    }

    fn read_field(&mut self, mut field: &'a [u8]) -> Result<(), ParseError> {
        loop {
            match field {
                [] | [END, ..] => return Ok(()),
                [PAD, rest @ ..] => field = rest,
                [code, len, rest @ ..] => {
                    let Some((value, rest)) = rest.split_at_checked(usize::from(*len)) else {
                        return Err(ParseError::OptionTruncated);
                    };
                    self.values
                        .entry(*code)
                        .and_modify(|joined| joined.to_mut().extend_from_slice(value))
                        .or_insert(Cow::Borrowed(value));
                    field = rest;
                }
                [_] => return Err(ParseError::OptionTruncated),
            }
        }
    }

    /// The value of an option, joined if it came in pieces.
    pub fn get(&self, code: u8) -> Option<&[u8]> {
        self.values.get(&code).map(Cow::as_ref)
    }

    /// An address. A longer value gives its first four bytes: some senders repeat an option, and
    /// RFC 3396 then joins the copies.
    pub fn addr(&self, code: u8) -> Option<Ipv4Addr> {
        self.addrs(code).next()
    }

    /// A list of addresses; a trailing fragment is ignored.
    pub fn addrs(&self, code: u8) -> impl Iterator<Item = Ipv4Addr> + '_ {
        let (addrs, _) = self.get(code).unwrap_or_default().as_chunks::<4>();
        addrs.iter().map(|&octets| Ipv4Addr::from(octets))
    }

    /// A 16-bit number; longer values give their first two bytes.
    pub fn u16(&self, code: u8) -> Option<u16> {
        self.get(code)?
            .first_chunk()
            .map(|&b| u16::from_be_bytes(b))
    }

    /// A 32-bit number; longer values give their first four bytes.
    pub fn u32(&self, code: u8) -> Option<u32> {
        self.get(code)?
            .first_chunk()
            .map(|&b| u32::from_be_bytes(b))
    }

    /// Every code and value, in the order of the codes.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.values
            .iter()
            .map(|(&code, value)| (code, value.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<'a>(options: &'a [u8], file: &'a [u8], sname: &'a [u8]) -> Options<'a> {
        Options::parse(options, file, sname).unwrap()
    }

    #[test]
    fn rfc2132_pads_end_and_unknown_codes() {
        let opts = parse(
            &[0, 0, 53, 1, 1, 0, 224, 2, 9, 9, 255, 12, 1, b'x'],
            &[],
            &[],
        );
        assert_eq!(opts.get(53), Some(&[1u8][..]));
        assert_eq!(opts.get(224), Some(&[9u8, 9][..]));
        assert_eq!(opts.get(12), None, "nothing after the end option counts");
        assert_eq!(opts.iter().count(), 2);
    }

    #[test]
    fn rfc3396_pieces_are_joined_in_field_order() {
        let opts = parse(
            &[12, 1, b'a', 52, 1, 3, 12, 1, b'b', 255],
            &[12, 1, b'c', 255],
            &[12, 1, b'd', 255],
        );
        assert_eq!(opts.get(12), Some(&b"abcd"[..]));
    }

    #[test]
    fn rfc2132_overload_chooses_the_fields() {
        let (file, sname) = ([12, 1, b'f', 255], [12, 1, b's', 255]);
        assert_eq!(
            parse(&[52, 1, 1, 255], &file, &sname).get(12),
            Some(&b"f"[..])
        );
        assert_eq!(
            parse(&[52, 1, 2, 255], &file, &sname).get(12),
            Some(&b"s"[..])
        );
        assert_eq!(parse(&[255], &file, &sname).get(12), None);
        for bad in [&[52u8, 1, 0][..], &[52, 1, 4], &[52, 0], &[52, 2, 1, 1]] {
            assert_eq!(
                Options::parse(bad, &file, &sname).unwrap_err(),
                ParseError::Overload
            );
        }
    }

    #[test]
    fn option_past_its_field_is_an_error() {
        for bad in [&[53u8][..], &[53, 1], &[53, 2, 1], &[0, 12, 255, b'a']] {
            assert_eq!(
                Options::parse(bad, &[], &[]).unwrap_err(),
                ParseError::OptionTruncated
            );
        }
        assert!(Options::parse(&[52, 1, 1, 255], &[12, 200], &[]).is_err());
    }

    #[test]
    fn numbers_and_addresses() {
        let opts = parse(
            &[
                57, 2, 2, 64, 51, 4, 0, 0, 14, 16, 6, 9, 1, 1, 1, 1, 8, 8, 8, 8, 7,
            ],
            &[],
            &[],
        );
        assert_eq!(opts.u16(MAX_SIZE), Some(576));
        assert_eq!(opts.u32(LEASE_TIME), Some(3600));
        let dns: Vec<_> = opts.addrs(DNS).collect();
        assert_eq!(dns, [Ipv4Addr::new(1, 1, 1, 1), Ipv4Addr::new(8, 8, 8, 8)]);
        assert_eq!(opts.u32(MAX_SIZE), None, "too short for 32 bits");
        assert_eq!(opts.addr(ROUTER), None);
    }
}
