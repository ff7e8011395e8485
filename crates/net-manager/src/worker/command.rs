//! What the worker can be asked, and how it answers.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::time::Duration;

use net_backend::NetworkBackend;
use net_usernet::Forward;

use super::{Listener, PortStatistics, UplinkStatus, Worker};
use crate::config::PublishedPort;
use crate::error::ManagerError;

/// What can be attached: both are bound or opened by the caller, so that errors are the caller's.
pub(crate) enum Attach {
    /// One device.
    Backend(Box<dyn NetworkBackend>),
    /// A socket on which devices arrive.
    Listener(Listener),
}

/// What is known about a guest before it says anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttachOptions {
    /// A name, under which it is found by DNS; `guest1`, `guest2`, ... where absent.
    pub name: Option<String>,
    /// Its hardware address: with it, the guest has its address from the start, DHCP or not.
    pub mac: Option<[u8; 6]>,
    /// Its address, one that [`crate::NetworkManager::allocate_ip`] gave; the lowest free one where
    /// absent.
    pub address: Option<Ipv4Addr>,
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
    /// Every attachment.
    pub attachments: Vec<AttachmentInfo>,
    /// Every connected port by name, with its counters.
    pub ports: Vec<(String, PortStatistics)>,
    /// The interface that packets leave by, with [`crate::Engine::Fast`].
    pub uplink: Option<UplinkStatus>,
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
                    let subnet = self.core.gateway.config().subnet;
                    let ip = self.core.gateway.allocate_ip();
                    let _ = reply.send(ip.ok_or(ManagerError::PoolEmpty(subnet)));
                }
                Ok(Command::ReleaseIp { ip }) => self.core.gateway.release_ip(ip),
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
        let first = self
            .attachments
            .iter()
            .next()
            .map(|(_, attachment)| attachment.address);
        let guest = port
            .guest
            .or(first)
            .ok_or(ManagerError::NoGuest(port.bind.port()))?;
        let guest = (guest, port.guest_port).into();
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

    fn status(&self) -> Status {
        Status {
            attachments: self
                .attachments
                .iter()
                .map(|(key, attachment)| AttachmentInfo {
                    id: AttachmentId(key),
                    name: attachment.name.clone(),
                    address: attachment.address,
                    connected: attachment.port.is_some(),
                })
                .collect(),
            ports: self
                .core
                .ports
                .iter()
                .map(|(_, port)| (port.name.clone(), port.statistics))
                .collect(),
            uplink: self.core.uplink.status(),
        }
    }
}
