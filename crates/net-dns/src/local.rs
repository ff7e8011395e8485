//! The names answered here: the gateway, the guests, their addresses in reverse, and the names
//! that no resolver may pass on (RFC 6761, RFC 7686, RFC 9462).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::message::{HEADER, Question, class, flag, rcode, rtype};
use crate::name::{Name, NameError};
use crate::query::Asker;
use crate::reply;
use crate::reverse::Reverse;

/// Addresses kept per name; the rest of a longer list is ignored.
pub const MAX_ADDRESSES: usize = 16;
/// Names given for one address in reverse.
const MAX_REVERSE: usize = 8;
/// Lifetime of a negative local answer, in seconds: a guest may appear at any moment.
const NEGATIVE_TTL: u32 = 5;

/// Why a host name was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The text is not a host name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The name belongs to the gateway or to the protocol: `gateway`, `localhost`, the domain.
    #[error("the name is reserved")]
    Reserved,
    /// The table is full.
    #[error("there are too many local names")]
    Full,
}

/// A reply from local knowledge.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LocalReply {
    pub(crate) code: u16,
    /// Record type and data; the owner is the name asked for.
    answers: Vec<(u16, Vec<u8>)>,
    /// Owner of the SOA record of a negative answer.
    zone: Name,
}

impl LocalReply {
    fn no_data(zone: Name) -> Self {
        Self {
            code: rcode::NOERROR,
            answers: Vec::new(),
            zone,
        }
    }

    fn no_name(zone: Name) -> Self {
        Self {
            code: rcode::NXDOMAIN,
            answers: Vec::new(),
            zone,
        }
    }
}

#[derive(Debug)]
struct Host {
    name: Name,
    addresses: Vec<IpAddr>,
}

/// The tables of local names.
#[derive(Debug)]
pub(crate) struct LocalNames {
    domain: Option<Name>,
    prefixes: Vec<(IpAddr, u8)>,
    /// By [`Name::tree_key`], so that everything below a name is one range.
    hosts: BTreeMap<Vec<u8>, Host>,
    reverse: BTreeSet<(IpAddr, Name)>,
    max_hosts: usize,
    ttl: u32,
    forward_single_labels: bool,
    special: Vec<(Name, bool)>,
    localhost: Name,
}

impl LocalNames {
    pub(crate) fn new(
        domain: Option<Name>,
        prefixes: Vec<(IpAddr, u8)>,
        max_hosts: usize,
        ttl: u32,
        forward_single_labels: bool,
    ) -> Result<Self, NameError> {
        // Whether the name itself exists, as an empty zone.
        let special = vec![
            (Name::parse("invalid")?, false),
            (Name::parse("onion")?, false),
            // A guest that learned the upstream's encrypted service would leave this forwarder.
            (Name::parse("resolver.arpa")?, true),
        ];
        Ok(Self {
            domain,
            prefixes,
            hosts: BTreeMap::new(),
            reverse: BTreeSet::new(),
            max_hosts,
            ttl,
            forward_single_labels,
            special,
            localhost: Name::parse("localhost")?,
        })
    }

    pub(crate) fn domain(&self) -> Option<&Name> {
        self.domain.as_ref()
    }

    pub(crate) fn len(&self) -> usize {
        self.hosts.len()
    }

    /// The full name of what a user or a guest calls `text`.
    fn full_name(&self, text: &str) -> Result<Name, NameError> {
        let name = Name::parse(text)?;
        match &self.domain {
            Some(domain) if name.labels().count() == 1 && !text.ends_with('.') => {
                name.below(domain)
            }
            _ => Ok(name),
        }
    }

    pub(crate) fn set_gateway(&mut self, addresses: &[IpAddr]) -> Result<(), HostError> {
        let name = self.full_name("gateway")?;
        self.insert(name, addresses)
    }

    pub(crate) fn set_host(&mut self, text: &str, addresses: &[IpAddr]) -> Result<(), HostError> {
        let name = self.full_name(text)?;
        if self.is_reserved(&name)? {
            return Err(HostError::Reserved);
        }
        self.insert(name, addresses)
    }

    pub(crate) fn remove_host(&mut self, text: &str) -> bool {
        match self.full_name(text) {
            Ok(name) if self.is_reserved(&name) == Ok(false) => self.remove(&name),
            _ => false,
        }
    }

    fn is_reserved(&self, name: &Name) -> Result<bool, NameError> {
        let first_is_localhost = name.labels().next() == Some(b"localhost");
        let own = *name == self.full_name("gateway")?
            || Some(name) == self.domain.as_ref()
            || *name == Name::root();
        let special = self.special.iter().any(|(zone, _)| name.is_within(zone));
        Ok(own || special || first_is_localhost || name.is_within(&self.localhost))
    }

    fn insert(&mut self, name: Name, addresses: &[IpAddr]) -> Result<(), HostError> {
        let known = self.hosts.contains_key(&name.tree_key());
        if !known && self.hosts.len() >= self.max_hosts {
            return Err(HostError::Full);
        }
        self.remove(&name);
        let addresses: Vec<IpAddr> = addresses.iter().copied().take(MAX_ADDRESSES).collect();
        for &address in &addresses {
            self.reverse.insert((address, name.clone()));
        }
        self.hosts.insert(name.tree_key(), Host { name, addresses });
        Ok(())
    }

    fn remove(&mut self, name: &Name) -> bool {
        let Some(host) = self.hosts.remove(&name.tree_key()) else {
            return false;
        };
        for address in host.addresses {
            self.reverse.remove(&(address, host.name.clone()));
        }
        true
    }

    /// The local answer to a question, or `None` when it is a matter for upstream.
    ///
    /// `split` is the suffix with servers of its own that the name lies in, if any.
    pub(crate) fn answer(&self, question: &Question, split: Option<&Name>) -> Option<LocalReply> {
        if !matches!(question.qclass, class::IN | class::ANY) {
            return None;
        }
        // Servers for everything say nothing about this name.
        let split = split.filter(|split| split.labels().next().is_some());
        let name = &question.name;
        if let Some(reverse) = Reverse::parse(name)
            && let Some(reply) = self.answer_reverse(question, reverse)
        {
            return Some(reply);
        }
        if name.is_within(&self.localhost) {
            let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            return Some(self.of_addresses(&loopback, question.qtype, &self.localhost));
        }
        if let Some((zone, exists)) = self.special.iter().find(|(zone, _)| name.is_within(zone)) {
            return Some(match exists {
                true => LocalReply::no_data(zone.clone()),
                false => LocalReply::no_name(zone.clone()),
            });
        }
        if let Some(host) = self.hosts.get(&name.tree_key()) {
            let zone = self.domain.as_ref().filter(|domain| name.is_within(domain));
            return Some(self.of_addresses(&host.addresses, question.qtype, zone.unwrap_or(name)));
        }
        if let Some(domain) = self.domain.as_ref().filter(|domain| name.is_within(domain))
            && !split.is_some_and(|split| split != domain && split.is_within(domain))
        {
            return Some(self.answer_in_domain(question, domain));
        }
        if name.labels().count() == 1 && split.is_none() {
            return self.answer_bare(question);
        }
        None
    }

    fn answer_in_domain(&self, question: &Question, domain: &Name) -> LocalReply {
        if question.name == *domain {
            let mut reply = LocalReply::no_data(domain.clone());
            if matches!(question.qtype, rtype::SOA | rtype::ANY) {
                reply.answers.push((rtype::SOA, soa_data(domain)));
            }
            return reply;
        }
        // A name with names below it exists, even if it has no records (RFC 8020).
        let key = question.name.tree_key();
        let below = self.hosts.range(key.clone()..).next();
        match below {
            Some((other, _)) if other.starts_with(&key) => LocalReply::no_data(domain.clone()),
            _ => LocalReply::no_name(domain.clone()),
        }
    }

    /// A single label: a guest by its short name, or nothing that may leave the network.
    fn answer_bare(&self, question: &Question) -> Option<LocalReply> {
        if let Some(domain) = &self.domain
            && let Ok(full) = question.name.below(domain)
            && let Some(host) = self.hosts.get(&full.tree_key())
        {
            // The zone of a bare name is the root; any other SOA owner would not contain it.
            return Some(self.of_addresses(&host.addresses, question.qtype, &Name::root()));
        }
        let address = matches!(question.qtype, rtype::A | rtype::AAAA);
        // Not NXDOMAIN: the label may be a top-level domain, and names below it exist.
        (address && !self.forward_single_labels).then(|| LocalReply::no_data(Name::root()))
    }

    fn answer_reverse(&self, question: &Question, reverse: Reverse) -> Option<LocalReply> {
        let zone = || question.name.parent().unwrap_or_else(Name::root);
        if let Some(address) = reverse.exact() {
            let names = self.reverse.range((address, Name::root())..);
            let names = names
                .take_while(|(other, _)| *other == address)
                .take(MAX_REVERSE);
            let names: Vec<_> = names
                .map(|(_, n)| (rtype::PTR, n.as_wire().to_vec()))
                .collect();
            if !names.is_empty() {
                let mut reply = LocalReply::no_data(zone());
                if matches!(question.qtype, rtype::PTR | rtype::ANY) {
                    reply.answers = names;
                }
                return Some(reply);
            }
        }
        let local = self.prefixes.iter().any(|&prefix| reverse.is_in(prefix));
        let between = !reverse.extra && reverse.exact().is_none();
        local.then(|| match between {
            true => LocalReply::no_data(zone()),
            false => LocalReply::no_name(zone()),
        })
    }

    fn of_addresses(&self, addresses: &[IpAddr], qtype: u16, zone: &Name) -> LocalReply {
        let wanted = |rtype| qtype == rtype || qtype == rtype::ANY;
        let mut reply = LocalReply::no_data(zone.clone());
        for address in addresses {
            match address {
                IpAddr::V4(a) if wanted(rtype::A) => {
                    reply.answers.push((rtype::A, a.octets().to_vec()));
                }
                IpAddr::V6(a) if wanted(rtype::AAAA) => {
                    reply.answers.push((rtype::AAAA, a.octets().to_vec()));
                }
                _ => {}
            }
        }
        reply
    }

    /// The message of a local reply: authoritative, with a SOA record when it is negative so that
    /// the client may remember that for a moment (RFC 2308 section 3).
    pub(crate) fn message(&self, local: &LocalReply, asker: &Asker) -> Vec<u8> {
        let plain = Asker {
            edns: None,
            ..asker.clone()
        };
        let mut message = reply::empty(&plain, flag::AA, local.code);
        for (rtype, data) in &local.answers {
            // The owner is the name of the question, at offset 12.
            message.extend_from_slice(&[0xc0, HEADER as u8]);
            push_record(&mut message, *rtype, self.ttl, data);
        }
        reply::set_count(&mut message, 1, local.answers.len() as u16);
        if local.answers.is_empty() {
            message.extend_from_slice(local.zone.as_wire());
            push_record(
                &mut message,
                rtype::SOA,
                NEGATIVE_TTL,
                &soa_data(&local.zone),
            );
            reply::set_count(&mut message, 2, 1);
        }
        reply::add_opt(&mut message, asker.edns, local.code);
        message
    }
}

fn push_record(message: &mut Vec<u8>, rtype: u16, ttl: u32, data: &[u8]) {
    message.extend_from_slice(&rtype.to_be_bytes());
    message.extend_from_slice(&class::IN.to_be_bytes());
    message.extend_from_slice(&ttl.to_be_bytes());
    message.extend_from_slice(&(data.len() as u16).to_be_bytes());
    message.extend_from_slice(data);
}

/// SOA data of a local zone: primary server, mailbox, and five numbers of which only the last,
/// the lifetime of negative answers, means anything here.
fn soa_data(zone: &Name) -> Vec<u8> {
    let mut data = zone.as_wire().to_vec();
    data.extend_from_slice(b"\x06nobody\x07invalid\x00");
    for number in [1, 3600, 600, 86_400, NEGATIVE_TTL] {
        data.extend_from_slice(&number.to_be_bytes());
    }
    data
}
