//! One function per message type (RFC 2131 section 4.3).

use std::net::Ipv4Addr;
use std::time::Duration;

use super::allocate::Peer;
use super::table::{Binding, ClientKey, State};
use super::{LeaseEvent, MAX_CLIENT_ID, Refusal, Reply, Server, UnknownClient, is_unicast};
use crate::v4::codec::{Message, MessageType, Op, names, option};

/// Shortest lease a client can ask for.
const MIN_ASKED: Duration = Duration::from_secs(60);

/// The state of the client that sent a REQUEST, told by what it fills in (RFC 2131 section
/// 4.3.2, table 4). Renewing and rebinding differ only in the destination address.
enum Asking {
    Selecting,
    InitReboot,
    Renewing,
}

/// What a REQUEST comes to.
enum Verdict {
    Ack(Binding),
    Nak(&'static str),
}

impl Server {
    /// Answers the UDP payload of one packet to port 67.
    ///
    /// `port` is where the packet entered, `src_mac` the source of its frame, `now` the time since
    /// an epoch of the caller's choice; time that runs backwards counts as standing still. `None`
    /// means no answer: the message needs none, or was refused, and [`Server::stats`] says why.
    pub fn handle(
        &mut self,
        port: u32,
        src_mac: [u8; 6],
        payload: &[u8],
        now: Duration,
    ) -> Option<Reply> {
        self.expire(now);
        self.stats.received += 1;
        match self.process(port, src_mac, payload) {
            Ok(reply) => reply,
            Err(why) => {
                log::debug!("dhcp: port {port}: {why}");
                self.stats.count(why);
                None
            }
        }
    }

    fn process(
        &mut self,
        port: u32,
        src_mac: [u8; 6],
        payload: &[u8],
    ) -> Result<Option<Reply>, Refusal> {
        let msg = Message::parse(payload).map_err(|_| Refusal::Malformed)?;
        if msg.header.op != Op::Request {
            return Err(Refusal::NotRequest);
        }
        let kind = msg.message_type().ok_or(Refusal::MessageType)?;
        let peer = self.identify(port, src_mac, &msg)?;
        match kind {
            MessageType::Discover => self.discover(&peer, &msg, src_mac).map(Some),
            MessageType::Request => self.request(&peer, &msg, src_mac).map(Some),
            MessageType::Inform => self.inform(&peer, &msg, src_mac).map(Some),
            MessageType::Release => self.give_back(&peer, &msg).map(|()| None),
            MessageType::Decline => self.decline(&peer, &msg).map(|()| None),
            MessageType::Offer | MessageType::Ack | MessageType::Nak => Err(Refusal::MessageType),
        }
    }

    fn identify(&self, port: u32, src_mac: [u8; 6], msg: &Message<'_>) -> Result<Peer, Refusal> {
        let mac = msg.header.chaddr;
        let relay = msg.header.giaddr;
        let relayed = !relay.is_unspecified();
        if relayed && !self.subnet.is_host(relay) {
            return Err(Refusal::Relay);
        }
        let forged = self.config.check_source_mac && !relayed && mac != src_mac;
        if !is_unicast(mac) || forged {
            return Err(Refusal::HardwareAddress);
        }
        let key = match msg.options.get(option::CLIENT_ID) {
            // RFC 2132 section 9.14 asks for two bytes at least; one still tells clients apart.
            None | Some([]) => ClientKey::Mac(mac),
            Some(id) if id.len() <= MAX_CLIENT_ID => ClientKey::Id(id.into()),
            Some(_) => return Err(Refusal::ClientId),
        };
        let fqdn = msg.options.get(option::FQDN).and_then(names::host_of_fqdn);
        let host = || {
            msg.options
                .get(option::HOST_NAME)
                .and_then(names::sanitise_host_name)
        };
        Ok(Peer {
            port,
            mac,
            key,
            name: fqdn.or_else(host),
        })
    }

    fn discover(
        &mut self,
        peer: &Peer,
        msg: &Message<'_>,
        src_mac: [u8; 6],
    ) -> Result<Reply, Refusal> {
        let wanted = msg.options.addr(option::REQUESTED_IP).map(u32::from);
        let ip = self.choose(peer, wanted)?;
        // One offer per client: an earlier one for another address ends.
        for other in self.table.held(&peer.key, peer.port) {
            if other != ip
                && self
                    .table
                    .get(other)
                    .is_some_and(|b| b.state == State::Offered)
            {
                self.take(other);
            }
        }
        // A lease that runs stays as it is, but follows its client to this port. What else is new
        // about the client counts once it has asked for the lease.
        let lease = self
            .table
            .get(ip)
            .filter(|b| b.state == State::Bound && b.key == peer.key);
        let binding = match lease.cloned() {
            Some(lease) => Binding {
                port: Some(peer.port),
                ..lease
            },
            None => {
                self.end(ip);
                Binding {
                    key: peer.key.clone(),
                    mac: peer.mac,
                    port: Some(peer.port),
                    hostname: None,
                    state: State::Offered,
                    at: self.clock.saturating_add(self.config.offer_hold),
                }
            }
        };
        self.put(ip, binding);
        self.stats.offers += 1;
        let hostname = self.name_for(peer, ip);
        let lease = self.lease_time(msg);
        Ok(self.reply(
            MessageType::Offer,
            msg,
            src_mac,
            Some((ip.into(), lease)),
            hostname.as_deref(),
        ))
    }

    fn request(
        &mut self,
        peer: &Peer,
        msg: &Message<'_>,
        src_mac: [u8; 6],
    ) -> Result<Reply, Refusal> {
        let requested = msg.options.addr(option::REQUESTED_IP);
        let ciaddr = Some(msg.header.ciaddr).filter(|ip| !ip.is_unspecified());
        let (asking, ip) = match (msg.options.addr(option::SERVER_ID), requested, ciaddr) {
            (Some(server), _, _) if server != self.config.server_ip => {
                self.drop_offers(peer);
                return Err(Refusal::OtherServer);
            }
            (Some(_), Some(ip), _) => (Asking::Selecting, ip),
            // Some clients name the server when they renew; the address they use is in ciaddr.
            (_, _, Some(ip)) => (Asking::Renewing, ip),
            (None, Some(ip), None) => (Asking::InitReboot, ip),
            (_, None, None) => return Err(Refusal::Malformed),
        };
        let lease = self.lease_time(msg);
        match self.judge(peer, &asking, ip, lease)? {
            Verdict::Ack(binding) => {
                let hostname = self.bind(peer, u32::from(ip), binding);
                self.stats.acks += 1;
                let given = Some((ip, lease));
                Ok(self.reply(MessageType::Ack, msg, src_mac, given, hostname.as_deref()))
            }
            Verdict::Nak(why) => {
                self.drop_offers(peer);
                self.stats.naks += 1;
                Ok(self.nak(msg, src_mac, why))
            }
        }
    }

    fn judge(
        &mut self,
        peer: &Peer,
        asking: &Asking,
        ip: Ipv4Addr,
        lease: Duration,
    ) -> Result<Verdict, Refusal> {
        if !self.subnet.is_host(ip) {
            return Ok(Verdict::Nak("wrong network"));
        }
        let ip = u32::from(ip);
        let reserved = self.reserved_for(peer);
        if reserved.is_some_and(|reserved| reserved != ip) {
            return Ok(Verdict::Nak("another address is reserved for this client"));
        }
        let binding = Binding {
            key: peer.key.clone(),
            mac: peer.mac,
            port: Some(peer.port),
            hostname: None,
            state: State::Bound,
            at: self.clock.saturating_add(lease),
        };
        let held = self
            .table
            .get(ip)
            .is_some_and(|b| b.is_held_by(&peer.key, peer.port));
        if reserved == Some(ip) || held && self.is_dynamic(ip) {
            return Ok(Verdict::Ack(binding));
        }
        let known = self.table.find(&peer.key, peer.port, peer.mac);
        let selecting = matches!(asking, Asking::Selecting);
        let silent = self.config.unknown_clients == UnknownClient::Silent;
        if silent && known.is_none() && !selecting {
            return Err(Refusal::UnknownClient);
        }
        if !self.is_open_to(ip, peer) {
            return Ok(Verdict::Nak("address not available"));
        }
        // From here on the address is free.
        let holds_other = known.is_some_and(|known| {
            known != ip
                && self
                    .table
                    .get(known)
                    .is_some_and(|b| b.is_held_by(&peer.key, peer.port) && b.state == State::Bound)
        });
        if !selecting {
            if holds_other {
                return Ok(Verdict::Nak("another address is leased to this client"));
            }
            if known != Some(ip) && self.config.unknown_clients != UnknownClient::Adopt {
                return Ok(Verdict::Nak("unknown client"));
            }
        }
        self.make_room(peer.port)?;
        Ok(Verdict::Ack(binding))
    }

    /// Makes the lease. A client has one address: what else it held here goes back.
    fn bind(&mut self, peer: &Peer, ip: u32, mut binding: Binding) -> Option<String> {
        for other in self.table.held(&peer.key, peer.port) {
            if other == ip {
                continue;
            }
            if let Some(old) = self.table.remove(other)
                && old.state == State::Bound
            {
                let Binding { mac, hostname, .. } = old;
                self.event(LeaseEvent::Released {
                    ip: other.into(),
                    mac,
                    hostname,
                });
            }
            self.sync(other);
        }
        let renewed = self
            .table
            .get(ip)
            .is_some_and(|b| b.state == State::Bound && b.key == binding.key);
        if !renewed {
            self.end(ip);
        }
        let hostname = self.name_for(peer, ip);
        binding.hostname.clone_from(&hostname);
        self.event(LeaseEvent::Bound {
            ip: ip.into(),
            mac: peer.mac,
            port: peer.port,
            hostname: hostname.clone(),
            expires: binding.at,
            renewed,
        });
        self.put(ip, binding);
        hostname
    }

    /// The name of the guest at `ip`: the host's choice, else its own if it may have it.
    fn name_for(&mut self, peer: &Peer, ip: u32) -> Option<String> {
        let set = self.reservations.get(ip).and_then(|r| r.hostname.clone());
        match (set, &peer.name) {
            (Some(name), _) => self.free_name(&name, ip),
            (None, Some(name)) => self.free_name(name, ip),
            (None, None) => None,
        }
    }

    fn inform(
        &mut self,
        peer: &Peer,
        msg: &Message<'_>,
        src_mac: [u8; 6],
    ) -> Result<Reply, Refusal> {
        let ip = msg.header.ciaddr;
        if !ip.is_unspecified() && !self.subnet.is_host(ip) {
            return Err(Refusal::WrongNetwork);
        }
        self.stats.informs += 1;
        let holder = self.table.get(u32::from(ip));
        let holder = holder.filter(|b| b.is_held_by(&peer.key, peer.port));
        let hostname = holder.and_then(|b| b.hostname.clone());
        Ok(self.reply(MessageType::Ack, msg, src_mac, None, hostname.as_deref()))
    }

    fn give_back(&mut self, peer: &Peer, msg: &Message<'_>) -> Result<(), Refusal> {
        self.check_server_id(msg)?;
        let ip = u32::from(msg.header.ciaddr);
        let binding = self
            .table
            .get(ip)
            .filter(|b| b.is_held_by(&peer.key, peer.port));
        match binding.map(|b| b.state) {
            Some(State::Bound) => {
                self.stats.releases += 1;
                self.retire(ip, |ip, mac, hostname| LeaseEvent::Released {
                    ip,
                    mac,
                    hostname,
                });
                Ok(())
            }
            Some(_) => {
                self.take(ip);
                Ok(())
            }
            None => Err(Refusal::NotHolder),
        }
    }

    fn decline(&mut self, peer: &Peer, msg: &Message<'_>) -> Result<(), Refusal> {
        self.check_server_id(msg)?;
        let ip = msg
            .options
            .addr(option::REQUESTED_IP)
            .ok_or(Refusal::Malformed)?;
        let key = u32::from(ip);
        let binding = self
            .table
            .get(key)
            .filter(|b| b.is_held_by(&peer.key, peer.port));
        let mut binding = binding.cloned().ok_or(Refusal::NotHolder)?;
        self.stats.declines += 1;
        binding.state = State::Quarantined;
        binding.hostname = None;
        // It still counts towards the port's share: declining is no way to drain the pool.
        binding.at = self.clock.saturating_add(self.config.quarantine);
        self.put(key, binding);
        self.event(LeaseEvent::Declined {
            ip,
            mac: peer.mac,
            port: peer.port,
        });
        Ok(())
    }

    /// RFC 2131 table 5: RELEASE and DECLINE must name the server.
    fn check_server_id(&self, msg: &Message<'_>) -> Result<(), Refusal> {
        match msg.options.addr(option::SERVER_ID) {
            Some(id) if id == self.config.server_ip => Ok(()),
            Some(_) => Err(Refusal::OtherServer),
            None => Err(Refusal::Malformed),
        }
    }

    fn drop_offers(&mut self, peer: &Peer) {
        for ip in self.table.held(&peer.key, peer.port) {
            if self
                .table
                .get(ip)
                .is_some_and(|b| b.state == State::Offered)
            {
                self.take(ip);
            }
        }
    }

    /// The configured lease time, or less if the client asks for less (option 51).
    fn lease_time(&self, msg: &Message<'_>) -> Duration {
        let most = self.config.lease_time;
        match msg.options.u32(option::LEASE_TIME) {
            Some(secs) => Duration::from_secs(secs.into()).clamp(MIN_ASKED.min(most), most),
            None => most,
        }
    }
}
