//! The interface of the uplink: how it is opened, and what happens when it goes.

use std::time::Duration;

use net_backend::NetworkBackend;

use super::PacketUplink;
use crate::error::ManagerError;
use crate::uplink::UplinkDevice;
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
        self.send_questions(links);
    }

    /// The interface has gone; sessions live on, for when it comes back.
    pub(in crate::worker) fn detached(&mut self, now: Duration) {
        self.device.port = None;
        self.device.again = Some(now + REOPEN);
        self.arp.clear();
    }
}

/// Opens an interface of this host.
///
/// # Errors
/// [`ManagerError::Uplink`] with the reason.
#[cfg(target_os = "linux")]
pub(in crate::worker) fn open(device: &UplinkDevice) -> Result<Opened, ManagerError> {
    open_linux(device).map_err(|err| ManagerError::Uplink {
        device: device.clone(),
        why: err.to_string(),
    })
}

/// Opens an interface of this host.
///
/// # Errors
/// [`ManagerError::Uplink`]: interfaces are opened on Linux only.
#[cfg(not(target_os = "linux"))]
pub(in crate::worker) fn open(device: &UplinkDevice) -> Result<Opened, ManagerError> {
    Err(ManagerError::Uplink {
        device: device.clone(),
        why: "the fast engine needs Linux".to_owned(),
    })
}

#[cfg(target_os = "linux")]
fn open_linux(device: &UplinkDevice) -> net_backend_linux::Result<Opened> {
    use net_backend_linux::netlink::Netlink;
    use net_backend_linux::{PacketSocket, Tap, TapOptions};

    match device {
        UplinkDevice::Tap(name) => {
            let netlink = Netlink::new()?;
            let before = netlink.find(name)?;
            let mtu = before.as_ref().map_or(1500, |link| link.mtu);
            let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
            let tap = Tap::open(name, TapOptions { mtu, mac: None })?;
            // One that was there is its owner's to set up; ours goes with us.
            if before.is_none() {
                netlink.set_up(netlink.link(tap.name())?.index)?;
            }
            Ok((Box::new(tap), mtu))
        }
        UplinkDevice::Interface(name) => {
            let socket = PacketSocket::open(name)?;
            let mtu = socket.capabilities().mtu;
            Ok((Box::new(socket), mtu))
        }
    }
}
