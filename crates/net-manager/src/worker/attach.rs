//! Attachments: devices and listeners that come and go, and the ports made of them.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::Interest;
use mio::unix::SourceFd;
use net_backend::{BackendError, NetworkBackend};
use net_gateway::Gateway;

use super::command::{Attach, AttachOptions, AttachmentId, AttachmentInfo};
#[cfg(target_os = "linux")]
use super::data_path::Trunk;
use super::listener::{Listener, ListenerId};
use super::port_options::PortSettings;
use super::ports::PortId;
use super::{Worker, token};
#[cfg(target_os = "linux")]
use crate::config::NetworkConfig;
use crate::error::ManagerError;

/// Connections one listener may have at a time.
const CONNECTIONS_PER_LISTENER: usize = 64;

/// An attachment as the worker knows it.
pub(super) struct Attachment {
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
    pub(super) address6: Option<Ipv6Addr>,
    mac: Option<[u8; 6]>,
    listener: Option<ListenerId>,
    /// The port that has the attachment's address.
    pub(super) port: Option<PortId>,
    /// Its guest is behind the trunk.
    on_trunk: bool,
    /// What the switch does with its ports.
    pub(super) settings: PortSettings,
}

impl Attachment {
    /// Whether there is a guest, as far as can be known.
    pub(super) fn is_connected(&self) -> bool {
        self.on_trunk || self.port.is_some()
    }

    /// Tells the gateway whom it has to expect on the attachment's port.
    pub(super) fn open(&self, port: PortId, gateway: &mut Gateway, now: Duration) {
        if self.settings.mirror {
            return;
        }
        let mac = self.mac.map(net_wire::MacAddr);
        gateway.port_opened(port, self.address, &self.name, mac, now);
        if let (Some(address6), Some(mac)) = (self.address6, mac) {
            gateway.assign6(port, address6, mac, now);
        }
    }

    /// What is known of the guests of two attachments changes places.
    pub(super) fn exchange_guests(&mut self, other: &mut Self) {
        std::mem::swap(&mut self.address, &mut other.address);
        std::mem::swap(&mut self.address6, &mut other.address6);
        std::mem::swap(&mut self.mac, &mut other.mac);
    }
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
        let on_trunk = matches!(what, Attach::Trunk);
        let settings = PortSettings::check(options.port, on_trunk, &self.core)?;
        let address = self.addresses.seat(&options, &mut self.core.gateway)?;
        let AttachOptions {
            name,
            mac,
            address6,
            ..
        } = options;
        let key = self.attachments.vacant_key();
        let name = name.unwrap_or_else(|| format!("guest{}", key + 1));
        let attachment = self.attachments.insert(Attachment {
            name: name.clone(),
            address,
            address6,
            mac,
            listener: None,
            port: None,
            on_trunk,
            settings,
        });
        let result = match what {
            Attach::Backend(backend) => self.add_port(backend, key, None, now).map(|_| ()),
            Attach::Listener(listener) => self.listen(listener, key),
            Attach::Trunk => {
                self.core.gateway.name_guest(&name, address, address6);
                #[cfg(target_os = "linux")]
                if let Some(router) = &mut self.host_router {
                    router.announce(now);
                }
                Ok(())
            }
        };
        if let Err(err) = result {
            self.attachments.remove(attachment);
            self.addresses.unseat(address, &mut self.core.gateway);
            return Err(err.into());
        }
        let connected = self.attachments[attachment].is_connected();
        Ok(AttachmentInfo {
            id: AttachmentId(key),
            name,
            address,
            address6,
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
        if attachment.on_trunk {
            self.core.gateway.forget_guest(attachment.address);
        }
        self.addresses
            .unseat(attachment.address, &mut self.core.gateway);
    }

    /// The address of an attachment's guest: its own, once it is known who sits there and that has
    /// another reserved.
    pub(super) fn address_of(&self, attachment: &Attachment) -> Ipv4Addr {
        let seat = attachment
            .port
            .and_then(|port| self.core.gateway.seat(port));
        seat.unwrap_or(attachment.address)
    }

    /// Takes the port of a bridge of the host, with the host and its guests behind it.
    #[cfg(target_os = "linux")]
    pub(super) fn attach_trunk(
        &mut self,
        config: &NetworkConfig,
        service: Box<dyn NetworkBackend>,
    ) -> Result<(), ManagerError> {
        let name = "bridge".to_owned();
        let id = self
            .core
            .ports
            .add(service, name, None, self.poll.registry())?;
        self.core
            .switch
            .add_port(id, net_switch::PortConfig::default().uplink(true));
        self.core.gateway.trunk_opened(id);
        self.core.trunk = Some(Trunk {
            port: id,
            router: crate::kernel::router_mac(config),
        });
        self.want_read(id);
        Ok(())
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
        if owner.settings.mirror && self.core.mirror.is_some() {
            return Err(BackendError::Unsupported(
                "a second connection to the mirror port",
            ));
        }
        let id =
            self.core
                .ports
                .add(backend, owner.name.clone(), listener, self.poll.registry())?;
        let isolated = self.core.isolated;
        let settings = owner.settings;
        self.core.switch.add_port(id, settings.config(isolated));
        if let Some(port) = self.core.ports.get_mut(id) {
            port.moves = settings.moves;
        }
        if settings.mirror && self.core.switch.set_mirror(Some(id)) {
            self.core.mirror = Some(id);
        }
        self.core.follow_mirror();
        if settings.mirror {
            // There is no guest: nothing is given to it, and nobody looks for it.
            owner.port = Some(id);
        } else if owner.port.is_none() {
            owner.port = Some(id);
            owner.open(id, &mut self.core.gateway, now);
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
            self.guest_left(id, now);
        }
    }

    fn close_port(&mut self, id: PortId, now: Duration) {
        self.core.guest_gone(id, now);
        self.core.switch.remove_port(id);
        self.core.mirror = self.core.mirror.filter(|mirror| *mirror != id);
        self.core.follow_mirror();
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
