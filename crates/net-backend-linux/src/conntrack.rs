//! Connections that the kernel tracks, forgotten on demand (ctnetlink, `linux/netfilter/
//! nfnetlink_conntrack.h`).
//!
//! A rule of DNAT is asked for a connection's first packet alone. A rule that is taken away
//! therefore leaves the connections that it has let in; they end here.

use std::net::{IpAddr, SocketAddr};

use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol as Number, Status, Tuple,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{Socket, SocketAddr as NetlinkAddress};

use crate::Result;
use crate::error::Context;
use crate::nftables::{Forward, Protocol};

/// The attribute of an entry's number (`CTA_ID`), which keeps a younger connection with the same
/// addresses from being taken for it.
const CTA_ID: u16 = 12;

/// Room for what the kernel sends at once: 32 KiB at most (`netlink_dump`).
const MAX_DATAGRAM: usize = 64 << 10;

/// Has the kernel forget every connection of the current network namespace that came in by
/// `forward`, and says how many there were. Its packets are then those of a new connection: none of
/// the guest's, once the rule is gone.
///
/// A connection is one of `forward` if it was to the published address and port, was translated,
/// and leads to the forward's guest: others that only look like it are left alone.
///
/// # Errors
/// [`LinuxError::Host`](crate::LinuxError::Host): no CAP_NET_ADMIN (EPERM), a kernel without ctnetlink (EINVAL or
/// EPROTONOSUPPORT).
pub fn forget(forward: &Forward) -> Result<usize> {
    let what = || format!("list the connections to {}", forward.bind);
    let family = match forward.bind {
        SocketAddr::V4(_) => NetfilterProtoFamily::IPv4,
        SocketAddr::V6(_) => NetfilterProtoFamily::IPv6,
    };
    let mut socket = Socket::new(NETLINK_NETFILTER).context("open a netlink socket")?;
    socket.bind_auto().context("bind a netlink socket")?;
    let kernel = NetlinkAddress::new(0, 0);
    socket.connect(&kernel).context("connect to the kernel")?;

    ask(
        &socket,
        family,
        ConntrackMessage::Get(Vec::new()),
        NLM_F_DUMP,
    )
    .context(what())?;
    let mut doomed = Vec::new();
    replies(&socket, |entry| doomed.extend(keys(&entry, forward))).context(what())?;
    let mut forgotten = 0;
    for key in doomed {
        ask(&socket, family, ConntrackMessage::Delete(key), NLM_F_ACK)
            .and_then(|()| replies(&socket, drop))
            .map(|()| forgotten += 1)
            // It has ended by itself in the meantime.
            .or_else(|error| match error.raw_os_error() {
                Some(libc::ENOENT) => Ok(()),
                _ => Err(error),
            })
            .context(format!("end a connection to {}", forward.bind))?;
    }
    Ok(forgotten)
}

/// What names an entry for its deletion, if it is a connection of the forward.
fn keys(entry: &[ConntrackAttribute], forward: &Forward) -> Option<Vec<ConntrackAttribute>> {
    let (mut original, mut reply, mut status, mut number) = (None, None, Status::empty(), None);
    for attribute in entry {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(tuple) => original = Some(tuple),
            ConntrackAttribute::CtaTupleReply(tuple) => reply = Some(tuple),
            ConntrackAttribute::CtaStatus(is) => status = *is,
            ConntrackAttribute::Other(other) if nla_kind(other) == CTA_ID => {
                number = Some(attribute);
            }
            _ => {}
        }
    }
    let (to, from) = (End::destination(original?)?, End::source(reply?)?);
    let protocol = match forward.protocol {
        Protocol::Tcp => Number::Tcp,
        Protocol::Udp => Number::Udp,
    };
    let published = forward.bind.ip().is_unspecified() || forward.bind.ip() == to.address.ip();
    let is_it = status.contains(Status::DstNat)
        && to.protocol == protocol
        && to.address.port() == forward.bind.port()
        && published
        && from.address == forward.guest;
    let tuple = ConntrackAttribute::CtaTupleOrig(original?.clone());
    is_it.then(|| {
        [Some(tuple), number.cloned()]
            .into_iter()
            .flatten()
            .collect()
    })
}

/// One end of a connection.
struct End {
    protocol: Number,
    address: SocketAddr,
}

impl End {
    fn destination(tuple: &[Tuple]) -> Option<Self> {
        Self::find(
            tuple,
            |ip| match ip {
                IPTuple::DestinationAddress(ip) => Some(*ip),
                _ => None,
            },
            |part| match part {
                ProtoTuple::DestinationPort(port) => Some(*port),
                _ => None,
            },
        )
    }

    fn source(tuple: &[Tuple]) -> Option<Self> {
        Self::find(
            tuple,
            |ip| match ip {
                IPTuple::SourceAddress(ip) => Some(*ip),
                _ => None,
            },
            |part| match part {
                ProtoTuple::SourcePort(port) => Some(*port),
                _ => None,
            },
        )
    }

    fn find(
        tuple: &[Tuple],
        ip: impl Fn(&IPTuple) -> Option<IpAddr>,
        port: impl Fn(&ProtoTuple) -> Option<u16>,
    ) -> Option<Self> {
        let ips = tuple.iter().find_map(|part| match part {
            Tuple::Ip(parts) => parts.iter().find_map(&ip),
            _ => None,
        })?;
        let parts = tuple.iter().find_map(|part| match part {
            Tuple::Proto(parts) => Some(parts),
            _ => None,
        })?;
        let protocol = parts.iter().find_map(|part| match part {
            ProtoTuple::Protocol(protocol) => Some(*protocol),
            _ => None,
        })?;
        let address = SocketAddr::new(ips, parts.iter().find_map(port)?);
        Some(Self { protocol, address })
    }
}

fn nla_kind(attribute: &impl rtnetlink::packet_core::Nla) -> u16 {
    attribute.kind()
}

fn ask(
    socket: &Socket,
    family: NetfilterProtoFamily,
    message: ConntrackMessage,
    flags: u16,
) -> std::io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let message = NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message);
    let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    socket.send(&bytes, 0).map(drop)
}

/// Hands every entry of an answer on, until the kernel says that this was all.
fn replies(socket: &Socket, mut entry: impl FnMut(Vec<ConntrackAttribute>)) -> std::io::Result<()> {
    let mut datagram = Vec::with_capacity(MAX_DATAGRAM);
    loop {
        datagram.clear();
        socket.recv(&mut datagram, 0)?;
        let mut rest = &datagram[..];
        while !rest.is_empty() {
            let message = NetlinkMessage::<NetfilterMessage>::deserialize(rest)
                .map_err(|error| std::io::Error::other(error.to_string()))?;
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) => {
                    return match error.code {
                        None => Ok(()),
                        Some(_) => Err(error.to_io()),
                    };
                }
                NetlinkPayload::InnerMessage(NetfilterMessage {
                    inner: NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)),
                    ..
                }) => entry(attributes),
                _ => {}
            }
            // Messages begin at multiples of four (`NLMSG_ALIGN`); the last may end before one.
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length.max(4)..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(bind: &str) -> Forward {
        Forward {
            protocol: Protocol::Tcp,
            bind: bind.parse().unwrap(),
            guest: "10.7.0.3:80".parse().unwrap(),
        }
    }

    fn tuple(from: &str, to: &str, protocol: Number) -> Vec<Tuple> {
        let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
        vec![
            Tuple::Ip(vec![
                IPTuple::SourceAddress(from.ip()),
                IPTuple::DestinationAddress(to.ip()),
            ]),
            Tuple::Proto(vec![
                ProtoTuple::Protocol(protocol),
                ProtoTuple::SourcePort(from.port()),
                ProtoTuple::DestinationPort(to.port()),
            ]),
        ]
    }

    fn entry(to: &str, guest: &str, protocol: Number, status: Status) -> Vec<ConntrackAttribute> {
        let client = "198.51.100.1:5000";
        vec![
            ConntrackAttribute::CtaTupleOrig(tuple(client, to, protocol)),
            ConntrackAttribute::CtaTupleReply(tuple(guest, client, protocol)),
            ConntrackAttribute::CtaStatus(status),
        ]
    }

    #[test]
    fn a_connection_of_the_forward_is_known_and_no_other() {
        let nat = Status::DstNat | Status::Confirmed;
        let (host, guest) = ("198.51.100.2:8080", "10.7.0.3:80");
        for bind in [host, "0.0.0.0:8080"] {
            let is_it = |entry: &[ConntrackAttribute]| keys(entry, &forward(bind)).is_some();
            let mut good = entry(host, guest, Number::Tcp, nat);
            assert!(is_it(&good), "{bind}");
            assert!(!is_it(&entry("198.51.100.2:8081", guest, Number::Tcp, nat)));
            assert!(!is_it(&entry(host, "10.7.0.4:80", Number::Tcp, nat)));
            assert!(!is_it(&entry(host, "10.7.0.3:81", Number::Tcp, nat)));
            assert!(!is_it(&entry(host, guest, Number::Udp, nat)));
            assert!(!is_it(&entry(host, guest, Number::Tcp, Status::SrcNat)));
            good.remove(1);
            assert!(!is_it(&good));
        }
        let other = entry("198.51.100.9:8080", guest, Number::Tcp, nat);
        assert!(keys(&other, &forward(host)).is_none());
        assert!(keys(&other, &forward("0.0.0.0:8080")).is_some());
    }
}
