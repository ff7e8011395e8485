//! TAP devices as network back ends.
//!
//! One descriptor carries whole frames, each with a `virtio_net_hdr` of 12 bytes in front. With
//! offloads a frame is a super-frame of up to 64 KiB, so that the cost of a call is spread over
//! many segments of TCP.
//!
//! | constructor | for |
//! |---|---|
//! | [`Tap::open`] | a device by name, made if it does not exist (needs CAP_NET_ADMIN) |
//! | [`Tap::open_queues`] | a multiqueue device: one [`Tap`] a queue |
//! | [`create_persistent`] | makes a device for somebody else, who may open it without privileges |
//! | [`Tap::from_fd`] | a descriptor that was inherited or passed, as namespace helpers do |
//! | [`Tap::open_macvtap`] | a macvtap interface, by way of its device file |
//! | [`Tap::plain`] | a device without headers or offloads, by way of the crate `tun-tap` |

mod persistent;

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use net_backend::{Capabilities, Offloads};
use net_datapath::VirtioNetHdr;
use net_wire::MacAddr;

use crate::error::Context;
use crate::frame_io::{Device, FrameIo, MAX_TX_FRAME, Setup, delegate_backend, receive_flags};
use crate::netlink::Link;
use crate::{LinuxError, ioctl, sys};

pub use persistent::{TapSpec, create_persistent};

/// Where devices are made.
pub(crate) const TUN_PATH: &str = "/dev/net/tun";

/// What the holder of the descriptor knows and the descriptor does not tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TapOptions {
    /// Largest IP packet of an ordinary frame, in bytes; the interface itself has to be set to it.
    pub mtu: u16,
    /// The hardware address of the interface, if it was prescribed.
    pub mac: Option<MacAddr>,
}

impl Default for TapOptions {
    fn default() -> Self {
        Self {
            mtu: 1500,
            mac: None,
        }
    }
}

/// One queue of a TAP device.
pub struct Tap(FrameIo);

delegate_backend!(Tap);

impl Tap {
    /// The name of the device, in the namespace it was made in.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The descriptor, for whoever carries the device on.
    pub fn into_file(self) -> File {
        self.0.into_file()
    }

    /// Opens the device `name` of the current network namespace, or makes one that goes with its
    /// last descriptor. `%d` in the name stands for the first free number.
    ///
    /// # Errors
    /// [`LinuxError::Host`]: no access to `/dev/net/tun` (EACCES, ENOENT), no CAP_NET_ADMIN
    /// (EPERM), the device is in use (EBUSY), or is of another kind (EINVAL).
    pub fn open(name: &str, options: TapOptions) -> Result<Self, LinuxError> {
        let flags = ioctl::IFF_TAP | ioctl::IFF_NO_PI | ioctl::IFF_VNET_HDR;
        Self::with_headers(attach(name, flags)?, options, 1)
    }

    /// Opens `queues` queues of one multiqueue device; the kernel spreads flows over them.
    ///
    /// # Errors
    /// As [`Self::open`]; [`LinuxError::Invalid`] for 0 or more than 256 queues.
    pub fn open_queues(
        name: &str,
        queues: u16,
        options: TapOptions,
    ) -> Result<Vec<Self>, LinuxError> {
        if !(1..=256).contains(&queues) {
            return Err(LinuxError::Invalid(format!(
                "a TAP device has 1 to 256 queues, not {queues}"
            )));
        }
        let flags =
            ioctl::IFF_TAP | ioctl::IFF_NO_PI | ioctl::IFF_VNET_HDR | ioctl::IFF_MULTI_QUEUE;
        let (first, name) = attach(name, flags)?;
        let mut taps = vec![Self::with_headers((first, name.clone()), options, queues)?];
        for _ in 1..queues {
            taps.push(Self::with_headers(attach(&name, flags)?, options, queues)?);
        }
        Ok(taps)
    }

    /// Takes a descriptor that is already attached to a TAP device.
    ///
    /// # Errors
    /// [`LinuxError::Invalid`] for a TUN device or one with packet information;
    /// [`LinuxError::Host`] where the descriptor is no device at all.
    pub fn from_fd(fd: OwnedFd, options: TapOptions) -> Result<Self, LinuxError> {
        let (name, flags) = ioctl::tun_get_iff(fd.as_fd())
            .context("ask the descriptor for its TAP device")
            .map_err(|error| error.with_advice("the descriptor is not a TAP device"))?;
        if flags & ioctl::IFF_TAP == 0 || flags & ioctl::IFF_NO_PI == 0 {
            return Err(LinuxError::Invalid(format!(
                "{name} is not a TAP device without packet information (IFF_TAP, IFF_NO_PI)"
            )));
        }
        if flags & ioctl::IFF_VNET_HDR == 0 {
            return Self::without_headers(fd, name, options);
        }
        Self::with_headers((fd, name), options, 1)
    }

    /// Opens the macvtap `link`, as [`Netlink::create_macvtap`](crate::netlink::Netlink) returns it,
    /// through its device file `/dev/tapN`, N being the interface's number.
    ///
    /// The interface has to be up for frames to pass. Its hardware address and the MTU are those of
    /// `link`; frames to other addresses do not arrive.
    ///
    /// # Errors
    /// [`LinuxError::Host`]: no such file (ENOENT), which a container's `/dev` may lack, no right to
    /// open it (EACCES), in use (EBUSY); [`LinuxError::Invalid`] if that file is another
    /// interface's, as happens between network namespaces that share a `/dev`.
    pub fn open_macvtap(link: &Link) -> Result<Self, LinuxError> {
        let path = format!("/dev/tap{}", link.index);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK)
            .open(&path)
            .context(format!("open {path} of {}", link.name))
            .map_err(|error| match error.errno() {
                Some(libc::ENOENT) => error.with_advice(
                    "this /dev is not the kernel's own: mknod it with the numbers in \
                     /sys/class/net/NAME/macvtap/tapN/dev",
                ),
                Some(libc::EACCES) => error.with_advice("give the device file to the user: chown"),
                _ => error,
            })?;
        // The numbers of interfaces repeat between namespaces.
        let expected = format!(
            "/sys/class/net/{0}/macvtap/tap{1}/dev",
            link.name, link.index
        );
        let numbers = fs::read_to_string(&expected).context(format!("read {expected}"))?;
        let device = file.metadata().context(format!("ask about {path}"))?.rdev();
        let found = format!("{}:{}", libc::major(device), libc::minor(device));
        if numbers.trim() != found {
            return Err(LinuxError::Invalid(format!(
                "{path} is the device {found}, that of {} would be {}",
                link.name,
                numbers.trim()
            )));
        }
        let flags = ioctl::IFF_TAP | ioctl::IFF_NO_PI | ioctl::IFF_VNET_HDR;
        ioctl::tun_set_iff(file.as_fd(), "", flags)
            .context(format!("have virtio headers on {path}"))?;
        let options = TapOptions {
            mtu: u16::try_from(link.mtu).unwrap_or(u16::MAX),
            mac: link.mac,
        };
        Self::with_headers((file.into(), link.name.clone()), options, 1)
    }

    /// Makes a device without headers, hence without offloads.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn plain(name: &str, options: TapOptions) -> Result<Self, LinuxError> {
        let interface = tun_tap::Iface::without_packet_info(name, tun_tap::Mode::Tap)
            .context("make a plain TAP device")
            .map_err(explain)?;
        let name = interface.name().to_owned();
        let fd = sys::own(interface);
        Self::without_headers(fd, name, options)
    }

    fn with_headers(
        (fd, name): (OwnedFd, String),
        options: TapOptions,
        queue_pairs: u16,
    ) -> Result<Self, LinuxError> {
        ioctl::tun_set_vnet_hdr_size(fd.as_fd(), VirtioNetHdr::LEN)
            .context("set the length of the virtio header")?;
        if ioctl::tun_vnet_hdr_size(fd.as_fd()).context("read the length of the virtio header")?
            != VirtioNetHdr::LEN
        {
            return Err(LinuxError::Invalid(format!(
                "{name} does not take virtio headers of 12 bytes"
            )));
        }
        if cfg!(target_endian = "big") {
            ioctl::tun_set_little_endian(fd.as_fd())
                .context("make the virtio header little-endian")?;
        }
        let offloads = probe_offloads(&fd)?;
        Self::new(fd, name, VirtioNetHdr::LEN, options, queue_pairs, offloads)
    }

    fn without_headers(fd: OwnedFd, name: String, options: TapOptions) -> Result<Self, LinuxError> {
        Self::new(fd, name, 0, options, 1, Offloads::NONE)
    }

    fn new(
        fd: OwnedFd,
        name: String,
        header_len: usize,
        options: TapOptions,
        queue_pairs: u16,
        offloads: Offloads,
    ) -> Result<Self, LinuxError> {
        let device = match header_len {
            0 => Device::Fixed,
            _ if is_macvtap(&fd)? => Device::Macvtap,
            _ => Device::Tap,
        };
        let offloads = match device {
            // It takes the flag, and cuts UDP super-frames before it hands them on all the same.
            Device::Macvtap => offloads - Offloads::RX_USO,
            _ => offloads,
        };
        let capabilities = Capabilities {
            offloads,
            mtu: options.mtu,
            mac: options.mac,
            queue_pairs,
            max_frame: MAX_TX_FRAME,
        };
        FrameIo::new(Setup {
            fd,
            name,
            device,
            header_len,
            capabilities,
            offloads: Offloads::NONE,
            ring: None,
        })
        .map(Self)
    }
}

/// Whether a device was opened through a file of its own and not through [`TUN_PATH`].
fn is_macvtap(fd: &OwnedFd) -> Result<bool, LinuxError> {
    /// The numbers of [`TUN_PATH`] (`TUN_MINOR` of `linux/miscdevice.h`).
    const TUN: libc::dev_t = libc::makedev(10, 200);
    let what = "ask which device this is";
    let file = File::from(fd.try_clone().context(what)?);
    Ok(file.metadata().context(what)?.rdev() != TUN)
}

/// Attaches a fresh descriptor to the device `name`; returns it with the device's real name.
pub(crate) fn attach(name: &str, flags: libc::c_short) -> Result<(OwnedFd, String), LinuxError> {
    if name.is_empty() || name.len() > ioctl::NAME_MAX {
        return Err(LinuxError::Invalid(format!(
            "the interface name {name:?} does not have 1 to 15 bytes"
        )));
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK)
        .open(TUN_PATH)
        .context(format!("open {TUN_PATH}"))
        .map_err(explain)?;
    let name = ioctl::tun_set_iff(file.as_fd(), name, flags)
        .context(format!("make or attach to the TAP device {name}"))
        .map_err(explain)?;
    Ok((file.into(), name))
}

/// Better advice for the refusals that people meet.
fn explain(error: LinuxError) -> LinuxError {
    match error.errno() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
            error.with_advice("load the kernel module: modprobe tun")
        }
        Some(libc::EACCES) => error.with_advice("as root: chmod 0666 /dev/net/tun"),
        Some(libc::EBUSY) => error.with_advice(
            "another process uses the device, or it is multiqueue and this is not, or the reverse",
        ),
        Some(libc::EINVAL) => {
            error.with_advice("an interface of that name and another kind exists")
        }
        _ => error,
    }
}

/// What the kernel agrees to: it is asked for everything, then for all but UDP super-frames
/// (Linux 6.2), and left at nothing.
fn probe_offloads(fd: &OwnedFd) -> Result<Offloads, LinuxError> {
    let all = Offloads::ALL;
    let without_uso = Offloads::ALL - Offloads::RX_USO - Offloads::TX_USO;
    let csum_only = Offloads::RX_CSUM | Offloads::TX_CSUM;
    let agreed = [all, without_uso, csum_only]
        .into_iter()
        .find(|want| ioctl::tun_set_offload(fd.as_fd(), receive_flags(*want)).is_ok())
        .unwrap_or(Offloads::NONE);
    ioctl::tun_set_offload(fd.as_fd(), 0).context("switch the TAP device's offloads off")?;
    Ok(agreed)
}
