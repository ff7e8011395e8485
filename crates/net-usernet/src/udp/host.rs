//! Datagrams and errors of the host's sockets on their way to a guest.

use std::io;
use std::net::SocketAddr;

use net_wire::{ip_proto, udp};

use super::{BATCHES_PER_TURN, ClientKey, FlowKey, Readable, UdpRelay, count};
use crate::address;
use crate::deliver::Delivery;
use crate::sys::{self, BATCH, ErrorOrigin};
use crate::turn::Turn;
use crate::{Config, PortId};

/// Errors taken from one socket at a time.
const ERRORS_PER_TURN: usize = 64;

impl UdpRelay {
    /// Delivers what a flow's socket has received.
    pub(super) fn read_flow(&mut self, turn: &mut Turn<'_>, slot: usize) {
        let item = Readable::Flow(slot);
        self.drain_errors(turn, item);
        let Some(&FlowKey { port, guest }) = self.flows.key(slot) else {
            return;
        };
        for _ in 0..BATCHES_PER_TURN {
            let link = turn.link(port, guest.ip());
            if link.is_some_and(|link| !link.ready) {
                return self.wait(item, Some(port));
            }
            let Some(flow) = self.flows.get(slot) else {
                return;
            };
            let received = match self.batch.receive(std::os::fd::AsFd::as_fd(&flow.socket)) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.drain_errors(turn, item);
                    continue;
                }
            };
            let class = usize::from(!flow.dns_only);
            let Self {
                batch,
                deliverer,
                stats,
                ..
            } = &mut *self;
            let mut busy = false;
            for datagram in (0..received).filter_map(|i| batch.datagram(i)) {
                let Some(from) = address::visible_peer(turn.config, datagram.from) else {
                    stats.filtered += 1;
                    continue;
                };
                let Some(link) = &link else {
                    stats.guest_gone += 1;
                    continue;
                };
                if busy {
                    stats.guest_busy += 1;
                    continue;
                }
                deliverer.udp_many(
                    turn.out,
                    link,
                    from,
                    guest,
                    datagram.payload,
                    datagram.segment_size,
                    |fate| {
                        busy |= fate == Delivery::Busy;
                        count(stats, fate);
                    },
                );
            }
            if link.is_some() {
                self.flows.touch(slot, class, turn.now);
            }
            if busy {
                return self.wait(item, Some(port));
            }
            if received < BATCH {
                return;
            }
        }
        self.wait(item, None);
    }

    /// Empties a socket's error queue; returns the MTU if the host itself found a datagram too big.
    pub(super) fn drain_errors(&mut self, turn: &mut Turn<'_>, item: Readable) -> Option<u32> {
        let mut mtu = None;
        let mut quote = [0; udp::HEADER_LEN + 1280];
        for _ in 0..ERRORS_PER_TURN {
            let Some(fd) = self.socket(item) else { break };
            let Ok(error) = sys::receive_error(fd, &mut quote[udp::HEADER_LEN..]) else {
                break;
            };
            if error.origin == ErrorOrigin::Local {
                if error.errno == libc::EMSGSIZE {
                    mtu = Some(error.info);
                }
                continue;
            }
            let told = error
                .to
                .and_then(|to| self.guest_names(turn.config, item, to));
            let Some((port, guest, seen)) = told else {
                self.stats.errors_stray += 1;
                continue;
            };
            // The guest's own header, as far as anybody still knows it: without a checksum.
            udp::emit(&mut quote, guest.port(), seen.port(), error.len, 0);
            let l4 = &quote[..udp::HEADER_LEN + error.len];
            let told = turn.relay_error(port, guest.ip(), seen.ip(), ip_proto::UDP, &error, l4);
            self.stats.errors_relayed += u64::from(told);
        }
        mtu
    }

    /// Whose datagram to `to` it was, and how that guest names the two ends.
    fn guest_names(
        &self,
        config: &Config,
        item: Readable,
        to: SocketAddr,
    ) -> Option<(PortId, SocketAddr, SocketAddr)> {
        match item {
            Readable::Flow(slot) => {
                let &FlowKey { port, guest } = self.flows.key(slot)?;
                Some((port, guest, address::as_seen_by_guest(config, to)?))
            }
            Readable::Published(slot) => {
                let client = self.by_client.get(&(slot, to))?;
                let &ClientKey { port, guest, seen } = self.clients.key(*client)?;
                Some((port, guest, seen))
            }
        }
    }
}
