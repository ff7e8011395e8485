//! A network in the kernel, as its own process sees it: the worker behind one port of the bridge,
//! and the way to whoever holds the privileges.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, mpsc};

use ipnetwork::{Ipv4Network, Ipv6Network};
use net_backend::NetworkBackend;
use net_backend_linux::ra_socket::RaSocket;
use net_usernet::Protocol;
use net_wire::MacAddr;

use crate::config::{NetworkConfig, NetworkMode, PublishedPort};
use crate::engine::Choice;
use crate::error::ManagerError;
use crate::kernel::{
    KernelAttach, KernelForward, KernelNetwork, KernelOps, KernelPort, MacvtapPort, NetnsPort,
    StateDir, TapPort,
};
use crate::mac::mac_for;
use crate::network::{Carrier, Network, Running};
use crate::worker::{
    Attach, AttachOptions, AttachmentId, AttachmentInfo, Command, ForwardId, PublishedAs, Worker,
};

/// Bits of the prefix in which guests form their addresses (RFC 7421).
const PREFIX6: u8 = 64;

/// What the process that carries packets has of a network in the kernel.
pub struct KernelSide {
    /// The port of its bridge ([`KernelNetwork::service_port`]).
    pub service: Box<dyn NetworkBackend>,
    /// The socket by which the host advertises itself as the router of IPv6
    /// ([`KernelNetwork::router_socket`]), or why there is no IPv6 ([`KernelNetwork::no_ipv6`]).
    pub router: Result<RaSocket, String>,
}

impl KernelSide {
    /// That of a network which this process has made.
    ///
    /// # Errors
    /// As [`KernelNetwork::service_port`] and [`KernelNetwork::router_socket`].
    pub fn of(network: &KernelNetwork) -> Result<Self, ManagerError> {
        let service = Box::new(network.service_port()?);
        let router = match network.router_socket()? {
            Some((socket, _)) => Ok(socket),
            None => Err(network.no_ipv6().unwrap_or_default().to_owned()),
        };
        Ok(Self { service, router })
    }
}

impl std::fmt::Debug for KernelSide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelSide")
            .field("router", &self.router)
            .finish_non_exhaustive()
    }
}

/// What the process of a network in the kernel keeps of it.
pub(crate) struct InKernel {
    /// Whether the network has IPv6, of which the host is the router.
    ipv6: bool,
    ops: Arc<dyn KernelOps>,
    attached: BTreeMap<AttachmentId, KernelPort>,
    forwards: BTreeMap<ForwardId, (Protocol, SocketAddr)>,
    next_forward: u64,
}

/// A guest behind the bridge of a network in the kernel.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct KernelAttachment {
    /// Its place, as of every guest. In bridge mode its address is the outside network's to give,
    /// and the one here says nothing.
    pub info: AttachmentInfo,
    /// The hardware address that the guest is to have: with another, it gets another address.
    pub mac: [u8; 6],
    /// What it hangs on.
    pub port: KernelPort,
}

impl std::fmt::Debug for InKernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InKernel")
            .field("attached", &self.attached)
            .field("forwards", &self.forwards)
            .finish_non_exhaustive()
    }
}

/// Makes the network in the kernel and starts its worker, all in this process.
pub(crate) fn start(config: &NetworkConfig, choice: Choice) -> Result<Running, ManagerError> {
    let network = KernelNetwork::create(config, &StateDir::for_network(config)?)?;
    let side = KernelSide::of(&network)?;
    start_with(config, choice, Arc::new(network), side)
}

fn start_with(
    config: &NetworkConfig,
    choice: Choice,
    ops: Arc<dyn KernelOps>,
    side: KernelSide,
) -> Result<Running, ManagerError> {
    let (commands, receiver) = mpsc::channel();
    let KernelSide { service, router } = side;
    let ipv6 = router.is_ok();
    let mut config = config.clone();
    config.ipv6 &= ipv6;
    let (mut worker, waker) = Worker::in_kernel(&config, receiver, service)?;
    worker.speak_for_host(router, &config)?;
    let kernel = InKernel {
        ipv6,
        ops,
        attached: BTreeMap::new(),
        forwards: BTreeMap::new(),
        next_forward: 0,
    };
    let carrier = Carrier {
        kernel: Some(kernel),
    };
    Running::begin(&config.name, choice, (worker, waker, commands), carrier)
}

impl Network {
    /// Starts the worker of a network that another process has made in the kernel: `side` is what
    /// that has handed over, and `ops` asks it for changes. `why` is what [`crate::Status::why`]
    /// says.
    ///
    /// # Errors
    /// As [`Network::start`].
    pub fn start_in_kernel(
        &self,
        side: KernelSide,
        ops: Arc<dyn KernelOps>,
        why: impl Into<String>,
    ) -> Result<(), ManagerError> {
        let mut running = self.lock();
        if running.is_some() {
            return Err(ManagerError::AlreadyRunning);
        }
        let choice = Choice::kernel(why);
        let config = choice.apply(self.config());
        *running = Some(start_with(&config, choice, ops, side)?);
        Ok(())
    }

    /// Makes a TAP device for a virtual machine that opens it by name. Its guest is to have the
    /// hardware address of the answer, derived from the device's name unless `options` has one, and
    /// is then given the address of the answer by DHCP.
    ///
    /// # Errors
    /// [`ManagerError::NotInKernel`] for a network that is not; as the kernel refuses.
    pub fn attach_tap(
        &self,
        tap: TapPort,
        options: AttachOptions,
    ) -> Result<KernelAttachment, ManagerError> {
        let name = tap.name.clone();
        self.attach_in_kernel(&name, options, |_, _| KernelAttach::Tap(tap))
    }

    /// Puts an interface with an address, a route and a hardware address of its own into a network
    /// namespace: the one that `ip netns` knows by this name, or that of a process.
    ///
    /// # Errors
    /// As [`Network::attach_tap`].
    pub fn attach_netns(
        &self,
        namespace: &str,
        interface: &str,
        vlan: Option<u16>,
        options: AttachOptions,
    ) -> Result<KernelAttachment, ManagerError> {
        let router = match self.config().mode {
            NetworkMode::Nat => Some(self.gateway()?),
            NetworkMode::HostOnly | NetworkMode::Bridge => None,
        };
        let prefix = self.config().subnet.prefix();
        let addressed = self.config().mode != NetworkMode::Bridge;
        self.attach_in_kernel(namespace, options, |info, mac| {
            let address = Ipv4Network::new(info.address, prefix).ok();
            KernelAttach::Netns(NetnsPort {
                namespace: namespace.to_owned(),
                interface: interface.to_owned(),
                mac,
                address: address.filter(|_| addressed).map(|it| (it, router)),
                address6: info
                    .address6
                    .and_then(|ip| Ipv6Network::new(ip, PREFIX6).ok()),
                vlan,
            })
        })
    }

    /// Makes a macvtap on a physical interface, in bridge mode. Its guest is to have the hardware
    /// address of the answer.
    ///
    /// # Errors
    /// As [`Network::attach_tap`].
    pub fn attach_macvtap(
        &self,
        parent: &str,
        name: &str,
        owner: Option<u32>,
        options: AttachOptions,
    ) -> Result<KernelAttachment, ManagerError> {
        self.attach_in_kernel(name, options, |_, mac| {
            KernelAttach::Macvtap(MacvtapPort {
                parent: parent.to_owned(),
                name: name.to_owned(),
                mac,
                owner,
            })
        })
    }

    fn attach_in_kernel(
        &self,
        name: &str,
        mut options: AttachOptions,
        what: impl FnOnce(&AttachmentInfo, [u8; 6]) -> KernelAttach,
    ) -> Result<KernelAttachment, ManagerError> {
        let ops = self.ops()?.ok_or(ManagerError::NotInKernel)?;
        let name = options.name.get_or_insert_with(|| name.to_owned());
        let derived = mac_for(&self.config().name, name).0;
        let mac = *options.mac.get_or_insert(derived);
        if self.with_kernel(|kernel| kernel.ipv6)? == Some(true) {
            let formed = self.config().address6(MacAddr(mac));
            options.address6 = options.address6.or(formed.map(|it| it.ip()));
        }
        let info = self.ask(|reply| Command::Attach {
            what: Attach::Trunk,
            options,
            reply,
        })?;
        // The kernel is asked without a lock: a guest's frames go on meanwhile.
        let id = info.id;
        let port = match ops.attach(&what(&info, mac)) {
            Ok(port) => port,
            Err(err) => {
                self.ask(|reply| Command::Detach { id, reply })?;
                return Err(err);
            }
        };
        self.with_kernel(|kernel| kernel.attached.insert(id, port.clone()))?;
        self.publish_configured()?;
        Ok(KernelAttachment { info, mac, port })
    }

    /// Takes away what an attachment hangs on, if that is in the kernel.
    pub(crate) fn detach_from_kernel(&self, id: AttachmentId) -> Result<(), ManagerError> {
        let Some(ops) = self.ops()? else {
            return Ok(());
        };
        let port = self.with_kernel(|kernel| kernel.attached.get(&id).cloned())?;
        if let Some(port) = port.flatten() {
            ops.detach(&port.interface)?;
            self.with_kernel(|kernel| kernel.attached.remove(&id))?;
        }
        Ok(())
    }

    /// Publishes a port by the kernel's rules; `None` if the network is not in the kernel.
    pub(crate) fn publish_in_kernel(
        &self,
        port: &PublishedPort,
    ) -> Result<Option<PublishedAs>, ManagerError> {
        let Some(ops) = self.ops()? else {
            return Ok(None);
        };
        if self.config().mode == NetworkMode::Bridge {
            return Err(ManagerError::NoGateway(port.bind.port()));
        }
        let forward = KernelForward {
            protocol: port.protocol,
            bind: port.bind,
            guest: (self.guest_of(port)?, port.guest_port).into(),
        };
        let address = ops.forward(&forward)?;
        let id = self.with_kernel(|kernel| {
            let id = ForwardId(kernel.next_forward);
            kernel.next_forward += 1;
            kernel.forwards.insert(id, (port.protocol, address));
            id
        })?;
        Ok(id.map(|id| PublishedAs {
            id,
            address,
            guest: forward.guest,
        }))
    }

    /// The address that a published port leads to: of the family of the port, because the kernel
    /// translates between no two.
    fn guest_of(&self, port: &PublishedPort) -> Result<IpAddr, ManagerError> {
        if let (Some(guest), false) = (port.guest, port.bind.is_ipv6()) {
            return Ok(guest.into());
        }
        let status = self.status()?;
        if let (Some(why), true) = (status.no_ipv6, port.bind.is_ipv6()) {
            let bind = port.bind;
            return Err(ManagerError::NoIpv6 { bind, why });
        }
        let mut attachments = status.attachments.into_iter();
        let wanted = |it: &AttachmentInfo| port.guest.is_none_or(|guest| it.address == guest);
        let found = attachments.find(wanted);
        match (found, port.bind) {
            (Some(it), SocketAddr::V4(_)) => Ok(it.address.into()),
            (Some(it), SocketAddr::V6(bind)) => match it.address6 {
                Some(address6) => Ok(address6.into()),
                None => Err(ManagerError::NoAddress6 {
                    bind: bind.into(),
                    guest: it.address,
                }),
            },
            (None, _) => Err(ManagerError::NoGuest(port.bind.port())),
        }
    }

    /// Takes a port back; false if the network is not in the kernel.
    pub(crate) fn unpublish_in_kernel(&self, id: ForwardId) -> Result<bool, ManagerError> {
        let Some(ops) = self.ops()? else {
            return Ok(false);
        };
        let forward = self.with_kernel(|kernel| kernel.forwards.remove(&id))?;
        if let Some((protocol, address)) = forward.flatten() {
            ops.unforward(protocol, address)?;
        }
        Ok(true)
    }

    /// The way to whoever holds the privileges, of a network in the kernel.
    fn ops(&self) -> Result<Option<Arc<dyn KernelOps>>, ManagerError> {
        self.with_kernel(|kernel| Arc::clone(&kernel.ops))
    }

    fn with_kernel<T>(
        &self,
        work: impl FnOnce(&mut InKernel) -> T,
    ) -> Result<Option<T>, ManagerError> {
        let mut running = self.lock();
        let running = running.as_mut().ok_or(ManagerError::NotRunning)?;
        Ok(running.carrier.kernel.as_mut().map(work))
    }
}
