//! What the worker can be asked, and how it answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::time::Duration;

use ipnetwork::Ipv6Network;
use net_backend::NetworkBackend;
use net_usernet::Forward;

use super::attach::Attachment;
use super::{Listener, PortOptions, PortStatistics, UplinkStatus, Worker};
use crate::config::PublishedPort;
use crate::engine::Engine;
use crate::error::ManagerError;

/// What can be attached: both are bound or opened by the caller, so that errors are the caller's.
pub(crate) enum Attach {
    /// One device.
    Backend(Box<dyn NetworkBackend>),
    /// A socket on which devices arrive.
    Listener(Listener),
    /// A guest behind the bridge of a network in the kernel.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    Trunk,
}

/// What is known about a guest before it says anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttachOptions {
    /// A name, under which it is found by DNS; `guest1`, `guest2`, ... where absent.
    pub name: Option<String>,
    /// Its hardware address: with it, the guest has its address from the start, DHCP or not.
    pub mac: Option<[u8; 6]>,
    /// Its address, one that [`crate::Network::allocate_ip`] gave; the lowest free one where
    /// absent.
    pub address: Option<Ipv4Addr>,
    /// The IPv6 address that it is sure to have, in the network's prefix: its names and its ports
    /// published over IPv6 lead there.
    pub address6: Option<Ipv6Addr>,
    /// What the switch is to do with its ports.
    pub port: PortOptions,
}

/// Names an attachment of a running network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttachmentId(pub(crate) usize);

/// Names a published port of a running network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ForwardId(pub(crate) u64);

/// A place where a guest is, or will be.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AttachmentInfo {
    /// Its number.
    pub id: AttachmentId,
    /// Its name, under which the guest is found by DNS.
    pub name: String,
    /// The address kept for its guest.
    pub address: Ipv4Addr,
    /// The IPv6 address that its guest is known to keep: given to it, or made from its hardware
    /// address. It may have others.
    pub address6: Option<Ipv6Addr>,
    /// Whether a guest is connected.
    pub connected: bool,
}

/// What the worker can be asked.
pub(crate) enum Command {
    Attach {
        what: Attach,
        options: AttachOptions,
        reply: Reply<AttachmentInfo>,
    },
    Detach {
        id: AttachmentId,
        reply: Reply<()>,
    },
    AllocateIp {
        reply: Reply<Ipv4Addr>,
    },
    ReleaseIp {
        ip: Ipv4Addr,
    },
    Publish {
        port: PublishedPort,
        /// Bound already, by a process that may.
        socket: Option<OwnedFd>,
        reply: Reply<PublishedAs>,
    },
    Unpublish {
        id: ForwardId,
    },
    Status {
        reply: Reply<Status>,
    },
    SetResolvers {
        servers: Vec<SocketAddr>,
    },
    Stop,
}

/// Where the answer to a command goes.
pub(crate) type Reply<T> = mpsc::SyncSender<Result<T, ManagerError>>;

/// A published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedAs {
    /// Names it for unpublishing.
    pub id: ForwardId,
    /// Where the host listens: with the port that the host chose, where 0 was asked for.
    pub address: SocketAddr,
    /// The guest's end.
    pub guest: SocketAddr,
}

/// A network at one moment.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Status {
    /// Who carries the packets.
    pub engine: Engine,
    /// Why it is that one.
    pub why: String,
    /// Every attachment.
    pub attachments: Vec<AttachmentInfo>,
    /// Every connected port by name, with its counters.
    pub ports: Vec<(String, PortStatistics)>,
    /// The switch of this process: what it forwarded, flooded and refused.
    pub switch: net_switch::Statistics,
    /// The interface that packets leave by, with [`crate::Engine::Fast`].
    pub uplink: Option<UplinkStatus>,
    /// The prefix of the network's IPv6 addresses, where this program or its host is their router.
    pub prefix6: Option<Ipv6Network>,
    /// Why there is none, or why it leads nowhere.
    pub no_ipv6: Option<String>,
}

impl Worker {
    /// Carries out every command that waits; true when the last one was to stop.
    pub(super) fn commands(&mut self, now: Duration) -> bool {
        loop {
            // A reply that nobody waits for any more is not an error.
            match self.commands.try_recv() {
                Ok(Command::Attach {
                    what,
                    options,
                    reply,
                }) => {
                    let _ = reply.send(self.attach(what, options, now));
                }
                Ok(Command::Detach { id, reply }) => {
                    self.detach(id, now);
                    let _ = reply.send(Ok(()));
                }
                Ok(Command::AllocateIp { reply }) => {
                    let _ = reply.send(self.addresses.allocate(&mut self.core.gateway));
                }
                Ok(Command::ReleaseIp { ip }) => {
                    self.addresses.release(ip, &mut self.core.gateway);
                }
                Ok(Command::Publish {
                    port,
                    socket,
                    reply,
                }) => {
                    let _ = reply.send(self.publish(&port, socket));
                }
                Ok(Command::Unpublish { id }) => {
                    self.core.uplink.unpublish(id);
                }
                Ok(Command::Status { reply }) => {
                    let _ = reply.send(Ok(self.status()));
                }
                Ok(Command::SetResolvers { servers }) => self.set_resolvers(servers),
                Ok(Command::Stop) | Err(mpsc::TryRecvError::Disconnected) => return true,
                Err(mpsc::TryRecvError::Empty) => return false,
            }
        }
    }

    pub(super) fn publish(
        &mut self,
        port: &PublishedPort,
        socket: Option<OwnedFd>,
    ) -> Result<PublishedAs, ManagerError> {
        if !self.core.has_gateway {
            return Err(ManagerError::NoGateway(port.bind.port()));
        }
        let wanted = |attachment: &Attachment| match port.guest {
            Some(address) => self.address_of(attachment) == address,
            None => !attachment.settings.mirror,
        };
        let attachment = self
            .attachments
            .iter()
            .map(|(_, attachment)| attachment)
            .find(|attachment| wanted(attachment));
        let address = port
            .guest
            .or(attachment.map(|attachment| self.address_of(attachment)))
            .ok_or(ManagerError::NoGuest(port.bind.port()))?;
        // Of one family with the client, the guest sees its address. Where no IPv6 address of the
        // guest is known, the client appears as the gateway.
        let address6 = attachment
            .filter(|_| port.bind.is_ipv6())
            .and_then(|attachment| self.address6(attachment));
        let ip = address6.map_or(IpAddr::V4(address), IpAddr::V6);
        let guest = (ip, port.guest_port).into();
        let (id, address) = self.core.uplink.publish(
            Forward {
                protocol: port.protocol,
                bind: port.bind,
                guest,
            },
            socket,
        )?;
        Ok(PublishedAs { id, address, guest })
    }

    /// The IPv6 address that an attachment's guest is known to keep.
    fn address6(&self, attachment: &Attachment) -> Option<Ipv6Addr> {
        let seen = attachment
            .port
            .and_then(|port| self.core.gateway.address6(port));
        attachment.address6.or(seen)
    }

    pub(super) fn status(&self) -> Status {
        Status {
            engine: Engine::default(),
            why: String::new(),
            attachments: self
                .attachments
                .iter()
                .map(|(key, attachment)| AttachmentInfo {
                    id: AttachmentId(key),
                    name: attachment.name.clone(),
                    address: self.address_of(attachment),
                    address6: self.address6(attachment),
                    connected: attachment.is_connected(),
                })
                .collect(),
            ports: self
                .core
                .ports
                .iter()
                .map(|(_, port)| (port.name.clone(), port.statistics))
                .collect(),
            switch: self.core.switch.statistics(),
            uplink: self.core.uplink.status(),
            prefix6: self
                .core
                .gateway
                .config()
                .ipv6
                .as_ref()
                .map(|six| six.prefix),
            no_ipv6: self.no_ipv6.clone().or_else(|| {
                let trouble = self.core.uplink.trouble6();
                trouble.map(|why| format!("among guests alone: {why}"))
            }),
        }
    }
}
