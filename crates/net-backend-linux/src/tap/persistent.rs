//! TAP devices made for another process, which opens them by name.

use net_wire::MacAddr;
use std::os::fd::AsFd;

use super::{attach, explain};
use crate::error::Context;
use crate::netlink::{Link, Netlink};
use crate::{LinuxError, ioctl, sys};

/// A TAP device that a VMM is to open, possibly without privileges.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TapSpec {
    /// Its name, 1 to 15 bytes; `%d` stands for the first free number.
    pub name: String,
    /// How many queues the VMM may open, 1 to 256. The kernel knows one and many: with more than
    /// one the VMM has to ask for a multiqueue device, with one it must not.
    pub queues: u16,
    /// The user who may open it. If there is a group too, both have to fit.
    pub owner: Option<u32>,
    /// The group whose members may open it. Without owner and group, this process's user may.
    pub group: Option<u32>,
    /// The hardware address of the host's end, which is not the guest's; the kernel chooses one
    /// otherwise.
    pub mac: Option<MacAddr>,
    /// Largest IP packet, in bytes: 68 to 65,521.
    pub mtu: u16,
    /// The text left on the interface, by which its maker knows it again.
    pub alias: Option<String>,
}

impl Default for TapSpec {
    fn default() -> Self {
        Self {
            name: "tap%d".into(),
            queues: 1,
            owner: None,
            group: None,
            mac: None,
            mtu: 1500,
            alias: None,
        }
    }
}

/// Makes a device that stays, down, until [`Netlink::delete_link`]. `netlink` has to be of the
/// current network namespace.
///
/// The device outlives this process only from the last step on, when it has all that is asked for: a
/// process that is killed before leaves nothing.
///
/// # Errors
/// [`LinuxError::Host`] as for [`Tap::open`](super::Tap::open); EBUSY if an interface of that name
/// exists, which is left alone. [`LinuxError::Invalid`] for a number of queues out of range.
pub fn create_persistent(netlink: &Netlink, spec: &TapSpec) -> Result<Link, LinuxError> {
    if !(1..=256).contains(&spec.queues) {
        return Err(LinuxError::Invalid(format!(
            "a TAP device has 1 to 256 queues, not {}",
            spec.queues
        )));
    }
    let mut flags = ioctl::IFF_TAP | ioctl::IFF_NO_PI | ioctl::IFF_VNET_HDR | ioctl::IFF_TUN_EXCL;
    if spec.queues > 1 {
        flags |= ioctl::IFF_MULTI_QUEUE;
    }
    let (fd, name) = attach(&spec.name, flags).map_err(|error| match error.errno() {
        Some(libc::EBUSY | libc::EINVAL) => error.with_advice("an interface of that name exists"),
        _ => error,
    })?;
    let device = fd.as_fd();
    // A device without an owner and a group is anybody's.
    let owner = match (spec.owner, spec.group) {
        (None, None) => Some(sys::effective_ids().0),
        (owner, _) => owner,
    };
    if let Some(owner) = owner {
        ioctl::tun_set_owner(device, owner).context(format!("give {name} to user {owner}"))?;
    }
    if let Some(group) = spec.group {
        ioctl::tun_set_group(device, group).context(format!("give {name} to group {group}"))?;
    }
    let index = netlink.link(&name)?.index;
    if let Some(mac) = spec.mac {
        netlink.set_mac(index, mac)?;
    }
    netlink.set_mtu(index, spec.mtu)?;
    if let Some(alias) = &spec.alias {
        netlink.set_alias(index, alias)?;
    }
    ioctl::tun_set_persistent(device)
        .context(format!("keep {name}"))
        .map_err(explain)?;
    netlink.link(&name)
}
