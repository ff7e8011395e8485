//! Addresses of interfaces.

use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt;
use ipnetwork::IpNetwork;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, CacheInfo,
};
use serde::{Deserialize, Serialize};

use super::Netlink;
use crate::Result;

/// "For ever", as the kernel writes a lifetime.
const FOR_EVER: u32 = u32::MAX;

/// What of an address's flags is the owner's choice; the others tell its state.
const CHOSEN: AddressFlags = AddressFlags::Noprefixroute
    .union(AddressFlags::Managetempaddr)
    .union(AddressFlags::Homeaddress)
    .union(AddressFlags::Mcautojoin);

/// An address of an interface, with all that [`Netlink::restore_address`] needs to give it back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Address {
    /// The address and the length of its prefix.
    pub network: IpNetwork,
    /// The other end, where the interface is point-to-point.
    pub peer: Option<IpAddr>,
    /// The address that every host of an IPv4 network listens to.
    pub broadcast: Option<Ipv4Addr>,
    /// IPv4: the name that old programs see, beginning with that of the interface.
    pub label: Option<String>,
    /// How far it reaches (`rtnetlink(7)`): 0 anywhere, 253 on the link, 254 on the host.
    pub scope: u8,
    /// `IFA_F_` flags that are somebody's choice, such as "no prefix route" (0x200).
    pub flags: u32,
    /// Metric of the route to its prefix.
    pub metric: Option<u32>,
    /// Seconds for which it is valid, and preferred, from when it was listed; none: for ever.
    pub lifetime: Option<(u32, u32)>,
}

impl Address {
    fn from_message(message: &AddressMessage) -> Option<Self> {
        let (mut address, mut local) = (None, None);
        let mut this = Self {
            network: IpNetwork::V4(Ipv4Addr::UNSPECIFIED.into()),
            peer: None,
            broadcast: None,
            label: None,
            scope: message.header.scope.into(),
            flags: u32::from(message.header.flags.bits()),
            metric: None,
            lifetime: None,
        };
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Address(ip) => address = Some(*ip),
                AddressAttribute::Local(ip) => local = Some(*ip),
                AddressAttribute::Broadcast(ip) => this.broadcast = Some(*ip),
                AddressAttribute::Label(text) => this.label = Some(text.clone()),
                AddressAttribute::Flags(flags) => this.flags = flags.bits(),
                AddressAttribute::RoutePriority(metric) => this.metric = Some(*metric),
                AddressAttribute::CacheInfo(info) if info.ifa_valid != FOR_EVER => {
                    this.lifetime = Some((info.ifa_valid, info.ifa_preferred));
                }
                _ => {}
            }
        }
        this.flags &= CHOSEN.bits();
        // Where both are there, "address" is the far end of a point-to-point link.
        let own = local.or(address)?;
        this.peer = address.filter(|ip| *ip != own);
        this.network = IpNetwork::new(own, message.header.prefix_len).ok()?;
        Some(this)
    }

    fn attributes(&self) -> Vec<AddressAttribute> {
        let mut flags = AddressFlags::from_bits_retain(self.flags);
        if self.network.is_ipv6() {
            flags |= AddressFlags::Nodad;
        }
        let mut attributes = vec![
            AddressAttribute::Local(self.network.ip()),
            AddressAttribute::Address(self.peer.unwrap_or(self.network.ip())),
            AddressAttribute::Flags(flags),
        ];
        attributes.extend(self.broadcast.map(AddressAttribute::Broadcast));
        attributes.extend(self.label.clone().map(AddressAttribute::Label));
        attributes.extend(self.metric.map(AddressAttribute::RoutePriority));
        attributes.extend(self.lifetime.map(|(valid, preferred)| {
            let mut info = CacheInfo::default();
            (info.ifa_valid, info.ifa_preferred) = (valid, preferred);
            AddressAttribute::CacheInfo(info)
        }));
        attributes
    }
}

impl Netlink {
    /// The addresses of an interface, IPv4 first, in the kernel's order.
    ///
    /// # Errors
    /// As for every method.
    pub fn addresses(&self, index: u32) -> Result<Vec<Address>> {
        let request = self
            .handle
            .address()
            .get()
            .set_link_index_filter(index)
            .execute();
        let what = || format!("list the addresses of interface {index}");
        let messages: Vec<AddressMessage> = self.wait(what, request.try_collect())?;
        let mut addresses: Vec<_> = messages.iter().filter_map(Address::from_message).collect();
        addresses.sort_by_key(|address| address.network.is_ipv6());
        Ok(addresses)
    }

    /// Adds an address with its prefix; an IPv6 address is usable at once, without the second of
    /// duplicate detection, because nobody else has given it out.
    ///
    /// # Errors
    /// As for every method; EEXIST if it is there already.
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

    /// Gives an interface an address as it was listed by [`Self::addresses`], there or on another
    /// interface. One that is there already is left as it is.
    ///
    /// # Errors
    /// As for every method.
    pub fn restore_address(&self, index: u32, address: &Address) -> Result<()> {
        let mut request =
            self.handle
                .address()
                .add(index, address.network.ip(), address.network.prefix());
        let message = request.message_mut();
        message.header.scope = address.scope.into();
        message.attributes = address.attributes();
        let what = || format!("give the address {} to interface {index}", address.network);
        match self.wait(what, request.execute()) {
            Err(error) if error.errno() == Some(libc::EEXIST) => Ok(()),
            other => other,
        }
    }

    /// Takes an address away. With an IPv4 address go the routes that use it, and the other
    /// addresses of the same prefix that came after it, unless `promote_secondaries` is set.
    ///
    /// # Errors
    /// As for every method; EADDRNOTAVAIL if it is not there.
    pub fn delete_address(&self, index: u32, address: IpNetwork) -> Result<()> {
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.header.prefix_len = address.prefix();
        message.header.family = match address {
            IpNetwork::V4(_) => AddressFamily::Inet,
            IpNetwork::V6(_) => AddressFamily::Inet6,
        };
        message.attributes = vec![AddressAttribute::Local(address.ip())];
        let request = self.handle.address().del(message).execute();
        let what = || format!("take the address {address} from interface {index}");
        self.wait(what, request)
    }
}
