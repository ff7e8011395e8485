//! Serving a network: its places, its published ports, and what it answers to those who ask.
//!
//! The same in a process of its own, behind a keeper, and in one process with everything: what it
//! needs of the world it asks of its [`Host`].

mod answer;
#[cfg(target_os = "linux")]
mod kernel;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use ipnetwork::Ipv4Network;
use net_backend_socket::{QemuDgram, QemuStream, QemuStreamListener, Unixgram};
use net_manager::{
    AttachOptions, AttachmentInfo, ManagerError, Network, NetworkConfig, NetworkMode, PublishError,
    PublishedAs, PublishedPort, mac_for,
};

use self::answer::attachment;
use crate::host::{Device, Guest, Host, Opened};
use crate::output::say;
use crate::place::Place;
use crate::usage::UsageError;

/// What is known about a network beside its settings.
#[derive(Debug, Clone)]
pub(crate) struct About {
    /// What carries its packets.
    pub(crate) engine: String,
    /// Why it is that.
    pub(crate) why: String,
    /// What this process has given up.
    pub(crate) confinement: String,
    /// The process to signal.
    pub(crate) pid: u32,
    /// Whether to say on standard output what is ready.
    pub(crate) announce: bool,
}

/// A running network with its places.
pub(crate) struct Server {
    network: Arc<Network>,
    host: Box<dyn Host>,
    about: About,
    /// Ports to publish once the places are there.
    publish: Vec<PublishedPort>,
    attached: Vec<Attached>,
    published: Vec<Published>,
}

/// A place that is served.
struct Attached {
    place: Place,
    info: AttachmentInfo,
    /// The hardware address that its guest is to have, where that matters.
    mac: Option<String>,
    /// The file that its guest opens, where that is not told by the place.
    device: Option<String>,
}

/// A published port, as it was asked for and as it is.
struct Published {
    port: PublishedPort,
    is: PublishedAs,
}

impl Server {
    /// A network that is not running yet.
    pub(crate) fn new(mut config: NetworkConfig, about: About, host: Box<dyn Host>) -> Self {
        // By us, once the places are there: what this process may not bind the host does.
        let publish = std::mem::take(&mut config.publish);
        Self {
            network: Arc::new(Network::new(config)),
            host,
            about,
            publish,
            attached: Vec::new(),
            published: Vec::new(),
        }
    }

    /// Starts it.
    ///
    /// # Errors
    /// As [`Network::start`].
    pub(crate) fn start(&mut self) -> Result<(), UsageError> {
        Ok(self.network.start()?)
    }

    /// Starts it behind a port of the bridge that the host has made; `router` is the socket by which
    /// that host is the router of IPv6, or why there is none.
    ///
    /// # Errors
    /// As [`Network::start_in_kernel`].
    #[cfg(target_os = "linux")]
    pub(crate) fn start_in_kernel(
        &mut self,
        service: OwnedFd,
        router: Result<net_backend_linux::ra_socket::RaSocket, String>,
        ops: Arc<dyn net_manager::kernel::KernelOps>,
    ) -> Result<(), UsageError> {
        let options = net_backend_linux::TapOptions {
            mtu: self.network.config().mtu,
            mac: None,
        };
        let service = net_backend_linux::Tap::from_fd(service, options).map_err(UsageError::new)?;
        let why = self.about.why.clone();
        let service = Box::new(service);
        let side = net_manager::KernelSide { service, router };
        Ok(self.network.start_in_kernel(side, ops, why)?)
    }

    /// Opens every place, publishes every port, and says so once all of it is there: who reads that a
    /// place is ready may use it.
    ///
    /// # Errors
    /// In one line, what could not be had.
    pub(crate) fn open_places(&mut self, places: &[Place]) -> Result<(), UsageError> {
        let mut lines = Vec::new();
        for place in places {
            let with_addresses = self.gives_addresses();
            let gateway = self.network.config().gateway;
            let attached = self.attach(place)?;
            lines.push(if gateway {
                let line = attachment(attached, &attached.info, with_addresses);
                format!("ready {line}")
            } else {
                format!("ready {place} address by macOS")
            });
        }
        for port in std::mem::take(&mut self.publish) {
            let is = self.publish(port)?;
            lines.push(format!("published {} to {}", is.address, is.guest));
        }
        self.host.ready();
        for line in lines.iter().filter(|_| self.about.announce) {
            say(format_args!("{line}"));
        }
        Ok(())
    }

    /// The network.
    pub(crate) fn network(&self) -> Arc<Network> {
        Arc::clone(&self.network)
    }

    /// Whether its guests have their addresses from it, and not from outside.
    fn gives_addresses(&self) -> bool {
        self.network.config().mode != NetworkMode::Bridge
    }

    /// Whether the kernel carries it.
    #[cfg(target_os = "linux")]
    fn is_in_kernel(&self) -> bool {
        let config = self.network.config();
        config.mode != NetworkMode::Nat || config.engine == net_manager::Engine::Kernel
    }

    /// Opens a place and serves it.
    fn attach(&mut self, place: &Place) -> Result<&Attached, UsageError> {
        #[cfg(target_os = "linux")]
        if let Some(attached) = self.attach_in_kernel(place)? {
            return Ok(self.noted(attached));
        }
        let guest = self.guest(place)?;
        let info = self.open(place, &guest).inspect_err(|_| {
            if let Some(address) = guest.address {
                // The network may have ended in the meantime, and its addresses with it.
                let _ = self.network.release_ip(address.ip());
            }
        })?;
        Ok(self.noted(Attached {
            place: place.clone(),
            info,
            mac: None,
            device: None,
        }))
    }

    fn noted(&mut self, attached: Attached) -> &Attached {
        self.attached.push(attached);
        let last = self.attached.len() - 1;
        &self.attached[last]
    }

    fn open(&mut self, place: &Place, guest: &Guest) -> Result<AttachmentInfo, UsageError> {
        let opened = self.host.open(place, guest)?;
        let (what, port) = place.parts();
        let ours = matches!(what, Place::Netns(_) | Place::Command);
        let options = AttachOptions {
            name: match what {
                Place::Command => Some(guest.name.clone()),
                Place::Vmnet(_) => Some("vmnet".to_owned()),
                Place::Tap(tap) => Some(tap.name.clone()),
                _ => None,
            },
            mac: ours.then_some(guest.mac),
            address: guest.address.map(|network| network.ip()),
            address6: guest.address6.map(|network| network.ip()),
            port,
        };
        let attached = match opened {
            Opened::Served(device, fd) => serve(&self.network, (device, fd), options, guest),
            Opened::Backend(backend) => Ok(self.network.attach(backend, options)?),
        };
        attached.map_err(|err| {
            self.host.close(place);
            UsageError::new(format!("{place}: {err}"))
        })
    }

    /// What the guest of a place is told and given.
    fn guest(&self, place: &Place) -> Result<Guest, UsageError> {
        let (place, _) = place.parts();
        let config = self.network.config();
        let name = match place {
            Place::Netns(name) => name.clone(),
            _ => "guest1".to_owned(),
        };
        let configured =
            matches!(place, Place::Netns(_) | Place::Command) && self.gives_addresses();
        let address = match configured.then(|| self.network.allocate_ip()).transpose()? {
            Some(IpAddr::V4(address)) => {
                let network = Ipv4Network::new(address, config.subnet.prefix());
                Some(network.map_err(|err| UsageError::new(format!("{address}: {err}")))?)
            }
            _ => None,
        };
        let mac = mac_for(&config.name, &name);
        let address6 = config.address6(mac).filter(|_| configured);
        Ok(Guest {
            mac: mac.0,
            name,
            address,
            address6,
            gateway: match self.gives_addresses() {
                true => Some(self.network.gateway()?),
                false => None,
            },
            domain: config.domain.clone(),
            mtu: config.mtu,
        })
    }

    /// Takes a place away, with its guest and the ports that led there.
    fn detach(&mut self, name: &str) -> Result<(), UsageError> {
        let found = self.attached.iter().position(|it| it.info.name == name);
        let found = found.ok_or_else(|| UsageError::new(format!("no guest is called `{name}`")))?;
        let Attached { place, info, .. } = self.attached.remove(found);
        self.network.detach(info.id)?;
        self.host.close(&place);
        let gone: Vec<Published> = self
            .published
            .extract_if(.., |port| port.is.guest.ip() == info.address)
            .collect();
        for port in gone {
            self.network.unpublish(port.is.id)?;
        }
        Ok(())
    }

    /// Publishes a port; one that only the privileged may bind is bound by the host.
    fn publish(&mut self, port: PublishedPort) -> Result<PublishedAs, UsageError> {
        let is = match self.network.publish(port.clone()) {
            Err(ManagerError::Publish(PublishError::Privileged { protocol, bind })) => {
                let socket = self.host.bind(protocol, bind)?;
                self.network.publish_bound(port.clone(), socket)?
            }
            done => done?,
        };
        self.published.push(Published { port, is });
        Ok(is)
    }
}

/// Attaches an open descriptor.
fn serve(
    network: &Network,
    (device, fd): (Device, OwnedFd),
    options: AttachOptions,
    guest: &Guest,
) -> Result<AttachmentInfo, UsageError> {
    Ok(match device {
        Device::QemuStreamListener => {
            let listener = QemuStreamListener::from_socket(fd).map_err(UsageError::new)?;
            network.attach_qemu_stream_listener(listener, options)?
        }
        Device::QemuStream => {
            let stream = QemuStream::from_stream(fd.into()).map_err(UsageError::new)?;
            network.attach(Box::new(stream), options)?
        }
        Device::QemuDgram => {
            let port = QemuDgram::from_bound(UnixDatagram::from(fd)).map_err(UsageError::new)?;
            network.attach(Box::new(port), options)?
        }
        Device::Unixgram => {
            let port = Unixgram::from_bound(UnixDatagram::from(fd)).map_err(UsageError::new)?;
            network.attach(Box::new(port), options)?
        }
        Device::UnixgramPair => {
            let port = Unixgram::from_socket(UnixDatagram::from(fd)).map_err(UsageError::new)?;
            network.attach(Box::new(port), options)?
        }
        #[cfg(target_os = "linux")]
        _ => return linux(network, (device, fd), options, guest),
        #[cfg(not(target_os = "linux"))]
        _ => {
            let _ = guest;
            return Err(UsageError::new("needs Linux"));
        }
    })
}

/// The devices that only Linux has.
#[cfg(target_os = "linux")]
fn linux(
    network: &Network,
    (device, fd): (Device, OwnedFd),
    options: AttachOptions,
    guest: &Guest,
) -> Result<AttachmentInfo, UsageError> {
    use net_backend_linux::{TapOptions, netns::DeviceName};

    let kind = match device {
        Device::BessListener => {
            let listener = net_backend_socket::BessListener::from_socket(fd);
            let listener = listener.map_err(UsageError::new)?;
            return Ok(network.attach_bess_listener(listener, options)?);
        }
        Device::VhostUserListener(pairs) => {
            let failed = |err| UsageError::new(format!("listen for vhost-user: {err}"));
            // One VMM at a time; the next may wait its turn.
            rustix::net::listen(&fd, 1).map_err(failed)?;
            return Ok(network.attach_vhost_user_listener(fd.into(), pairs, options)?);
        }
        Device::VhostUserFeed(pairs) => {
            let next = move || crate::keeper::next_connection(&fd);
            return Ok(network.attach_vhost_user_connections(next, pairs, options)?);
        }
        Device::PacketSocket => DeviceName::PacketSocket,
        _ => DeviceName::Tap,
    };
    let tap = TapOptions {
        mtu: guest.mtu,
        mac: options.mac.map(net_wire::MacAddr),
    };
    let backend = kind.open(fd, tap).map_err(UsageError::new)?;
    Ok(network.attach(backend, options)?)
}

/// Reads `[ADDR:]PORT[/tcp|/udp]`, a published port without its guest's end.
fn published_address(text: &str) -> Result<(net_manager::Protocol, SocketAddr), UsageError> {
    let (bind, protocol) = match text.rsplit_once('/') {
        None => (text, "tcp"),
        Some((bind, protocol)) => (bind, protocol),
    };
    // With any guest's port behind it, it is what `publish` reads.
    let port: PublishedPort = format!("{bind}:1/{protocol}").parse().map_err(|_| {
        UsageError::new(format!(
            "cannot read `{text}` as a published port: expected [ADDR:]PORT[/tcp|/udp]"
        ))
    })?;
    Ok((port.protocol, port.bind))
}
