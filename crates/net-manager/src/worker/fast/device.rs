//! The interface of the uplink: how it is opened, and what happens when it goes.

use std::time::Duration;

use net_backend::NetworkBackend;

use super::PacketUplink;
use crate::error::ManagerError;
use crate::uplink::{OpenUplink, UplinkDevice};
use crate::worker::links::Links;
use crate::worker::ports::PortId;

/// How long to wait before a lost interface is looked for again.
const REOPEN: Duration = Duration::from_secs(1);

/// An interface and its largest packet, in bytes.
pub(in crate::worker) type Opened = (Box<dyn NetworkBackend>, u16);
/// The way to open an interface.
pub(in crate::worker) type Open =
    Box<dyn FnMut(&UplinkDevice) -> Result<Opened, ManagerError> + Send>;

/// The interface, as a port of the worker while it is there.
pub(in crate::worker) struct Device {
    open: Open,
    /// It is open, and nobody has taken it yet.
    opened: Option<Opened>,
    port: Option<PortId>,
    /// When to look for it again.
    again: Option<Duration>,
    /// The user has been told that it is away.
    told: bool,
}

impl Device {
    pub(super) fn new(open: Open, opened: Opened) -> Self {
        Self {
            open,
            opened: Some(opened),
            port: None,
            again: Some(Duration::ZERO),
            told: false,
        }
    }

    /// Its port, while it is there.
    pub(in crate::worker) fn port(&self) -> Option<PortId> {
        self.port
    }
}

impl PacketUplink {
    /// The interface.
    pub(in crate::worker) fn device(&self) -> &Device {
        &self.device
    }

    /// What the interface is called.
    pub(in crate::worker) fn device_name(&self) -> String {
        self.config.device.to_string()
    }

    /// When to call [`Self::reopen`].
    pub(in crate::worker) fn reopen_at(&self) -> Option<Duration> {
        self.device.again
    }

    /// Looks for the interface where it is not attached, if it is time; gives it out where it is
    /// there.
    pub(in crate::worker) fn reopen(&mut self, now: Duration) -> Option<Opened> {
        if self.device.again.is_none_or(|at| at > now) {
            return None;
        }
        let opened = match self.device.opened.take() {
            Some(opened) => Ok(opened),
            None => (self.device.open)(&self.config.device),
        };
        match opened {
            Ok(opened) => Some(opened),
            Err(err) => {
                self.device.again = Some(now + REOPEN);
                if !std::mem::replace(&mut self.device.told, true) {
                    log::warn!("{err}; looking for it once a second");
                }
                None
            }
        }
    }

    /// The interface is a port of the worker now.
    pub(in crate::worker) fn attached(&mut self, port: PortId, links: &mut Links<'_>) {
        self.device.port = Some(port);
        self.device.again = None;
        if std::mem::take(&mut self.device.told) {
            log::warn!("the uplink {} is back", self.config.device);
        }
        self.arp.announce();
        if let Some(six) = &mut self.six {
            six.attached(links.now);
        }
        self.send_questions(links);
    }

    /// The interface has gone; sessions live on, for when it comes back.
    pub(in crate::worker) fn detached(&mut self, now: Duration) {
        self.device.port = None;
        self.device.again = Some(now + REOPEN);
        self.arp.clear();
        if let Some(six) = &mut self.six {
            six.detached();
        }
    }
}

/// The way to open the interface of a network: as it was handed over at first, by itself from then
/// on.
pub(in crate::worker) fn opener(handed_over: Option<OpenUplink>) -> Open {
    let mut handed_over = handed_over;
    Box::new(move |device| {
        let opened = match handed_over.take() {
            Some(opened) => opened,
            None => open(device)?,
        };
        serve(device, opened)
    })
}

/// [`UplinkDevice::open`].
pub(crate) fn open(device: &UplinkDevice) -> Result<OpenUplink, ManagerError> {
    host::open(device).map_err(|why| ManagerError::Uplink {
        device: device.clone(),
        why: why.to_string(),
    })
}

fn serve(device: &UplinkDevice, opened: OpenUplink) -> Result<Opened, ManagerError> {
    let mtu = opened.mtu;
    let served = host::serve(device, opened).map_err(|why| ManagerError::Uplink {
        device: device.clone(),
        why: why.to_string(),
    });
    Ok((served?, mtu))
}

#[cfg(target_os = "linux")]
mod host {
    use std::os::fd::OwnedFd;
    use std::sync::Arc;

    use net_backend::NetworkBackend;
    use net_backend_linux::netlink::Netlink;
    use net_backend_linux::{LinuxError, PacketSocket, Result, Tap, TapOptions};

    use crate::uplink::{OpenUplink, UplinkDevice};

    pub(super) fn open(device: &UplinkDevice) -> Result<OpenUplink> {
        let name = match device {
            UplinkDevice::Interface(name) => {
                let (fd, mtu) = PacketSocket::bind(name)?;
                return Ok(OpenUplink::new(fd, mtu));
            }
            UplinkDevice::Tap(name) => name,
        };
        let netlink = Netlink::new()?;
        let before = netlink.find(name)?;
        let mtu = before.as_ref().map_or(1500, |link| link.mtu);
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
        let tap = Tap::open(name, TapOptions { mtu, mac: None })?;
        // One that was there is its owner's to set up; ours goes with us.
        if before.is_none() {
            netlink.set_up(netlink.link(tap.name())?.index)?;
        }
        Ok(OpenUplink::new(tap.into_file().into(), mtu))
    }

    pub(super) fn serve(
        device: &UplinkDevice,
        opened: OpenUplink,
    ) -> Result<Box<dyn NetworkBackend>> {
        let OpenUplink { fd, mtu } = opened;
        let fd: OwnedFd = Arc::try_unwrap(fd).or_else(|shared| {
            let copied = shared.try_clone();
            copied.map_err(|error| LinuxError::host("copy the descriptor", &error))
        })?;
        Ok(match device {
            UplinkDevice::Tap(_) => Box::new(Tap::from_fd(fd, TapOptions { mtu, mac: None })?),
            UplinkDevice::Interface(_) => Box::new(PacketSocket::from_fd(fd, mtu, None)?),
        })
    }
}

#[cfg(not(target_os = "linux"))]
mod host {
    use net_backend::NetworkBackend;

    use crate::uplink::{OpenUplink, UplinkDevice};

    /// Interfaces are opened on Linux only.
    const WHY: &str = "the fast engine needs Linux";

    pub(super) fn open(_device: &UplinkDevice) -> Result<OpenUplink, &'static str> {
        Err(WHY)
    }

    pub(super) fn serve(
        _device: &UplinkDevice,
        _opened: OpenUplink,
    ) -> Result<Box<dyn NetworkBackend>, &'static str> {
        Err(WHY)
    }
}
