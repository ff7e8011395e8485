//! [`Vmnet`]: an interface of vmnet.framework.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use net_backend::{BackendError, BackendStats, Capabilities, NetworkBackend, Offloads, TxFrame};

use crate::config::VmnetMode;
use crate::forwarding::{FAMILY_V4, FAMILY_V6, family};
use crate::framework::Framework;
use crate::health::Health;
use crate::limits::Limits;
use crate::network::VmnetNetwork;
use crate::pause::Pause;
use crate::rx::{Receiver, RxFormat};
use crate::session::{Patience, Session};
use crate::tx::Sender;
use crate::wake::Wake;
use crate::{
    ConfigError, ForwardProtocol, ForwardRule, VmnetConfig, VmnetError, VmnetInfo, info, platform,
};

/// An interface of vmnet.framework.
///
/// It is driven as a [`NetworkBackend`], or packet by packet with [`Self::read_packet`] and
/// [`Self::write_packet`]. Dropping it stops the interface and waits, for a bounded time, until the
/// framework says that it has stopped; that works on any thread.
pub struct Vmnet {
    pub(crate) session: Session,
    config: VmnetConfig,
    info: VmnetInfo,
    pub(crate) capabilities: Capabilities,
    pub(crate) agreed: Offloads,
    pub(crate) receiver: Receiver,
    pub(crate) sender: Sender,
    pub(crate) read_packets: usize,
    pub(crate) health: Health,
    pub(crate) rx_pause: Pause,
    pub(crate) tx_pause: Pause,
    pub(crate) stats: BackendStats,
}

impl Vmnet {
    /// Starts an interface. Waits for the framework to answer, up to 30 seconds, so call it while
    /// setting up and not in a loop of events. Needs root or the entitlement
    /// `com.apple.vm.networking`.
    ///
    /// # Errors
    /// [`VmnetError::Config`] if the configuration cannot hold, [`VmnetError::NotBridgeable`],
    /// [`VmnetError::TooOld`] for an option that this macOS does not have, [`VmnetError::Refused`]
    /// with what the framework says, [`VmnetError::Timeout`];
    /// [`VmnetError::UnsupportedSystem`] on any system but macOS.
    pub fn new(config: VmnetConfig) -> Result<Self, VmnetError> {
        Self::start(platform::framework()?, None, config, Patience::default())
    }

    /// An interface in shared mode, with what macOS chooses.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn new_shared() -> Result<Self, VmnetError> {
        Self::new(VmnetConfig::shared())
    }

    /// An interface in host-only mode, with what macOS chooses.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn new_host_only() -> Result<Self, VmnetError> {
        Self::new(VmnetConfig::host_only())
    }

    /// An interface bridged to a physical one, such as `en0`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn new_bridged(interface: impl Into<String>) -> Result<Self, VmnetError> {
        Self::new(VmnetConfig::bridged(interface))
    }

    /// An interface on a network (macOS 26), from a configuration of
    /// [`VmnetConfig::on_network`].
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn on_network(network: &VmnetNetwork, config: VmnetConfig) -> Result<Self, VmnetError> {
        let framework = Arc::clone(&network.framework);
        Self::start(framework, Some(network), config, Patience::default())
    }

    /// The names of the interfaces that can be bridged.
    ///
    /// # Errors
    /// [`VmnetError::UnsupportedSystem`] on any system but macOS; [`VmnetError::NoInterface`] if
    /// the framework does not tell.
    pub fn shared_interfaces() -> Result<Vec<String>, VmnetError> {
        let framework = platform::framework()?;
        framework.shared_interfaces().ok_or(VmnetError::NoInterface)
    }

    pub(crate) fn start(
        framework: Arc<dyn Framework>,
        network: Option<&VmnetNetwork>,
        config: VmnetConfig,
        patience: Patience,
    ) -> Result<Self, VmnetError> {
        config.validate()?;
        if network.is_some() != (config.mode == VmnetMode::Network) {
            return Err(ConfigError::NetworkMode.into());
        }
        let wake = Wake::new()
            .map(Arc::new)
            .map_err(|error| BackendError::host("make a pair of sockets for events", &error))?;
        let (session, reply) = Session::start(framework, network, &config, wake, patience)?;
        let info = VmnetInfo::from_reply(&reply);
        let limits = info::limits(&reply);
        let offloads = offloads(&config);
        let format = RxFormat {
            header: config.virtio_header,
            // Without a header nothing tells what was left undone.
            declared: if config.virtio_header {
                Offloads::NONE
            } else {
                offloads & Offloads::RX_ALL
            },
            mtu: limits.mtu,
            max_frame: limits.max_packet,
        };
        let mut stats = BackendStats::default();
        stats.peers = 1;
        Ok(Self {
            session,
            capabilities: capabilities(&config, &info, &limits, offloads),
            info,
            agreed: Offloads::NONE,
            receiver: Receiver::new(&limits, format),
            sender: Sender::new(&limits, config.virtio_header),
            read_packets: limits.read,
            config,
            health: Health::default(),
            rx_pause: Pause::Off,
            tx_pause: Pause::Off,
            stats,
        })
    }

    /// What the interface was made from.
    pub const fn config(&self) -> &VmnetConfig {
        &self.config
    }

    /// What the framework said of the interface when it started.
    pub const fn info(&self) -> &VmnetInfo {
        &self.info
    }

    /// Longest frame in bytes, Ethernet header included, as the framework reported it.
    pub const fn max_packet_size(&self) -> usize {
        self.info.max_packet_size
    }

    /// Whether the interface has neither been stopped nor is gone.
    pub const fn is_running(&self) -> bool {
        !self.session.is_stopped() && !self.health.is_gone()
    }

    /// Reads one packet into `buffer` and returns its length in bytes; 0 means that none is there
    /// now. [`NetworkBackend::source`] becomes readable when one comes.
    ///
    /// # Errors
    /// [`VmnetError::ShortBuffer`] if the buffer is shorter than [`Self::max_packet_size`], before
    /// anything is read; [`VmnetError::NotRunning`]; [`VmnetError::Backend`].
    pub fn read_packet(&mut self, buffer: &mut [u8]) -> Result<usize, VmnetError> {
        let (len, need) = (buffer.len(), self.max_packet_size());
        if len < need {
            return Err(VmnetError::ShortBuffer { len, need });
        }
        let mut copied = 0;
        let result = self.receive(1, &mut |packets| {
            for packet in packets {
                copied = packet.copy_range(0, buffer);
            }
        });
        match result {
            Ok(_) => Ok(copied),
            Err(error) => Err(ended(error)),
        }
    }

    /// Writes one packet, a whole Ethernet frame, and returns its length in bytes; 0 means that the
    /// framework is full: try again in a moment.
    ///
    /// # Errors
    /// [`VmnetError::PacketLength`] if it is no frame of this interface;
    /// [`VmnetError::NotRunning`]; [`VmnetError::Backend`].
    pub fn write_packet(&mut self, packet: &[u8]) -> Result<usize, VmnetError> {
        let len = packet.len();
        let dropped = self.stats.tx_dropped();
        let taken = self
            .transmit(&[TxFrame::plain(&[packet.into()])])
            .map_err(ended)?;
        if self.stats.tx_dropped() > dropped {
            let most = self.max_packet_size();
            return Err(VmnetError::PacketLength { len, most });
        }
        Ok(taken * len)
    }

    /// Stops the interface and waits until the framework says that it has stopped. At once if it
    /// has been stopped before.
    ///
    /// # Errors
    /// [`VmnetError::Refused`] or [`VmnetError::Timeout`]; the interface counts as stopped even so.
    pub fn stop(&mut self) -> Result<(), VmnetError> {
        self.session.stop()
    }

    /// Has a port of the host lead to a guest (shared mode, macOS 12).
    ///
    /// # Errors
    /// [`VmnetError::Config`] for a rule that cannot be, [`VmnetError::TooOld`],
    /// [`VmnetError::Refused`], [`VmnetError::Timeout`], [`VmnetError::NotRunning`].
    pub fn add_forward(&mut self, rule: ForwardRule) -> Result<(), VmnetError> {
        if !rule.is_sound() {
            return Err(ConfigError::Forward(rule).into());
        }
        self.session.add_rule(&rule.raw())
    }

    /// Takes a port of the host back. `address` says by its family which rule is meant.
    ///
    /// # Errors
    /// As [`Self::add_forward`].
    pub fn remove_forward(
        &mut self,
        protocol: ForwardProtocol,
        external_port: u16,
        address: IpAddr,
    ) -> Result<(), VmnetError> {
        self.session
            .remove_rule(protocol.number(), external_port, family(address))
    }

    /// The ports of the host that lead to guests, those of IPv4 first.
    ///
    /// # Errors
    /// As [`Self::add_forward`].
    pub fn forwards(&mut self) -> Result<Vec<ForwardRule>, VmnetError> {
        let mut all = self.session.rules(FAMILY_V4)?;
        all.extend(self.session.rules(FAMILY_V6)?);
        Ok(all.into_iter().filter_map(ForwardRule::from_raw).collect())
    }
}

/// What can be agreed to. Fixed by what the interface was started with; of UDP the framework has no
/// super-frames.
fn offloads(config: &VmnetConfig) -> Offloads {
    let mut offloads = Offloads::NONE;
    if config.virtio_header || config.checksum_offload {
        offloads = Offloads::RX_CSUM | Offloads::TX_CSUM;
    }
    if config.tso {
        let v4 = Offloads::RX_TSO4 | Offloads::TX_TSO4;
        let v6 = Offloads::RX_TSO6 | Offloads::TX_TSO6;
        offloads = offloads | v4 | v6;
    }
    offloads
}

fn capabilities(
    config: &VmnetConfig,
    info: &VmnetInfo,
    limits: &Limits,
    offloads: Offloads,
) -> Capabilities {
    Capabilities {
        offloads,
        mtu: limits.mtu,
        mac: config.mac.or(info.mac),
        queue_pairs: 1,
        max_frame: limits.max_packet,
    }
}

/// The end of an interface in the words of this crate.
fn ended(error: BackendError) -> VmnetError {
    match error {
        BackendError::Disconnected => VmnetError::NotRunning,
        other => other.into(),
    }
}

impl fmt::Debug for Vmnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vmnet")
            .field("config", &self.config)
            .field("info", &self.info)
            .field("running", &self.is_running())
            .finish_non_exhaustive()
    }
}
