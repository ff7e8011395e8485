//! Attachments: devices and listeners that come and go, and the ports made of them.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::Interest;
use mio::unix::SourceFd;
use net_backend::{BackendError, NetworkBackend};

use super::command::{Attach, AttachOptions, AttachmentId, AttachmentInfo};
use super::listener::{Listener, ListenerId};
use super::ports::PortId;
use super::{Worker, token};
use crate::error::ManagerError;

/// Connections one listener may have at a time.
const CONNECTIONS_PER_LISTENER: usize = 64;

/// An attachment as the worker knows it.
pub(super) struct Attachment {
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
    mac: Option<[u8; 6]>,
    listener: Option<ListenerId>,
    /// The port that has the attachment's address.
    pub(super) port: Option<PortId>,
}

/// A listener and whose it is.
pub(super) struct Listening {
    listener: Listener,
    attachment: usize,
    connections: usize,
}

impl Worker {
    pub(super) fn attach(
        &mut self,
        what: Attach,
        options: AttachOptions,
        now: Duration,
    ) -> Result<AttachmentInfo, ManagerError> {
        let AttachOptions { name, mac, address } = options;
        let subnet = self.core.gateway.config().subnet;
        let address = address
            .or_else(|| self.core.gateway.allocate_ip())
            .ok_or(ManagerError::PoolEmpty(subnet))?;
        let key = self.attachments.vacant_key();
        let name = name.unwrap_or_else(|| format!("guest{}", key + 1));
        self.attachments.insert(Attachment {
            name: name.clone(),
            address,
            mac,
            listener: None,
            port: None,
        });
        let result = match what {
            Attach::Backend(backend) => self.add_port(backend, key, None, now).map(|_| ()),
            Attach::Listener(listener) => self.listen(listener, key),
        };
        if let Err(err) = result {
            self.attachments.remove(key);
            self.core.gateway.release_ip(address);
            return Err(err.into());
        }
        let connected = self.attachments[key].port.is_some();
        Ok(AttachmentInfo {
            id: AttachmentId(key),
            name,
            address,
            connected,
        })
    }

    pub(super) fn detach(&mut self, id: AttachmentId, now: Duration) {
        let Some(attachment) = self.attachments.try_remove(id.0) else {
            return;
        };
        let listener = attachment.listener;
        let ports: Vec<PortId> = self
            .core
            .ports
            .iter()
            .filter(|(port, it)| {
                attachment.port == Some(*port) || (listener.is_some() && it.listener == listener)
            })
            .map(|(port, _)| port)
            .collect();
        for port in ports {
            self.close_port(port, now);
        }
        if let Some(listening) = listener.and_then(|listener| self.listeners.try_remove(listener)) {
            let _ = self
                .poll
                .registry()
                .deregister(&mut SourceFd(&listening.listener.source().as_raw_fd()));
        }
        self.core.gateway.release_ip(attachment.address);
    }

    fn listen(&mut self, listener: Listener, attachment: usize) -> Result<(), BackendError> {
        let entry = self.listeners.vacant_entry();
        let id = entry.key();
        self.poll
            .registry()
            .register(
                &mut SourceFd(&listener.source().as_raw_fd()),
                token::listener(id),
                Interest::READABLE,
            )
            .map_err(|err| BackendError::host("watch a listening socket", &err))?;
        entry.insert(Listening {
            listener,
            attachment,
            connections: 0,
        });
        if let Some(owner) = self.attachments.get_mut(attachment) {
            owner.listener = Some(id);
        }
        Ok(())
    }

    /// Takes the connections that wait at a listener.
    pub(super) fn accept(&mut self, id: ListenerId, now: Duration) {
        loop {
            let Some(listening) = self.listeners.get_mut(id) else {
                return;
            };
            let backend = match listening.listener.accept() {
                Ok(Some(backend)) => backend,
                Ok(None) => return,
                Err(err) => {
                    log::warn!("accept: {err}");
                    return;
                }
            };
            if listening.connections >= CONNECTIONS_PER_LISTENER {
                log::warn!(
                    "a socket has {CONNECTIONS_PER_LISTENER} connections; one more is refused"
                );
                continue;
            }
            let attachment = listening.attachment;
            if let Err(err) = self.add_port(backend, attachment, Some(id), now) {
                log::warn!("accept: {err}");
            }
        }
    }

    /// Makes a port of the uplink's interface, if it is there and has none.
    pub(super) fn attach_uplink(&mut self, now: Duration) -> Result<(), ManagerError> {
        let Some(packets) = self.core.uplink.packets() else {
            return Ok(());
        };
        let Some((backend, mtu)) = packets.reopen(now) else {
            return Ok(());
        };
        let name = format!("uplink {}", packets.device_name());
        // Should the port not come about, the interface is looked for again.
        packets.detached(now);
        let id = self
            .core
            .ports
            .add(backend, name, None, self.poll.registry())?;
        if let Some(port) = self.core.ports.get_mut(id) {
            port.mtu = mtu;
        }
        self.core.with_uplink(now, |uplink, links| {
            if let Some(packets) = uplink.packets() {
                packets.attached(id, links);
            }
        });
        self.want_read(id);
        Ok(())
    }

    /// Makes a port of a back end that belongs to an attachment.
    fn add_port(
        &mut self,
        backend: Box<dyn NetworkBackend>,
        attachment: usize,
        listener: Option<ListenerId>,
        now: Duration,
    ) -> Result<PortId, BackendError> {
        let Some(owner) = self.attachments.get_mut(attachment) else {
            return Err(BackendError::Disconnected);
        };
        let id =
            self.core
                .ports
                .add(backend, owner.name.clone(), listener, self.poll.registry())?;
        self.core
            .switch
            .add_port(id, net_switch::PortConfig::default());
        if owner.port.is_none() {
            owner.port = Some(id);
            let mac = owner.mac.map(net_wire::MacAddr);
            self.core
                .gateway
                .port_opened(id, owner.address, &owner.name, mac, now);
        }
        if let Some(listening) = listener.and_then(|listener| self.listeners.get_mut(listener)) {
            listening.connections += 1;
        }
        self.want_read(id);
        Ok(id)
    }

    /// A port's back end failed: a connection ends, a device that takes a new peer stays.
    pub(super) fn port_failed(&mut self, id: PortId, err: &BackendError, now: Duration) {
        let Some(port) = self.core.ports.get_mut(id) else {
            return;
        };
        if self.core.uplink.is_device(id) {
            log::warn!("{}: {err}; looking for it once a second", port.name);
            self.core.ports.remove(id, self.poll.registry());
            if let Some(packets) = self.core.uplink.packets() {
                packets.detached(now);
            }
            return;
        }
        let ends =
            port.listener.is_some() || !port.backend.as_ref().is_some_and(|b| b.reattaches());
        let then = if ends { "" } else { "; waiting for a new peer" };
        // What the host refuses the user can mend; that a guest goes is its own affair. A guest can
        // provoke either as often as it likes, so each port says it once.
        match err {
            BackendError::Host { .. } if !std::mem::replace(&mut port.warned, true) => {
                log::warn!("{}: {err}{then}", port.name);
            }
            _ => log::info!("{}: {err}{then}", port.name),
        }
        if ends {
            self.close_port(id, now);
        } else {
            port.clear();
            self.core.guest_gone(id, now);
            self.want_read(id);
        }
    }

    fn close_port(&mut self, id: PortId, now: Duration) {
        self.core.guest_gone(id, now);
        self.core.switch.remove_port(id);
        let Some(port) = self.core.ports.remove(id, self.poll.registry()) else {
            return;
        };
        if let Some(listening) = port
            .listener
            .and_then(|listener| self.listeners.get_mut(listener))
        {
            listening.connections -= 1;
        }
        for (_, attachment) in &mut self.attachments {
            if attachment.port == Some(id) {
                attachment.port = None;
            }
        }
    }
}
