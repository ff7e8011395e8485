//! Names of guests: what a guest calls itself becomes a DNS name only if nobody else has it.

use core::net::Ipv4Addr;
use std::collections::BTreeMap;

/// Whether `name` may be a domain: labels of letters, digits and inner hyphens (RFC 1123, 2.1).
pub(crate) fn is_domain(name: &str) -> bool {
    !name.is_empty() && name.len() <= 200 && name.split('.').all(is_label)
}

/// Whether `label` is one label of a host name.
pub(crate) fn is_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || *b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Which name is whose: first come, first served.
#[derive(Debug, Default)]
pub(crate) struct Names {
    owners: BTreeMap<String, Ipv4Addr>,
}

impl Names {
    /// Gives `label` to `ip`; returns it in lower case, or `None` where it is no label or belongs to
    /// somebody else (`gateway` always does).
    pub(crate) fn claim(&mut self, label: &str, ip: Ipv4Addr) -> Option<String> {
        let label = label.to_ascii_lowercase();
        if !is_label(&label) || label == "gateway" {
            return None;
        }
        let owner = *self.owners.entry(label.clone()).or_insert(ip);
        (owner == ip).then_some(label)
    }

    /// The names of `ip`.
    pub(crate) fn of(&self, ip: Ipv4Addr) -> Vec<String> {
        let own = self.owners.iter().filter(|(_, owner)| **owner == ip);
        own.map(|(label, _)| label.clone()).collect()
    }

    /// Takes `label` from `ip`; says whether it had it.
    pub(crate) fn release(&mut self, label: &str, ip: Ipv4Addr) -> bool {
        let label = label.to_ascii_lowercase();
        self.owners.get(&label) == Some(&ip) && self.owners.remove(&label).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);

    #[test]
    fn a_name_has_one_owner() {
        let mut names = Names::default();
        assert_eq!(names.claim("Web", A).as_deref(), Some("web"));
        assert_eq!(names.claim("web", A).as_deref(), Some("web"));
        assert_eq!(names.claim("web", B), None);
        assert_eq!(names.claim("gateway", B), None);
        assert!(!names.release("web", B));
        assert!(names.release("WEB", A));
        assert_eq!(names.claim("web", B).as_deref(), Some("web"));
        for bad in ["", "-a", "a-", "a.b", "a b", "\u{e4}", &"x".repeat(64)] {
            assert_eq!(names.claim(bad, A), None, "{bad}");
        }
    }
}
