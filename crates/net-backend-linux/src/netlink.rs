//! Links, addresses and routes of the current network namespace, through rtnetlink.
//!
//! | part | what it does |
//! |---|---|
//! | [`Netlink`] | lists, finds and changes interfaces |
//! | [`BridgeOptions`], [`VethEnd`] | what a new interface is to be |
//! | [`PortOptions`] | what a bridge does with one of its ports |
//! | [`Address`], [`Route`] | addresses and routes, to be taken away and given back |
//!
//! The crate `rtnetlink` is asynchronous; configuration is not. A [`Netlink`] owns a runtime of
//! its own on the calling thread and each method waits for the kernel's answer, which takes
//! microseconds. The namespace is the one the thread is in when the [`Netlink`] is made.

mod address;
mod create;
mod port;
mod redirect;
mod route;

use std::os::fd::{AsRawFd, BorrowedFd};

use futures_util::TryStreamExt;
use net_wire::MacAddr;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::{Handle, LinkUnspec, new_connection};
use tokio::runtime::{Builder, Runtime};

use crate::error::Context;
use crate::{LinuxError, Result};

pub use address::Address;
pub use create::{BridgeOptions, VethEnd};
pub use port::PortOptions;
pub use route::Route;

/// The longest alias of an interface, in bytes (`IFALIASZ`, less the final zero).
pub const ALIAS_MAX: usize = 255;

/// An interface as the kernel lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Link {
    /// Number of the interface in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address, where it has one of 6 bytes.
    pub mac: Option<MacAddr>,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether frames pass: it is up, and so is what is at the other end of its wire. That follows
    /// [`Netlink::set_up`] a moment later, in which frames are lost.
    pub running: bool,
    /// The bridge it is a member of.
    pub controller: Option<u32>,
    /// Number of the interface it stands on or is paired with: of a macvtap its parent, of a virtual
    /// Ethernet interface its peer (in the peer's namespace).
    pub lower: Option<u32>,
    /// Its kind as the kernel calls it: `bridge`, `veth`, `tun`, `macvtap`; none for hardware.
    pub kind: Option<String>,
    /// The text that somebody has left on it.
    pub alias: Option<String>,
}

/// A connection to the kernel's routing tables.
pub struct Netlink {
    runtime: Runtime,
    handle: Handle,
}

impl Netlink {
    /// Connects. Not to be called from within a tokio runtime: its methods wait on one of their
    /// own.
    ///
    /// # Errors
    /// [`LinuxError::Host`] where the kernel gives no socket.
    pub fn new() -> Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .build()
            .context("start the netlink runtime")?;
        let guard = runtime.enter();
        let (connection, handle, _) = new_connection().context("open a netlink socket")?;
        drop(guard);
        runtime.spawn(connection);
        Ok(Self { runtime, handle })
    }

    /// Waits for one request.
    fn wait<T>(
        &self,
        what: impl FnOnce() -> String,
        request: impl Future<Output = std::result::Result<T, rtnetlink::Error>>,
    ) -> Result<T> {
        self.runtime
            .block_on(request)
            .map_err(|error| refusal(what(), &error))
    }

    /// Every interface of the namespace.
    ///
    /// # Errors
    /// [`LinuxError::Host`], as for every method here: the errno is the kernel's.
    pub fn links(&self) -> Result<Vec<Link>> {
        let request = self.handle.link().get().execute();
        let messages: Vec<LinkMessage> =
            self.wait(|| "list the interfaces".into(), request.try_collect())?;
        Ok(messages.iter().map(Link::from_message).collect())
    }

    /// The interface of this name, or none.
    ///
    /// # Errors
    /// As above.
    pub fn find(&self, name: &str) -> Result<Option<Link>> {
        match self.link(name) {
            Ok(link) => Ok(Some(link)),
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The interface of this name.
    ///
    /// # Errors
    /// ENODEV if there is none.
    pub fn link(&self, name: &str) -> Result<Link> {
        let request = self
            .handle
            .link()
            .get()
            .match_name(name.to_owned())
            .execute();
        let messages: Vec<LinkMessage> = self.wait(
            || format!("find the interface {name}"),
            request.try_collect(),
        )?;
        messages
            .first()
            .map(Link::from_message)
            .ok_or_else(|| no_such(format!("find the interface {name}")))
    }

    /// Brings an interface up.
    ///
    /// # Errors
    /// As above.
    pub fn set_up(&self, index: u32) -> Result<()> {
        let message = LinkUnspec::new_with_index(index).up().build();
        let request = self.handle.link().set(message).execute();
        self.wait(|| format!("bring interface {index} up"), request)
    }

    /// Takes an interface down.
    ///
    /// # Errors
    /// As above.
    pub fn set_down(&self, index: u32) -> Result<()> {
        let message = LinkUnspec::new_with_index(index).down().build();
        let request = self.handle.link().set(message).execute();
        self.wait(|| format!("take interface {index} down"), request)
    }

    /// Sets the hardware address; some interfaces must be down for it.
    ///
    /// # Errors
    /// As above.
    pub fn set_mac(&self, index: u32, mac: MacAddr) -> Result<()> {
        let message = LinkUnspec::new_with_index(index)
            .address(mac.0.to_vec())
            .build();
        let request = self.handle.link().set(message).execute();
        self.wait(
            || format!("set the address of interface {index} to {mac}"),
            request,
        )
    }

    /// Sets the largest IP packet, in bytes.
    ///
    /// # Errors
    /// As above; EINVAL outside of what the interface takes.
    pub fn set_mtu(&self, index: u32, mtu: u16) -> Result<()> {
        let message = LinkUnspec::new_with_index(index).mtu(mtu.into()).build();
        let request = self.handle.link().set(message).execute();
        self.wait(
            || format!("set the MTU of interface {index} to {mtu}"),
            request,
        )
    }

    /// Switches address resolution off: the kernel then answers no ARP on the interface.
    ///
    /// # Errors
    /// As above.
    pub fn set_no_arp(&self, index: u32) -> Result<()> {
        let message = LinkUnspec::new_with_index(index).arp(false).build();
        let request = self.handle.link().set(message).execute();
        self.wait(|| format!("switch ARP off on interface {index}"), request)
    }

    /// Makes an interface a member of a bridge, or of none.
    ///
    /// # Errors
    /// As above.
    pub fn set_bridge(&self, index: u32, bridge: Option<u32>) -> Result<()> {
        let message = LinkUnspec::new_with_index(index);
        let message = match bridge {
            Some(bridge) => message.controller(bridge),
            None => message.nocontroller(),
        };
        let request = self.handle.link().set(message.build()).execute();
        self.wait(
            || format!("change the bridge of interface {index}"),
            request,
        )
    }

    /// Moves an interface to the network namespace behind a descriptor.
    ///
    /// # Errors
    /// As above.
    pub fn move_to_netns(&self, index: u32, namespace: BorrowedFd<'_>) -> Result<()> {
        let message = LinkUnspec::new_with_index(index)
            .setns_by_fd(namespace.as_raw_fd())
            .build();
        let request = self.handle.link().set(message).execute();
        self.wait(
            || format!("move interface {index} to another namespace"),
            request,
        )
    }

    /// Leaves a text of at most [`ALIAS_MAX`] bytes on an interface; an empty one takes it away.
    ///
    /// # Errors
    /// As above; [`LinuxError::Invalid`] for a longer text.
    pub fn set_alias(&self, index: u32, alias: &str) -> Result<()> {
        if alias.len() > ALIAS_MAX {
            return Err(LinuxError::Invalid(format!(
                "the alias {alias:?} is longer than {ALIAS_MAX} bytes"
            )));
        }
        let message = LinkUnspec::new_with_index(index).alias(alias).build();
        let request = self.handle.link().set(message).execute();
        self.wait(|| format!("set the alias of interface {index}"), request)
    }

    /// Deletes an interface; of a pair, both ends.
    ///
    /// # Errors
    /// As above; EOPNOTSUPP for hardware.
    pub fn delete_link(&self, index: u32) -> Result<()> {
        let request = self.handle.link().del(index).execute();
        self.wait(|| format!("delete interface {index}"), request)
    }
}

impl std::fmt::Debug for Netlink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Netlink")
    }
}

impl Link {
    fn from_message(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            mac: None,
            mtu: 0,
            up: message.header.flags.contains(LinkFlags::Up),
            running: message.header.flags.contains(LinkFlags::Running),
            controller: None,
            lower: None,
            kind: None,
            alias: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Controller(index) => link.controller = Some(*index),
                LinkAttribute::Link(index) => link.lower = Some(*index).filter(|n| *n != 0),
                LinkAttribute::IfAlias(text) => link.alias = Some(text.clone()),
                LinkAttribute::LinkInfo(infos) => {
                    link.kind = infos.iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind.to_string()),
                        _ => None,
                    });
                }
                LinkAttribute::Address(bytes) => {
                    link.mac = <[u8; 6]>::try_from(&bytes[..]).ok().map(MacAddr);
                }
                _ => {}
            }
        }
        link
    }
}

fn no_such(what: String) -> LinuxError {
    LinuxError::host(what, &std::io::Error::from_raw_os_error(libc::ENODEV))
}

/// The kernel's errno out of rtnetlink's error.
fn refusal(what: String, error: &rtnetlink::Error) -> LinuxError {
    let io = match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        _ => std::io::Error::from_raw_os_error(libc::EIO),
    };
    LinuxError::host(what, &io)
}
