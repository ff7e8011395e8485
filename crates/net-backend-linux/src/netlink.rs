//! Links, addresses and routes of the current network namespace, through rtnetlink.
//!
//! The crate `rtnetlink` is asynchronous; configuration is not. A [`Netlink`] owns a runtime of
//! its own on the calling thread and each method waits for the kernel's answer, which takes
//! microseconds. The namespace is the one the thread is in when the [`Netlink`] is made.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use ipnetwork::IpNetwork;
use net_wire::MacAddr;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder, new_connection};
use tokio::runtime::{Builder, Runtime};

use crate::error::Context;
use crate::{LinuxError, Result};

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
    /// The bridge it is a member of.
    pub controller: Option<u32>,
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
            .ok_or_else(|| LinuxError::Invalid(format!("there is no interface {name}")))
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

    /// Adds an address with its prefix; an IPv6 address is usable at once, without the second of
    /// duplicate detection, because nobody else has given it out.
    ///
    /// # Errors
    /// As above; EEXIST if it is there already.
    pub fn add_address(&self, index: u32, address: IpNetwork) -> Result<()> {
        let mut request = self
            .handle
            .address()
            .add(index, address.ip(), address.prefix());
        if address.is_ipv6() {
            let message = request.message_mut();
            message.header.flags |= AddressHeaderFlags::Nodad;
            message
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        let what = || format!("add the address {address} to interface {index}");
        self.wait(what, request.execute())
    }

    /// Adds a default route through `gateway`, which has to be on the link.
    ///
    /// # Errors
    /// As above; ENETUNREACH if no address of the interface covers the gateway.
    pub fn add_default_route(&self, index: u32, gateway: IpAddr) -> Result<()> {
        let message = match gateway {
            IpAddr::V4(gateway) => RouteMessageBuilder::<Ipv4Addr>::new()
                .gateway(gateway)
                .output_interface(index)
                .build(),
            IpAddr::V6(gateway) => RouteMessageBuilder::<Ipv6Addr>::new()
                .gateway(gateway)
                .output_interface(index)
                .build(),
        };
        let request = self.handle.route().add(message).execute();
        self.wait(
            || format!("add the default route through {gateway}"),
            request,
        )
    }

    /// Makes a pair of virtual Ethernet interfaces; what goes into one comes out of the other.
    ///
    /// # Errors
    /// As above.
    pub fn add_veth(&self, name: &str, peer: &str) -> Result<()> {
        let message = LinkVeth::new(name, peer).build();
        let request = self.handle.link().add(message).execute();
        self.wait(|| format!("make the pair {name} and {peer}"), request)
    }

    /// Makes a bridge.
    ///
    /// # Errors
    /// As above.
    pub fn add_bridge(&self, name: &str) -> Result<()> {
        let message = LinkBridge::new(name).build();
        let request = self.handle.link().add(message).execute();
        self.wait(|| format!("make the bridge {name}"), request)
    }

    /// Moves an interface to the network namespace behind a descriptor.
    ///
    /// # Errors
    /// As above.
    pub fn move_to(&self, index: u32, namespace: std::os::fd::BorrowedFd<'_>) -> Result<()> {
        use std::os::fd::AsRawFd;
        let message = LinkUnspec::new_with_index(index)
            .setns_by_fd(namespace.as_raw_fd())
            .build();
        let request = self.handle.link().set(message).execute();
        self.wait(
            || format!("move interface {index} to another namespace"),
            request,
        )
    }

    /// Deletes an interface.
    ///
    /// # Errors
    /// As above.
    pub fn delete(&self, index: u32) -> Result<()> {
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
            controller: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Controller(index) => link.controller = Some(*index),
                LinkAttribute::Address(bytes) => {
                    link.mac = <[u8; 6]>::try_from(&bytes[..]).ok().map(MacAddr);
                }
                _ => {}
            }
        }
        link
    }
}

/// The kernel's errno out of rtnetlink's error.
fn refusal(what: String, error: &rtnetlink::Error) -> LinuxError {
    let io = match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        _ => std::io::Error::from_raw_os_error(libc::EIO),
    };
    LinuxError::host(what, &io)
}
