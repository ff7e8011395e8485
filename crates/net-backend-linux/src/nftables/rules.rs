//! The words that rules are made of.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;
use nftables::expr::{
    CT, CTDir, Expression, Fib, FibFlag, FibResult, Meta, MetaKey, NamedExpression, Payload,
    PayloadField, Prefix, SetItem,
};
use nftables::schema::{Chain, NfListObject, Rule, Table};
use nftables::stmt::{self, JumpTarget, Match, NAT, NATFamily, Operator, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};

use super::PREFIX;

/// A statement that borrows nothing.
pub(super) type Word = Statement<'static>;

/// The table of a network.
pub(super) fn table(family: NfFamily, network: &str) -> Table<'static> {
    Table {
        family,
        name: name(network),
        handle: None,
    }
}

fn name(network: &str) -> Cow<'static, str> {
    format!("{PREFIX}{network}").into()
}

/// A chain that packets enter at a hook; what it does not decide passes.
pub(super) fn base_chain(
    family: NfFamily,
    network: &str,
    chain: &'static str,
    (kind, hook, priority): (NfChainType, NfHook, i32),
) -> NfListObject<'static> {
    NfListObject::Chain(Chain {
        family,
        table: name(network),
        name: chain.into(),
        _type: Some(kind),
        hook: Some(hook),
        prio: Some(priority),
        policy: Some(NfChainPolicy::Accept),
        ..Chain::default()
    })
}

/// A chain that others lead to.
pub(super) fn chain(network: &str, chain: &'static str) -> NfListObject<'static> {
    NfListObject::Chain(Chain {
        family: NfFamily::INet,
        table: name(network),
        name: chain.into(),
        ..Chain::default()
    })
}

/// A rule at the end of a chain.
pub(super) fn rule(
    family: NfFamily,
    network: &str,
    chain: &'static str,
    words: Vec<Word>,
) -> NfListObject<'static> {
    NfListObject::Rule(Rule {
        family,
        table: name(network),
        chain: chain.into(),
        expr: words.into(),
        ..Rule::default()
    })
}

fn named(expression: NamedExpression<'static>) -> Expression<'static> {
    Expression::Named(expression)
}

fn text(text: &str) -> Expression<'static> {
    Expression::String(text.to_owned().into())
}

fn field(protocol: &'static str, field: &'static str) -> Expression<'static> {
    named(NamedExpression::Payload(Payload::PayloadField(
        PayloadField {
            protocol: protocol.into(),
            field: field.into(),
        },
    )))
}

fn compare(left: Expression<'static>, op: Operator, right: Expression<'static>) -> Word {
    Statement::Match(Match { left, right, op })
}

fn meta(key: MetaKey, op: Operator, interface: &str) -> Word {
    compare(
        named(NamedExpression::Meta(Meta { key })),
        op,
        text(interface),
    )
}

/// The packet came in by this interface.
pub(super) fn from_interface(name: &str) -> Word {
    meta(MetaKey::Iifname, Operator::EQ, name)
}

/// The packet leaves by this interface.
pub(super) fn to_interface(name: &str) -> Word {
    meta(MetaKey::Oifname, Operator::EQ, name)
}

/// The packet leaves by another interface.
pub(super) fn to_others_than(name: &str) -> Word {
    meta(MetaKey::Oifname, Operator::NEQ, name)
}

/// The frame came in by one of these interfaces; there has to be one.
pub(super) fn from_one_of(names: &[String]) -> Word {
    one_of(MetaKey::Iifname, names)
}

/// The frame leaves by one of these interfaces; there has to be one.
pub(super) fn to_one_of(names: &[String]) -> Word {
    one_of(MetaKey::Oifname, names)
}

fn one_of(key: MetaKey, names: &[String]) -> Word {
    let items = names.iter().map(|name| SetItem::Element(text(name)));
    let left = named(NamedExpression::Meta(Meta { key }));
    compare(
        left,
        Operator::EQ,
        named(NamedExpression::Set(items.collect())),
    )
}

/// The source (`saddr`) or destination (`daddr`) is in a network.
pub(super) fn address_in(direction: &'static str, network: IpNetwork) -> Word {
    compare(
        field(family_name(network.ip()), direction),
        Operator::EQ,
        prefix(network),
    )
}

/// The source or destination is outside of a network.
pub(super) fn address_outside(direction: &'static str, network: IpNetwork) -> Word {
    compare(
        field(family_name(network.ip()), direction),
        Operator::NEQ,
        prefix(network),
    )
}

fn prefix(network: IpNetwork) -> Expression<'static> {
    named(NamedExpression::Prefix(Prefix {
        addr: Box::new(text(&network.network().to_string())),
        len: network.prefix().into(),
    }))
}

/// The destination is this address.
pub(super) fn to_address(ip: IpAddr) -> Word {
    compare(
        field(family_name(ip), "daddr"),
        Operator::EQ,
        text(&ip.to_string()),
    )
}

/// The packet is of the family of `ip`.
pub(super) fn family_of(ip: IpAddr) -> Word {
    let family = if ip.is_ipv4() { "ipv4" } else { "ipv6" };
    meta(MetaKey::Nfproto, Operator::EQ, family)
}

/// The destination is one of the host's own addresses.
pub(super) fn to_this_host() -> Word {
    let fib = NamedExpression::Fib(Fib {
        result: FibResult::Type,
        flags: [FibFlag::Daddr].into(),
    });
    compare(named(fib), Operator::EQ, text("local"))
}

/// The destination port, of TCP or UDP.
pub(super) fn to_port(protocol: &'static str, port: u16) -> Word {
    compare(
        field(protocol, "dport"),
        Operator::EQ,
        Expression::Number(port.into()),
    )
}

fn tracked(key: &'static str, values: &[&'static str]) -> Word {
    let ct = NamedExpression::CT(CT {
        key: key.into(),
        family: None,
        dir: None::<CTDir>,
    });
    let values = values.iter().map(|value| text(value)).collect();
    compare(named(ct), Operator::IN, Expression::List(values))
}

/// The connection is one that was let through before, or belongs to one.
pub(super) fn established() -> Word {
    tracked("state", &["established", "related"])
}

/// The packet belongs to no connection that could be.
pub(super) fn invalid() -> Word {
    tracked("state", &["invalid"])
}

/// The connection was led to another destination: it came by a published port.
pub(super) fn redirected() -> Word {
    tracked("status", &["dnat"])
}

/// The destination's hardware address is one of a group, or of everybody.
pub(super) fn to_group() -> Word {
    compare(
        Expression::BinaryOperation(Box::new(nftables::expr::BinaryOperation::AND(
            field("ether", "daddr"),
            text("01:00:00:00:00:00"),
        ))),
        Operator::EQ,
        text("01:00:00:00:00:00"),
    )
}

/// The source (`saddr`) or destination (`daddr`) hardware address.
pub(super) fn ether(direction: &'static str, mac: net_wire::MacAddr) -> Word {
    compare(
        field("ether", direction),
        Operator::EQ,
        text(&mac.to_string()),
    )
}

/// Lets the packet pass this table.
pub(super) const ACCEPT: Word = Statement::Accept(None);
/// Ends the packet.
pub(super) const DROP: Word = Statement::Drop(None);
/// Gives the packet the address of the interface it leaves by.
pub(super) const MASQUERADE: Word = Statement::Masquerade(None);

/// Goes on in another chain and does not return.
pub(super) fn goto(chain: &'static str) -> Word {
    Statement::Goto(JumpTarget {
        target: chain.into(),
    })
}

/// Leads the connection to a guest.
pub(super) fn redirect(guest: SocketAddr) -> Word {
    stmt::Statement::DNAT(Some(NAT {
        addr: Some(text(&guest.ip().to_string())),
        family: Some(if guest.is_ipv4() {
            NATFamily::IP
        } else {
            NATFamily::IP6
        }),
        port: Some(Expression::Number(guest.port().into())),
        flags: None,
    }))
}

fn family_name(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "ip" } else { "ip6" }
}
