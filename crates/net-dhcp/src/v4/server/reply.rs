//! What a reply says, and where it goes.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Reply, ReplyDst, Server};
use crate::v4::codec::{
    Header, Message, MessageType, Op, Route, Writer, encode_routes, names, option,
};
use crate::v4::{CLIENT_PORT, SERVER_PORT};

/// IP and UDP headers, which option 57 and the MTU include.
const IP_UDP: u16 = 28;
/// RFC 2132 section 9.10: the least a client may announce, and what it takes without announcing.
const MIN_MAX_SIZE: u16 = 576;
const DEFAULT_MTU: u16 = 1500;
/// RFC 8925 section 3.4: the least a server may announce.
const MIN_V6ONLY_WAIT: Duration = Duration::from_secs(300);

/// What a client gets that asks for nothing in particular.
const DEFAULT_LIST: [u8; 8] = [
    option::SUBNET_MASK,
    option::ROUTER,
    option::DNS,
    option::DOMAIN,
    option::MTU,
    option::BROADCAST,
    option::RENEWAL_TIME,
    option::REBINDING_TIME,
];

impl Server {
    /// OFFER or ACK. Without `lease` it answers INFORM: no address, no times.
    pub(super) fn reply(
        &mut self,
        kind: MessageType,
        msg: &Message<'_>,
        src_mac: [u8; 6],
        lease: Option<(Ipv4Addr, Duration)>,
        hostname: Option<&str>,
    ) -> Reply {
        let mut header = answer(msg);
        if kind == MessageType::Ack {
            header.ciaddr = msg.header.ciaddr;
        }
        if let Some((ip, _)) = lease {
            header.yiaddr = ip;
        }
        let mut w = Writer::new(&header, self.limit(msg));
        w.option(option::MESSAGE_TYPE, &[kind as u8]);
        w.option(option::SERVER_ID, &self.config.server_ip.octets());
        let time = lease.map(|(_, time)| time);
        if let Some(time) = time {
            w.option(option::LEASE_TIME, &secs(time));
        }
        let relay_info = echo(&mut w, msg);
        let list = msg
            .options
            .get(option::PARAMETER_LIST)
            .unwrap_or(&DEFAULT_LIST);
        for code in in_order(list) {
            if let Some(value) = self.value(code, time, hostname)
                && !w.option(code, &value)
            {
                self.stats.options_left_out += 1;
            }
        }
        let (dst, dst_port) = destination(msg, &header, src_mac);
        Reply {
            payload: w.finish(relay_info),
            dst,
            dst_port,
        }
    }

    /// NAK, with the reason as text (option 56).
    pub(super) fn nak(&mut self, msg: &Message<'_>, src_mac: [u8; 6], why: &str) -> Reply {
        let mut header = answer(msg);
        let (dst, dst_port) = if msg.header.giaddr.is_unspecified() {
            // The client's address may be wrong, so it cannot be the destination.
            (ReplyDst::Broadcast, CLIENT_PORT)
        } else {
            // RFC 2131 section 4.3.2: the relay is to broadcast it.
            header.set_broadcast(true);
            destination(msg, &header, src_mac)
        };
        let mut w = Writer::new(&header, self.limit(msg));
        w.option(option::MESSAGE_TYPE, &[MessageType::Nak as u8]);
        w.option(option::SERVER_ID, &self.config.server_ip.octets());
        let relay_info = echo(&mut w, msg);
        w.option(option::MESSAGE, why.as_bytes());
        Reply {
            payload: w.finish(relay_info),
            dst,
            dst_port,
        }
    }

    /// The largest reply this client takes and this network carries in one packet.
    fn limit(&self, msg: &Message<'_>) -> usize {
        let client = msg
            .options
            .u16(option::MAX_SIZE)
            .unwrap_or(MIN_MAX_SIZE)
            .max(MIN_MAX_SIZE);
        let mtu = self.config.mtu.unwrap_or(DEFAULT_MTU).max(MIN_MAX_SIZE);
        usize::from(client.min(mtu) - IP_UDP)
    }

    /// The value of an option, if the server has one.
    fn value(&self, code: u8, lease: Option<Duration>, hostname: Option<&str>) -> Option<Vec<u8>> {
        let config = &self.config;
        match code {
            option::SUBNET_MASK => Some(self.subnet.mask().octets().to_vec()),
            option::ROUTER => config.router.map(|ip| ip.octets().to_vec()),
            option::DNS => addrs(&config.dns),
            option::NTP => addrs(&config.ntp),
            option::HOST_NAME => hostname.map(|name| name.as_bytes().to_vec()),
            option::DOMAIN => config.domain.as_ref().map(|name| name.as_bytes().to_vec()),
            option::SEARCH => {
                let value = names::encode_search(&config.search);
                (!value.is_empty()).then_some(value)
            }
            option::MTU => config.mtu.map(|mtu| mtu.to_be_bytes().to_vec()),
            option::BROADCAST => Some(self.subnet.broadcast().octets().to_vec()),
            // The fractions of RFC 2131 section 4.4.5.
            option::RENEWAL_TIME => lease.map(|time| secs(time / 2).to_vec()),
            option::REBINDING_TIME => lease.map(|time| secs(time / 8 * 7).to_vec()),
            option::CLASSLESS_ROUTES | option::CLASSLESS_ROUTES_MS => self.routes(),
            option::V6ONLY => {
                lease?;
                config
                    .v6only_wait
                    .map(|wait| secs(wait.max(MIN_V6ONLY_WAIT)).to_vec())
            }
            _ => None,
        }
    }

    fn routes(&self) -> Option<Vec<u8>> {
        let mut routes = self.config.routes.clone();
        if routes.is_empty() {
            return None;
        }
        if let Some(gateway) = self.config.router
            && !routes.iter().any(|route| route.prefix_len == 0)
        {
            routes.push(Route {
                destination: Ipv4Addr::UNSPECIFIED,
                prefix_len: 0,
                gateway,
            });
        }
        Some(encode_routes(&routes))
    }
}

/// What a reply repeats of its request (RFC 2131 table 3).
fn answer(msg: &Message<'_>) -> Header {
    let mut header = Header::new(Op::Reply, msg.header.xid, msg.header.chaddr);
    header.flags = msg.header.flags;
    header.giaddr = msg.header.giaddr;
    header
}

/// Echoes the client identifier (RFC 6842) and keeps room for the relay's option, which comes
/// last (RFC 3046 section 2.1) and is left out when there is no room for it.
fn echo<'a>(w: &mut Writer, msg: &'a Message<'_>) -> Option<(u8, &'a [u8])> {
    if let Some(id) = msg.options.get(option::CLIENT_ID) {
        w.option(option::CLIENT_ID, id);
    }
    let info = msg.options.get(option::RELAY_INFO)?;
    w.reserve(info).then_some((option::RELAY_INFO, info))
}

/// The codes of a parameter request list, each once, in the client's order but with the mask
/// before the router (RFC 2132 section 3.3).
fn in_order(list: &[u8]) -> Vec<u8> {
    let mut codes: Vec<u8> = Vec::new();
    let mut seen = [false; 256];
    for &code in list.iter() {
        let first = code == option::ROUTER && list.contains(&option::SUBNET_MASK);
        for code in first
            .then_some(option::SUBNET_MASK)
            .into_iter()
            .chain([code])
        {
            if let Some(seen) = seen.get_mut(usize::from(code))
                && !std::mem::replace(seen, true)
            {
                codes.push(code);
            }
        }
    }
    codes
}

/// RFC 2131 section 4.1.
fn destination(msg: &Message<'_>, reply: &Header, src_mac: [u8; 6]) -> (ReplyDst, u16) {
    let request = &msg.header;
    let unicast = |ip, mac| ReplyDst::Unicast { ip, mac };
    if !request.giaddr.is_unspecified() {
        (unicast(request.giaddr, src_mac), SERVER_PORT)
    } else if !request.ciaddr.is_unspecified() && reply.ciaddr == request.ciaddr {
        (unicast(request.ciaddr, request.chaddr), CLIENT_PORT)
    } else if request.broadcast() || reply.yiaddr.is_unspecified() {
        (ReplyDst::Broadcast, CLIENT_PORT)
    } else {
        (unicast(reply.yiaddr, request.chaddr), CLIENT_PORT)
    }
}

fn addrs(list: &[Ipv4Addr]) -> Option<Vec<u8>> {
    (!list.is_empty()).then(|| list.iter().flat_map(Ipv4Addr::octets).collect())
}

fn secs(time: Duration) -> [u8; 4] {
    u32::try_from(time.as_secs())
        .unwrap_or(u32::MAX)
        .to_be_bytes()
}
