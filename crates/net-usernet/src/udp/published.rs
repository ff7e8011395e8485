//! Published ports and their clients.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use mio::Interest;
use mio::unix::SourceFd;
use socket2::Socket;

use super::{BATCHES_PER_TURN, Client, ClientKey, Published, Readable, UdpRelay, count};
use crate::address;
use crate::deliver::Delivery;
use crate::sys::{self, BATCH};
use crate::token::Source;
use crate::turn::Turn;
use crate::{Forward, PortId};

/// Ports tried for a client that appears as the gateway.
const PORT_TRIES: usize = 64;
/// Lower ports of the gateway are its own services'.
const LOWEST_PORT: u16 = 1024;

impl UdpRelay {
    /// Serves a published port on a socket of [`bind_published`](crate::bind_published); returns its slot and the address it has.
    pub(crate) fn publish(
        &mut self,
        registry: &mio::Registry,
        tokens: crate::token::TokenMap,
        forward: Forward,
        socket: OwnedFd,
    ) -> io::Result<(usize, SocketAddr)> {
        let v6 = forward.bind.is_ipv6();
        let socket = Socket::from(socket);
        sys::set_dont_fragment(&socket, v6, false);
        sys::coalesce(&socket);
        let wildcard = forward.bind.ip().is_unspecified();
        if wildcard {
            sys::report_destination(&socket, v6)?;
        }
        let addr = socket.local_addr()?.as_socket().unwrap_or(forward.bind);
        let entry = self.published.vacant_entry();
        let slot = entry.key();
        let token = tokens.token(Source::Published(slot));
        registry.register(
            &mut SourceFd(&socket.as_raw_fd()),
            token,
            Interest::READABLE,
        )?;
        entry.insert(Published {
            socket,
            forward,
            wildcard,
            waiting: false,
        });
        Ok((slot, addr))
    }

    /// Closes a published port and forgets its clients.
    pub(crate) fn unpublish(&mut self, slot: usize) {
        if self.published.try_remove(slot).is_none() {
            return;
        }
        for client in self
            .clients
            .slots_where(|_, client| client.published == slot)
        {
            if let Some(gone) = self.clients.remove(client) {
                self.forget_client(&gone);
            }
        }
    }

    /// Delivers what clients have sent to a published port.
    pub(super) fn read_published(&mut self, turn: &mut Turn<'_>, slot: usize) {
        let item = Readable::Published(slot);
        self.drain_errors(turn, item);
        for _ in 0..BATCHES_PER_TURN {
            let Some(published) = self.published.get(slot) else {
                return;
            };
            let (forward, wildcard) = (published.forward, published.wildcard);
            let link = turn.out.link(forward.guest.ip());
            if let Some(link) = link.filter(|link| !link.ready) {
                return self.wait(item, Some(link.port));
            }
            let received = match self.batch.receive(published.socket.as_fd()) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.drain_errors(turn, item);
                    continue;
                }
            };
            let Some(link) = link else {
                self.stats.guest_gone += received as u64;
                if received < BATCH {
                    return;
                }
                continue;
            };
            let mut busy = false;
            for i in 0..received {
                let Some(datagram) = self.batch.datagram(i) else {
                    continue;
                };
                let local = datagram.to.filter(|_| wildcard);
                let Some(seen) =
                    self.client_for(turn, slot, &forward, link.port, datagram.from, local)
                else {
                    continue;
                };
                let Self {
                    batch,
                    deliverer,
                    stats,
                    ..
                } = &mut *self;
                let Some(datagram) = batch.datagram(i) else {
                    continue;
                };
                if busy {
                    stats.guest_busy += 1;
                    continue;
                }
                deliverer.udp_many(
                    turn.out,
                    &link,
                    seen,
                    forward.guest,
                    datagram.payload,
                    datagram.segment_size,
                    |fate| {
                        busy |= fate == Delivery::Busy;
                        count(stats, fate);
                    },
                );
            }
            if busy {
                return self.wait(item, Some(link.port));
            }
            if received < BATCH {
                return;
            }
        }
        self.wait(item, None);
    }

    /// The address under which the guest sees a client; the same one for as long as the client is
    /// not idle.
    fn client_for(
        &mut self,
        turn: &Turn<'_>,
        published: usize,
        forward: &Forward,
        port: PortId,
        addr: SocketAddr,
        local: Option<IpAddr>,
    ) -> Option<SocketAddr> {
        if let Some(&slot) = self.by_client.get(&(published, addr)) {
            if self.clients.owner(slot) == Some(port) {
                self.clients.touch(slot, 0, turn.now);
                self.clients.get_mut(slot)?.local = local;
                return self.clients.key(slot).map(|key| key.seen);
            }
            // The guest came back at another port of the switch.
            if let Some(gone) = self.clients.remove(slot) {
                self.forget_client(&gone);
            }
        }
        if self.clients.is_closed() {
            self.stats.refused_limit += 1;
            return None;
        }
        while let Some(gone) = self.clients.make_room(port) {
            self.stats.evicted += 1;
            self.forget_client(&gone);
        }
        let Some(key) = self.name_client(turn, forward.guest, port, addr) else {
            self.stats.filtered += 1;
            return None;
        };
        let slot = self.clients.insert(
            port,
            0,
            key,
            Client {
                published,
                addr,
                local,
            },
            turn.now,
        );
        self.by_client.insert((published, addr), slot);
        self.stats.accepted += 1;
        Some(key.seen)
    }

    /// Chooses the address under which the guest will see a new client: its own, or one of the
    /// gateway's that no other client of the same guest socket has.
    fn name_client(
        &mut self,
        turn: &Turn<'_>,
        guest: SocketAddr,
        port: PortId,
        addr: SocketAddr,
    ) -> Option<ClientKey> {
        let ip = addr.ip().to_canonical();
        let own = ClientKey {
            port,
            guest,
            seen: SocketAddr::new(ip, addr.port()),
        };
        if address::can_appear_as_itself(turn.config, ip, guest.ip())
            && self.clients.find(&own).is_none()
        {
            return Some(own);
        }
        let gateway = turn.config.gateway_like(guest.ip())?;
        let mut candidate = addr.port();
        for _ in 0..PORT_TRIES {
            let key = ClientKey {
                port,
                guest,
                seen: SocketAddr::new(gateway, candidate),
            };
            if candidate >= LOWEST_PORT && self.clients.find(&key).is_none() {
                return Some(key);
            }
            // Steps by a number that shares no factor with 2^16 reach every port.
            self.next_port = self.next_port.wrapping_add(25_173);
            candidate = self.next_port;
        }
        None
    }
}
