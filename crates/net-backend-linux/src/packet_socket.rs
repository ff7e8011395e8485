//! A virtual Ethernet pair in place of a TAP device, where `/dev/net/tun` cannot be opened.
//!
//! The guest's namespace has one end of the pair. The other end lies in a network namespace that
//! nothing but a packet socket holds: `PACKET_VNET_HDR` puts the virtio header in front of each
//! frame, so that super-frames and partial checksums pass as they do through a TAP. When the
//! guest's namespace ends, the pair goes, and with it the last reason for the other namespace.
//!
//! Limits: what is received cannot be narrowed (the interface's features decide), an 802.1Q tag is
//! lost on the way, and a burst beyond the ring of 120 frames is dropped, not held back.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use net_backend::{Capabilities, Offloads};
use net_wire::MacAddr;

use crate::error::Context;
use crate::frame_io::{Device, FrameIo, MAX_TX_FRAME, Setup, delegate_backend};
use crate::netlink::{Netlink, VethEnd};
use crate::packet_ring::PacketRing;
use crate::{LinuxError, ioctl, sys};

/// Name of the far end, in a namespace where there is nothing else.
const FAR_END: &str = "far";
/// Bytes of frames the socket holds where it has no ring, if the kernel allows so much.
const RECEIVE_BUFFER: usize = 16 << 20;

/// The far end of a virtual Ethernet pair, or an interface that somebody else set up.
pub struct PacketSocket(FrameIo);

delegate_backend!(PacketSocket);

impl PacketSocket {
    /// Sends and receives on the interface `name` of the current network namespace beside the
    /// kernel, which goes on using it. See [`Self::bind`].
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub fn open(name: &str) -> Result<Self, LinuxError> {
        let (fd, mtu) = Self::bind(name)?;
        Self::with_name(fd, name, mtu, None)
    }

    /// A packet socket on the interface `name`, for [`Self::from_fd`], in another process perhaps;
    /// and the interface's largest IP packet, in bytes.
    ///
    /// Frames for every hardware address are received for as long as the socket is open, so that
    /// its holder can have one of its own. The interface has to be up.
    ///
    /// # Errors
    /// [`LinuxError::Host`]: no such interface (ENODEV), it is down (ENETDOWN), or no CAP_NET_RAW
    /// (EPERM).
    pub fn bind(name: &str) -> Result<(OwnedFd, u16), LinuxError> {
        let link = Netlink::new()?.link(name)?;
        let what = || format!("open a packet socket on {name}");
        let fd = ioctl::packet_socket(link.index, RECEIVE_BUFFER).context(what())?;
        ioctl::packet_promiscuous(fd.as_fd(), link.index)
            .context(format!("receive all frames of {name}"))?;
        // An interface that is down says so here and not at the first frame.
        sys::socket_error(fd.as_fd()).context(what())?;
        Ok((fd, u16::try_from(link.mtu).unwrap_or(u16::MAX)))
    }

    /// Takes a packet socket that is bound to an interface and has virtio headers.
    ///
    /// # Errors
    /// [`LinuxError::Invalid`] for a socket without virtio headers.
    pub fn from_fd(fd: OwnedFd, mtu: u16, mac: Option<MacAddr>) -> Result<Self, LinuxError> {
        Self::with_name(fd, FAR_END, mtu, mac)
    }

    fn with_name(
        fd: OwnedFd,
        name: &str,
        mtu: u16,
        mac: Option<MacAddr>,
    ) -> Result<Self, LinuxError> {
        if !ioctl::packet_has_header(fd.as_fd())
            .context("ask the packet socket for its virtio header")?
        {
            return Err(LinuxError::Invalid(
                "the packet socket has no virtio headers".into(),
            ));
        }
        let header_len = ioctl::PACKET_HEADER_LEN;
        // Without a ring, where the kernel has no memory for one, frames are read.
        let ring = PacketRing::new(fd.as_fd(), header_len).ok();
        let offloads = Offloads::ALL;
        FrameIo::new(Setup {
            fd,
            name: name.into(),
            device: Device::Fixed,
            header_len,
            capabilities: Capabilities {
                offloads,
                mtu,
                mac,
                queue_pairs: 1,
                max_frame: MAX_TX_FRAME,
            },
            offloads: offloads & Offloads::RX_ALL,
            ring,
        })
        .map(Self)
    }
}

/// Makes a pair whose near end is the interface `name` of the current namespace; returns the
/// packet socket on the far end. The current namespace is the same afterwards.
///
/// Needs CAP_SYS_ADMIN and CAP_NET_ADMIN over the current namespace, and a single thread.
pub(crate) fn make_pair(name: &str, mtu: u16) -> Result<OwnedFd, LinuxError> {
    let here = current_namespace()?;
    sys::unshare(libc::CLONE_NEWNET).context("make a namespace for the far end")?;
    let there = current_namespace()?;
    sys::setns(here.as_fd(), libc::CLONE_NEWNET).context("return from the far namespace")?;

    let netlink = Netlink::new()?;
    let near = VethEnd {
        mtu: Some(mtu),
        ..VethEnd::named(name)
    };
    let far = VethEnd {
        mtu: Some(mtu),
        netns: Some(there.as_fd()),
        ..VethEnd::named(FAR_END)
    };
    netlink.create_veth(&near, &far)?;

    sys::setns(there.as_fd(), libc::CLONE_NEWNET).context("enter the far namespace")?;
    let socket = bind_far_end();
    sys::setns(here.as_fd(), libc::CLONE_NEWNET).context("return from the far namespace")?;
    socket
}

/// In the far namespace: an interface that carries frames and answers none itself.
fn bind_far_end() -> Result<OwnedFd, LinuxError> {
    let netlink = Netlink::new()?;
    let far = netlink.link(FAR_END)?;
    // Without IPv6 the kernel sends nothing of its own; without it being there, that is as well.
    let _ = std::fs::write(
        format!("/proc/sys/net/ipv6/conf/{FAR_END}/disable_ipv6"),
        "1",
    );
    netlink.set_no_arp(far.index)?;
    // Up first: a socket that is bound to an interface that is down begins its life with an error.
    netlink.set_up(far.index)?;
    ioctl::packet_socket(far.index, RECEIVE_BUFFER).context("open a packet socket on the far end")
}

fn current_namespace() -> Result<File, LinuxError> {
    File::open("/proc/self/ns/net").context("open /proc/self/ns/net")
}
