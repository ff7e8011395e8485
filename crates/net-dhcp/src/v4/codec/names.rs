//! Host names, domain names and the domain search list.

/// Longest DNS label (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;
/// Longest domain name in text form, without the final dot.
const MAX_NAME: usize = 253;
/// The most names [`decode_search`] returns.
const MAX_SEARCH: usize = 16;
/// Compression pointers reach offsets below this (RFC 1035 section 4.1.4).
const MAX_POINTER: usize = 0x4000;

/// Makes a DNS label of what a client calls itself (option 12), or `None` if nothing is left.
///
/// Only the part before the first dot counts; letters become lower case, every run of other
/// characters one hyphen. The result matches `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`.
pub fn sanitise_host_name(raw: &[u8]) -> Option<String> {
    let mut label = String::new();
    for &byte in raw.iter().take_while(|&&b| b != b'.' && b != 0) {
        if label.len() == MAX_LABEL {
            break;
        }
        if byte.is_ascii_alphanumeric() {
            label.push(char::from(byte.to_ascii_lowercase()));
        } else if !label.is_empty() && !label.ends_with('-') {
            label.push('-');
        }
    }
    while label.ends_with('-') {
        label.pop();
    }
    (!label.is_empty()).then_some(label)
}

/// The host part of option 81 (RFC 4702): flags, two result codes, then the name, in wire format
/// when flag E (0x04) is set and as text otherwise.
pub fn host_of_fqdn(value: &[u8]) -> Option<String> {
    let (&[flags, _, _], name) = value.split_first_chunk::<3>()?;
    if flags & 0x04 == 0 {
        return sanitise_host_name(name);
    }
    let (&len, rest) = name.split_first()?;
    // A length past 63 would be a compression pointer, which RFC 4702 forbids here.
    (usize::from(len) <= MAX_LABEL)
        .then(|| rest.get(..usize::from(len)))
        .flatten()
        .and_then(|label| {
            // A dot inside a wire-format label would look like a separator.
            (!label.contains(&b'.'))
                .then(|| sanitise_host_name(label))
                .flatten()
        })
}

/// Whether `name` is a domain name of letters, digits, hyphens and underscores, in labels of 1 to
/// 63 and 253 bytes in all, without a final dot.
pub fn is_domain_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.split('.').all(|label| {
            (1..=MAX_LABEL).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// The value of option 119 (RFC 3397): names in DNS wire format, compressed over the whole value.
/// Names that are not domain names are left out.
pub fn encode_search(names: &[String]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut known: Vec<(&str, usize)> = Vec::new();
    for name in names.iter().filter(|name| is_domain_name(name)) {
        let mut suffix = name.as_str();
        loop {
            if let Some(&(_, at)) = known.iter().find(|(s, _)| s.eq_ignore_ascii_case(suffix)) {
                // `known` holds only offsets below 0x4000.
                out.extend_from_slice(&(0xc000 | at as u16).to_be_bytes());
                break;
            }
            if out.len() < MAX_POINTER {
                known.push((suffix, out.len()));
            }
            let (label, rest) = match suffix.split_once('.') {
                Some((label, rest)) => (label, Some(rest)),
                None => (suffix, None),
            };
            out.push(label.len() as u8); // at most 63: `is_domain_name`
            out.extend_from_slice(label.as_bytes());
            match rest {
                Some(rest) => suffix = rest,
                None => {
                    out.push(0);
                    break;
                }
            }
        }
    }
    out
}

/// Reads option 119. Stops at the first malformed name; returns at most 16 names, only valid
/// ones. Compression pointers must point backwards, so that reading ends.
pub fn decode_search(value: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let mut at = 0;
    while at < value.len() && names.len() < MAX_SEARCH {
        let Some((name, next)) = decode_name(value, at) else {
            break;
        };
        if is_domain_name(&name) {
            names.push(name);
        }
        at = next;
    }
    names
}

/// One name at `start`, and where the next one begins.
fn decode_name(value: &[u8], start: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut at = start;
    // Every pointer must lead below the place the last one led to.
    let mut floor = start;
    let mut next = None;
    loop {
        match usize::from(*value.get(at)?) {
            0 => return Some((name, next.unwrap_or(at + 1))),
            len @ 1..=MAX_LABEL => {
                let label = value.get(at + 1..at + 1 + len)?;
                if name.len() + 1 + len > MAX_NAME + 1 {
                    return None;
                }
                if !name.is_empty() {
                    name.push('.');
                }
                name.push_str(std::str::from_utf8(label).ok()?);
                at += 1 + len;
            }
            high @ 0xc0..=0xff => {
                let target = (high & 0x3f) << 8 | usize::from(*value.get(at + 1)?);
                if target >= floor {
                    return None;
                }
                next.get_or_insert(at + 2);
                floor = target;
                at = target;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn host_names_become_labels() {
        for (raw, want) in [
            (&b"web-1"[..], Some("web-1")),
            (b"Web_1.example.org", Some("web-1")),
            (b"--a--b--", Some("a-b")),
            ("Zo\u{eb}'s PC".as_bytes(), Some("zo-s-pc")),
            (b"a\0b", Some("a")),
            (b"", None),
            (b".hidden", None),
            (b"\xff\xfe\n", None),
        ] {
            assert_eq!(sanitise_host_name(raw).as_deref(), want, "{raw:?}");
        }
        assert_eq!(sanitise_host_name(&[b'a'; 200]).unwrap().len(), 63);
    }

    #[test]
    fn rfc4702_fqdn_text_and_wire() {
        assert_eq!(host_of_fqdn(b"\0\0\0vm7.example"), Some("vm7".into()));
        assert_eq!(
            host_of_fqdn(b"\x04\0\0\x03vm7\x07example\0"),
            Some("vm7".into())
        );
        assert_eq!(host_of_fqdn(b"\x04\0\0\xc0\x03vm7"), None);
        assert_eq!(host_of_fqdn(b"\x04\0\0\x09vm7"), None);
        assert_eq!(host_of_fqdn(b"\x04\0"), None);
    }

    #[test]
    fn rfc3397_example() {
        // RFC 3397 section 2: "eng.apple.com." and "marketing.apple.com.", joined from two pieces.
        let names = [
            "eng.apple.com".to_string(),
            "marketing.apple.com".to_string(),
        ];
        let wire = b"\x03eng\x05apple\x03com\0\x09marketing\xc0\x04";
        assert_eq!(encode_search(&names), wire);
        assert_eq!(decode_search(wire), names);
    }

    #[test]
    fn search_list_pointer_loops_end() {
        assert!(decode_search(b"\xc0\x00").is_empty());
        assert!(decode_search(b"\x01a\xc0\x00").is_empty());
        assert!(decode_search(b"\x01a\xc0\x7f").is_empty());
        assert!(decode_search(&[1; 4096]).len() <= 16);
    }

    proptest! {
        #[test]
        fn sanitised_names_are_labels(raw in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(label) = sanitise_host_name(&raw) {
                prop_assert!(is_domain_name(&label) && !label.contains(['.', '_']));
                prop_assert_eq!(sanitise_host_name(label.as_bytes()), Some(label));
            }
        }

        #[test]
        fn search_list_survives_any_bytes(raw in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(decode_search(&raw).iter().all(|name| is_domain_name(name)));
        }

        #[test]
        fn search_list_round_trip(
            names in proptest::collection::vec("[a-z]{1,5}(\\.[a-z]{1,4}){0,4}", 0..16),
        ) {
            prop_assert_eq!(decode_search(&encode_search(&names)), names);
        }
    }
}
