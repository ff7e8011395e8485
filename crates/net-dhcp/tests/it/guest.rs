//! A guest that writes any message it likes, and reads what comes back.

use std::net::Ipv4Addr;
use std::time::Duration;

use net_dhcp::v4::codec::{Header, Message, MessageType, Op, Options, Writer, option};
use net_dhcp::{Reply, Server, ServerConfig};

pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Every option the server knows a value for.
pub(crate) const ALL: [u8; 14] = [1, 3, 6, 12, 15, 26, 28, 42, 58, 59, 108, 119, 121, 249];

pub(crate) fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

pub(crate) fn mac(n: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, n]
}

pub(crate) fn at(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) fn server_with(change: impl FnOnce(&mut ServerConfig)) -> Server {
    let mut config = ServerConfig::new(SERVER, 24);
    change(&mut config);
    Server::new(config).unwrap()
}

pub(crate) fn server() -> Server {
    server_with(|_| {})
}

/// One message, built field by field.
#[derive(Clone)]
pub(crate) struct Msg {
    pub(crate) header: Header,
    pub(crate) options: Vec<(u8, Vec<u8>)>,
    pub(crate) src_mac: [u8; 6],
}

impl Msg {
    pub(crate) fn new(kind: MessageType, mac: [u8; 6]) -> Self {
        let header = Header::new(Op::Request, 0xdead_beef, mac);
        Self {
            header,
            options: vec![(option::MESSAGE_TYPE, vec![kind as u8])],
            src_mac: mac,
        }
    }

    pub(crate) fn discover(n: u8) -> Self {
        Self::new(MessageType::Discover, mac(n))
    }

    /// REQUEST in state SELECTING.
    pub(crate) fn select(n: u8, ip: Ipv4Addr) -> Self {
        Self::new(MessageType::Request, mac(n))
            .wants(ip)
            .naming(SERVER)
    }

    /// REQUEST in state INIT-REBOOT.
    pub(crate) fn reboot(n: u8, ip: Ipv4Addr) -> Self {
        Self::new(MessageType::Request, mac(n)).wants(ip)
    }

    /// REQUEST in state RENEWING or REBINDING.
    pub(crate) fn renew(n: u8, ip: Ipv4Addr) -> Self {
        Self::new(MessageType::Request, mac(n)).ciaddr(ip)
    }

    pub(crate) fn release(n: u8, ip: Ipv4Addr) -> Self {
        Self::new(MessageType::Release, mac(n))
            .ciaddr(ip)
            .naming(SERVER)
    }

    pub(crate) fn decline(n: u8, ip: Ipv4Addr) -> Self {
        Self::new(MessageType::Decline, mac(n))
            .wants(ip)
            .naming(SERVER)
    }

    pub(crate) fn inform(n: u8, ip: Ipv4Addr) -> Self {
        Self::new(MessageType::Inform, mac(n)).ciaddr(ip)
    }

    pub(crate) fn opt(mut self, code: u8, value: &[u8]) -> Self {
        self.options.push((code, value.to_vec()));
        self
    }

    pub(crate) fn wants(self, ip: Ipv4Addr) -> Self {
        self.opt(option::REQUESTED_IP, &ip.octets())
    }

    pub(crate) fn naming(self, ip: Ipv4Addr) -> Self {
        self.opt(option::SERVER_ID, &ip.octets())
    }

    pub(crate) fn id(self, id: &[u8]) -> Self {
        self.opt(option::CLIENT_ID, id)
    }

    pub(crate) fn name(self, name: &str) -> Self {
        self.opt(option::HOST_NAME, name.as_bytes())
    }

    pub(crate) fn asks_for(self, codes: &[u8]) -> Self {
        self.opt(option::PARAMETER_LIST, codes)
    }

    pub(crate) fn ciaddr(mut self, ip: Ipv4Addr) -> Self {
        self.header.ciaddr = ip;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut w = Writer::new(&self.header, 4096);
        for (code, value) in &self.options {
            assert!(w.option(*code, value));
        }
        w.finish(None)
    }

    /// Hands the message to the server.
    pub(crate) fn send(&self, server: &mut Server, port: u32, now: Duration) -> Option<Answer> {
        let reply = server.handle(port, self.src_mac, &self.bytes(), now);
        server.assert_consistent();
        reply.map(Answer)
    }

    /// The same, where there must be an answer.
    pub(crate) fn ask(&self, server: &mut Server, port: u32, now: Duration) -> Answer {
        self.send(server, port, now)
            .unwrap_or_else(|| panic!("no answer: {:?}", server.stats()))
    }
}

/// A reply, parsed on demand.
#[derive(Debug)]
pub(crate) struct Answer(pub(crate) Reply);

impl Answer {
    pub(crate) fn message(&self) -> Message<'_> {
        Message::parse(&self.0.payload).unwrap()
    }

    pub(crate) fn kind(&self) -> MessageType {
        self.message().message_type().unwrap()
    }

    pub(crate) fn header(&self) -> Header {
        self.message().header
    }

    pub(crate) fn ip(&self) -> Ipv4Addr {
        self.header().yiaddr
    }

    pub(crate) fn options(&self) -> Options<'_> {
        self.message().options
    }

    pub(crate) fn opt(&self, code: u8) -> Option<Vec<u8>> {
        self.options().get(code).map(<[u8]>::to_vec)
    }

    pub(crate) fn codes(&self) -> Vec<u8> {
        self.options().iter().map(|(code, _)| code).collect()
    }
}

/// DISCOVER to ACK; the address.
pub(crate) fn dora(server: &mut Server, port: u32, n: u8, now: Duration) -> Ipv4Addr {
    let offer = Msg::discover(n).ask(server, port, now);
    assert_eq!(offer.kind(), MessageType::Offer);
    let ack = Msg::select(n, offer.ip()).ask(server, port, now);
    assert_eq!(ack.kind(), MessageType::Ack);
    assert_eq!(ack.ip(), offer.ip());
    ack.ip()
}
