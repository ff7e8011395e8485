//! The host in this process: the keeper's hands.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use net_backend_socket::{BindError, BoundPath, Unixgram};
use net_manager::{NetworkBackend, Protocol};

use super::{Device, Guest, Host, Opened};
use crate::place::Place;
use crate::usage::UsageError;

/// What has been made for places, and goes with them.
#[derive(Default)]
pub(crate) struct Local {
    paths: Vec<(Place, BoundPath)>,
    /// Where they are written down, for a network that has a directory.
    #[cfg(target_os = "linux")]
    pub(crate) sockets: Option<crate::sockets::Sockets>,
    /// Those that are called.
    #[cfg(target_os = "linux")]
    feeds: Vec<(Place, crate::keeper::Feed)>,
    /// What [`Place::Command`] becomes.
    #[cfg(target_os = "linux")]
    pub(crate) command: Vec<std::ffi::OsString>,
    /// Its process, until somebody waits for it.
    #[cfg(target_os = "linux")]
    pub(crate) namespace: Option<net_backend_linux::netns::NamespaceChild>,
    /// The network in the kernel, where that carries it.
    #[cfg(target_os = "linux")]
    pub(crate) kernel: Option<std::sync::Arc<net_manager::kernel::KernelNetwork>>,
    /// TAP devices for machines, where the kernel does not carry the network and this user may make
    /// them.
    #[cfg(target_os = "linux")]
    pub(crate) taps: Option<net_manager::kernel::ServedTaps>,
    /// The other end of [`Place::Child`], until a child inherits it.
    pub(crate) childs_end: Option<UnixStream>,
}

impl Local {
    fn bound<'a>(
        &mut self,
        place: &Place,
        device: Device,
        path: &'a Path,
        bind: impl FnOnce(&'a Path) -> Result<(OwnedFd, BoundPath), BindError>,
    ) -> Result<Opened, UsageError> {
        #[cfg(target_os = "linux")]
        let noted = match &mut self.sockets {
            Some(sockets) => sockets.note(path).map_err(failed("write down the path"))?,
            None => false,
        };
        let bound = bind(path).map_err(UsageError::new);
        #[cfg(target_os = "linux")]
        if noted && bound.is_err() {
            self.strike(path);
        }
        let (socket, path) = bound?;
        self.paths.push((place.clone(), path));
        Ok(Opened::Served(device, socket))
    }

    #[cfg(target_os = "linux")]
    fn strike(&mut self, path: &Path) {
        if let Some(sockets) = &mut self.sockets {
            sockets.strike(path);
        }
    }

    fn pair(&mut self) -> Result<Opened, UsageError> {
        let (ours, theirs) = UnixStream::pair().map_err(failed("make a socket pair"))?;
        self.childs_end = Some(theirs);
        Ok(Opened::Served(Device::QemuStream, ours.into()))
    }

    #[cfg(target_os = "linux")]
    fn vhost_user(
        &mut self,
        place: &Place,
        vhost: &crate::place::VhostUserPlace,
    ) -> Result<Opened, UsageError> {
        let queues = vhost.queues.unwrap_or(1);
        if !vhost.calls {
            let device = Device::VhostUserListener(queues);
            return self.bound(place, device, &vhost.path, BoundPath::stream);
        }
        let (feed, theirs) = crate::keeper::Feed::start(&vhost.path)?;
        self.feeds.push((place.clone(), feed));
        Ok(Opened::Served(Device::VhostUserFeed(queues), theirs))
    }

    #[cfg(target_os = "linux")]
    fn linux(&mut self, place: &Place, guest: &Guest) -> Result<Opened, UsageError> {
        use crate::namespace;
        match place {
            Place::Netns(name) => namespace::join(name, guest),
            Place::Command => {
                let (opened, child) = namespace::new(&self.command, guest)?;
                self.namespace = Some(child);
                Ok(opened)
            }
            Place::ServedTap(name) => {
                let options = net_backend_linux::TapOptions {
                    mtu: guest.mtu,
                    mac: None,
                };
                let tap = served_tap(name, options).map_err(UsageError::new)?;
                Ok(Opened::Served(Device::Tap, tap.into_file().into()))
            }
            Place::Tap(tap) => {
                let taps = self.taps.as_ref().ok_or_else(|| {
                    UsageError::new("needs CAP_NET_ADMIN and /dev/net/tun: run as root")
                })?;
                // The device is in no bridge: its VLAN is our switch's affair.
                let port = net_manager::kernel::TapPort {
                    vlan: None,
                    ..tap.port()
                };
                let tap = taps.open(&port).map_err(UsageError::new)?;
                Ok(Opened::Served(Device::Tap, tap.into_file().into()))
            }
            _ => Err(UsageError::new(
                "needs a network in the kernel: --engine kernel, or --mode bridge or host-only",
            )),
        }
    }
}

impl Host for Local {
    fn open(&mut self, place: &Place, guest: &Guest) -> Result<Opened, UsageError> {
        let (place, _) = place.parts();
        let opened = match place {
            Place::QemuStream(path) => {
                self.bound(place, Device::QemuStreamListener, path, BoundPath::stream)
            }
            Place::QemuDgram(path) => {
                self.bound(place, Device::QemuDgram, path, BoundPath::datagram)
            }
            Place::Vfkit(path) => self.bound(place, Device::Unixgram, path, BoundPath::datagram),
            #[cfg(target_os = "linux")]
            Place::Bess(path) => {
                self.bound(place, Device::BessListener, path, BoundPath::sequenced)
            }
            #[cfg(target_os = "linux")]
            Place::VhostUser(vhost) => self.vhost_user(place, vhost),
            Place::VzFd(fd) => inherited(*fd),
            Place::Vmnet(uplink) => uplink.open(guest.mtu).map(Opened::Backend),
            Place::Child => self.pair(),
            #[cfg(target_os = "linux")]
            _ => self.linux(place, guest),
            #[cfg(not(target_os = "linux"))]
            _ => Err(UsageError::new("needs Linux")),
        };
        opened.map_err(|err| UsageError::new(format!("{place}: {err}")))
    }

    fn close(&mut self, place: &Place) {
        let (place, _) = place.parts();
        let closed = self.paths.extract_if(.., |(other, _)| other == place);
        let closed: Vec<BoundPath> = closed.map(|(_, bound)| bound).collect();
        for bound in closed {
            #[cfg(target_os = "linux")]
            let path = bound.path().to_owned();
            drop(bound);
            #[cfg(target_os = "linux")]
            self.strike(&path);
        }
        #[cfg(target_os = "linux")]
        self.feeds.retain(|(other, _)| other != place);
        #[cfg(target_os = "linux")]
        if let (Place::Tap(tap), Some(taps)) = (place, &self.taps)
            && let Err(err) = taps.close(&tap.name)
        {
            log::warn!("{place}: {err}");
        }
    }

    fn bind(&mut self, protocol: Protocol, address: SocketAddr) -> Result<OwnedFd, UsageError> {
        net_manager::bind_published(protocol, address).map_err(UsageError::new)
    }

    fn ready(&mut self) {}
}

/// A TAP device that exists, or one that goes with its descriptor.
#[cfg(target_os = "linux")]
fn served_tap(
    name: &str,
    options: net_backend_linux::TapOptions,
) -> Result<net_backend_linux::Tap, net_backend_linux::LinuxError> {
    use net_backend_linux::Tap;
    match Tap::open(name, options) {
        // The kernel's word for a device with several queues. One of ours is enough: whatever the
        // others are for, all flows come by those that are open.
        Err(err) if err.errno() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
            let queue = Tap::open_queues(name, 1, options)?.pop();
            queue.ok_or(err)
        }
        opened => opened,
    }
}

/// A copy of a descriptor that this process was started with.
fn inherited(fd: i32) -> Result<Opened, UsageError> {
    let socket = Unixgram::from_inherited(fd).map_err(UsageError::new)?;
    let copy = socket
        .source()
        .ok_or_else(|| UsageError::new("the inherited socket has no descriptor"))?
        .try_clone_to_owned()
        .map_err(failed("copy an inherited descriptor"))?;
    Ok(Opened::Served(Device::UnixgramPair, copy))
}

fn failed(what: &'static str) -> impl FnOnce(std::io::Error) -> UsageError {
    move |err| UsageError::new(format!("cannot {what}: {err}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn paths_are_written_down_while_they_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let (file, path) = (dir.path().join("sockets"), dir.path().join("a"));
        let mut host = Local {
            sockets: Some(crate::sockets::Sockets::begin(file.clone())),
            ..Local::default()
        };
        let written = || std::fs::read_to_string(&file).unwrap_or_default();
        let place = Place::Vfkit(path.clone());
        host.open(&place, &Guest::example()).unwrap();
        assert_eq!(written(), format!("{}\0", path.display()));
        // Refused, and none of ours.
        host.open(&Place::QemuStream(path.clone()), &Guest::example())
            .err()
            .unwrap();
        let nowhere = dir.path().join("nowhere/b");
        host.open(&Place::Vfkit(nowhere), &Guest::example())
            .err()
            .unwrap();
        assert_eq!(written(), format!("{}\0", path.display()));
        host.close(&place);
        assert_eq!(written(), "");
    }

    #[test]
    fn a_path_is_there_until_its_place_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let mut host = Local::default();
        let place = Place::QemuStream(dir.path().join("a"));
        let other = Place::Vfkit(dir.path().join("b"));
        for place in [&place, &other] {
            let opened = host.open(place, &Guest::example()).unwrap();
            assert!(matches!(opened, Opened::Served(..)));
        }
        let error = host
            .open(&place, &Guest::example())
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("qemu-stream:"), "{error}");
        host.close(&place);
        assert!(!dir.path().join("a").exists() && dir.path().join("b").exists());
        drop(host);
        assert!(!dir.path().join("b").exists());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_needs_the_kernel_says_so() {
        let mut host = Local::default();
        for (place, says) in [
            ("tap:vm0", "CAP_NET_ADMIN"),
            ("macvtap:eth0", "--engine kernel"),
        ] {
            let error = host.open(&place.parse().unwrap(), &Guest::example()).err();
            let error = error.unwrap().to_string();
            assert!(error.contains(says), "{place}: {error}");
        }
    }
}
