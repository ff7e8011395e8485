//! Domain names: text and wire form, and the bounded walk over compressed names.

use crate::message::{HEADER, MessageError};

/// Longest name in wire form, root label included (RFC 1035 section 2.3.4).
pub const MAX_NAME: usize = 255;
/// Longest label (RFC 1035 section 2.3.4).
pub const MAX_LABEL: usize = 63;

/// A domain name in uncompressed wire form, in lower case.
///
/// DNS compares names without regard to ASCII case (RFC 4343), so the case is folded once, here.
/// Where a question has to be echoed in the case it was asked in, its bytes are kept beside the
/// `Name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

/// Why a text is not a domain name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// A label is empty, as in `a..b`.
    #[error("a label of the name is empty")]
    EmptyLabel,
    /// A label is longer than 63 bytes.
    #[error("a label of the name is longer than 63 bytes")]
    LabelTooLong,
    /// The name is longer than 255 bytes on the wire.
    #[error("the name is longer than 255 bytes")]
    TooLong,
    /// A character other than letters, digits, `-` and `_`, or a `-` at the edge of a label.
    #[error("the name has a character that a host name may not have")]
    BadCharacter,
}

impl Name {
    /// The root, `.`.
    #[must_use]
    pub fn root() -> Self {
        Self(Box::new([0]))
    }

    /// Reads a host name: labels of letters, digits, `-` and `_`, separated by dots; one dot at
    /// the end is allowed, and `.` alone is the root.
    ///
    /// # Errors
    /// A [`NameError`] that says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text == "." {
            return Ok(Self::root());
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        // Two bytes more on the wire than in text: the first length and the root.
        if text.len() + 2 > MAX_NAME {
            return Err(NameError::TooLong);
        }
        let mut wire = Vec::with_capacity(text.len() + 2);
        for label in text.split('.') {
            let bytes = label.as_bytes();
            if bytes.is_empty() {
                return Err(NameError::EmptyLabel);
            }
            if bytes.len() > MAX_LABEL {
                return Err(NameError::LabelTooLong);
            }
            let allowed = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            if !bytes.iter().all(allowed) || bytes.starts_with(b"-") || bytes.ends_with(b"-") {
                return Err(NameError::BadCharacter);
            }
            push_label(&mut wire, bytes);
        }
        wire.push(0);
        Ok(Self(wire.into_boxed_slice()))
    }

    /// Reads the name at `at` in a message, following compression pointers.
    ///
    /// Returns the name and the offset of the first byte after it.
    ///
    /// # Errors
    /// A [`MessageError`] when the name runs out of the message, is longer than 255 bytes, has a
    /// label type other than 00 and 11, or a pointer that does not point backward.
    pub fn read(message: &[u8], at: usize) -> Result<(Self, usize), MessageError> {
        let mut wire = Vec::new();
        let end = walk(message, at, |label| push_label(&mut wire, label))?;
        wire.push(0);
        Ok((Self(wire.into_boxed_slice()), end))
    }

    /// The wire form: length-prefixed labels in lower case, ended by the root label.
    #[must_use]
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// The labels, leftmost first, without the root.
    #[must_use]
    pub fn labels(&self) -> Labels<'_> {
        Labels { rest: &self.0 }
    }

    /// True when `self` is `ancestor` or lies below it.
    #[must_use]
    pub fn is_within(&self, ancestor: &Self) -> bool {
        let mut labels = self.labels();
        loop {
            if labels.rest.len() <= ancestor.0.len() {
                return labels.rest == &*ancestor.0;
            }
            if labels.next().is_none() {
                return false;
            }
        }
    }

    /// `self` with `parent` appended: `web` below `internal` is `web.internal`.
    ///
    /// # Errors
    /// [`NameError::TooLong`] when the two do not fit in 255 bytes together.
    pub fn below(&self, parent: &Self) -> Result<Self, NameError> {
        let own = self.0.len().saturating_sub(1);
        if own + parent.0.len() > MAX_NAME {
            return Err(NameError::TooLong);
        }
        let mut wire = self.0.get(..own).unwrap_or_default().to_vec();
        wire.extend_from_slice(&parent.0);
        Ok(Self(wire.into_boxed_slice()))
    }

    /// The name without its leftmost label; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let mut labels = self.labels();
        labels.next()?;
        Some(Self(labels.rest.into()))
    }

    /// Sort key in which a name is a prefix of all names below it: the labels, rightmost first.
    pub(crate) fn tree_key(&self) -> Vec<u8> {
        let labels: Vec<&[u8]> = self.labels().collect();
        let mut key = Vec::with_capacity(self.0.len());
        for label in labels.into_iter().rev() {
            push_label(&mut key, label);
        }
        key
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for label in self.labels() {
            for &byte in label {
                match byte {
                    b'.' | b'\\' => write!(f, "\\{}", char::from(byte))?,
                    0x21..=0x7e => write!(f, "{}", char::from(byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
            f.write_str(".")?;
        }
        if self.0.len() == 1 {
            f.write_str(".")
        } else {
            Ok(())
        }
    }
}

/// Iterator over the labels of a [`Name`].
#[derive(Debug, Clone)]
pub struct Labels<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (&length, rest) = self.rest.split_first()?;
        if length == 0 {
            return None;
        }
        let (label, rest) = rest.split_at_checked(usize::from(length))?;
        self.rest = rest;
        Some(label)
    }
}

/// Appends one label of at most 63 bytes, folded to lower case.
fn push_label(wire: &mut Vec<u8>, label: &[u8]) {
    debug_assert!(label.len() <= MAX_LABEL);
    wire.push(label.len() as u8);
    wire.extend(label.iter().map(u8::to_ascii_lowercase));
}

/// Walks the name at `at`, gives each label to `label`, returns the offset after the name.
///
/// Every pointer must point before the run of labels it ends, and the run it points to must end
/// before that one begins ("a prior occurrence", RFC 1035 section 4.1.4). So a walk visits strictly
/// decreasing runs: a loop cannot be written down, and what ends a name never stands behind it,
/// where it might be cut off. The sum of labels is held to 255 bytes, so a walk costs at most 127
/// labels whatever the message says.
pub(crate) fn walk(
    message: &[u8],
    at: usize,
    mut label: impl FnMut(&[u8]),
) -> Result<usize, MessageError> {
    let mut pos = at;
    let mut run_start = at;
    let mut readable = message;
    let mut end = None;
    let mut length = 1;
    loop {
        let cut_short = match end {
            None => MessageError::Truncated,
            Some(_) => MessageError::BadPointer,
        };
        let byte = *readable.get(pos).ok_or(cut_short)?;
        match byte >> 6 {
            0 if byte == 0 => return Ok(end.unwrap_or(pos + 1)),
            0 => {
                let next = pos + 1 + usize::from(byte);
                let text = readable.get(pos + 1..next).ok_or(cut_short)?;
                length += text.len() + 1;
                if length > MAX_NAME {
                    return Err(MessageError::NameTooLong);
                }
                label(text);
                pos = next;
            }
            3 => {
                let low = *readable.get(pos + 1).ok_or(cut_short)?;
                let target = usize::from(byte & 0x3f) << 8 | usize::from(low);
                end.get_or_insert(pos + 2);
                if target < HEADER || target >= run_start {
                    return Err(MessageError::BadPointer);
                }
                readable = readable.get(..run_start).unwrap_or_default();
                run_start = target;
                pos = target;
            }
            // 01 was the bit-string label (withdrawn), 10 was never given out.
            _ => return Err(MessageError::BadLabel),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_to_wire_and_back() {
        let name = Name::parse("Web.Internal.").unwrap();
        assert_eq!(name.as_wire(), b"\x03web\x08internal\x00");
        assert_eq!(name.to_string(), "web.internal.");
        assert_eq!(Name::parse(".").unwrap().to_string(), ".");
        assert_eq!(Name::parse("a..b"), Err(NameError::EmptyLabel));
        assert_eq!(Name::parse(""), Err(NameError::EmptyLabel));
        assert_eq!(Name::parse("-a"), Err(NameError::BadCharacter));
        assert_eq!(Name::parse("a b"), Err(NameError::BadCharacter));
        assert_eq!(Name::parse(&"a".repeat(64)), Err(NameError::LabelTooLong));
        assert!(Name::parse(&"a".repeat(63)).is_ok());
        let longest = [
            "a".repeat(63),
            "b".repeat(63),
            "c".repeat(63),
            "d".repeat(61),
        ]
        .join(".");
        assert_eq!(Name::parse(&longest).unwrap().as_wire().len(), MAX_NAME);
        assert_eq!(Name::parse(&format!("{longest}e")), Err(NameError::TooLong));
    }

    #[test]
    fn ancestry_goes_by_labels_not_by_bytes() {
        let internal = Name::parse("internal").unwrap();
        assert!(Name::parse("a.b.internal").unwrap().is_within(&internal));
        assert!(internal.is_within(&internal));
        assert!(!Name::parse("notinternal").unwrap().is_within(&internal));
        assert!(
            !Name::parse("internal.example")
                .unwrap()
                .is_within(&internal)
        );
        assert!(internal.is_within(&Name::root()));
        // The bytes of `internal` stand at the end, but inside a label.
        let tricky = Name(Box::from(&b"\x0a\x61\x08internal\x00"[..]));
        assert!(!tricky.is_within(&internal));
    }

    #[test]
    fn pointers_go_backward_only() {
        let mut message = vec![0u8; HEADER];
        message.extend_from_slice(b"\x01a\x00"); // 12
        message.extend_from_slice(b"\x01b\xc0\x0c"); // 15
        assert_eq!(
            Name::read(&message, 15).unwrap().0,
            Name::parse("b.a").unwrap()
        );
        assert_eq!(Name::read(&message, 15).unwrap().1, 19);
        // To itself, forward, into the header, and two runs that point at each other.
        for (bytes, at) in [
            (&b"\xc0\x13"[..], 19),
            (&b"\xc0\x15\x01c\x00"[..], 19),
            (&b"\xc0\x02"[..], 19),
            (&b"\x01x\xc0\x17\x01y\xc0\x13"[..], 23),
            // Backward, and on into what stands behind: a label over the pointer, one before it
            // that does not end, and half a pointer.
            (&b"\x03\xc0\x13ab\x00"[..], 20),
            (&b"\x01x\xc0\x13\x00"[..], 21),
            (&b"\xc0\xc0\x13"[..], 20),
        ] {
            let mut bad = message.clone();
            bad.extend_from_slice(bytes);
            assert_eq!(
                Name::read(&bad, at),
                Err(MessageError::BadPointer),
                "{bytes:?}"
            );
        }
        let mut bad = message.clone();
        bad.extend_from_slice(b"\x41a\x00");
        assert_eq!(Name::read(&bad, 19), Err(MessageError::BadLabel));
    }

    #[test]
    fn a_name_never_grows_past_255_bytes_through_pointers() {
        // Runs of 63 bytes, each pointing at the one before: the fifth is too long.
        let mut message = vec![0u8; HEADER];
        let mut starts = Vec::new();
        for i in 0..6usize {
            let previous = starts.last().copied();
            starts.push(message.len());
            message.push(63);
            message.extend_from_slice(&[b'a' + i as u8; 63]);
            match previous {
                None => message.push(0),
                Some(at) => message.extend_from_slice(&(0xc000 | at as u16).to_be_bytes()),
            }
        }
        assert!(Name::read(&message, starts[2]).is_ok());
        assert_eq!(
            Name::read(&message, starts[3]),
            Err(MessageError::NameTooLong)
        );
    }
}
