//! Which interface to ask macOS for.

use net_wire::MacAddr;

use crate::ConfigError;

/// Smallest MTU accepted, in bytes: what IPv6 asks of every link (RFC 8200, section 5).
pub const MIN_MTU: u16 = 1280;

/// Longest name of an interface in bytes: `IFNAMSIZ` of macOS without the final zero.
const MAX_NAME: usize = 15;

/// Whom the guest reaches.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum VmnetMode {
    /// The host, other guests in this mode, and the world behind the NAT of macOS.
    Shared,
    /// The host and other guests in this mode.
    HostOnly,
    /// The network of a physical interface, as a station of its own.
    Bridged {
        /// The BSD name of the interface, such as `en0`.
        interface: String,
    },
}

/// An interface to ask for. Nothing is checked until [`Self::validate`], which `Vmnet::new` calls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VmnetConfig {
    mode: VmnetMode,
    mtu: Option<u16>,
    mac: Option<MacAddr>,
}

impl VmnetConfig {
    const fn new(mode: VmnetMode) -> Self {
        Self {
            mode,
            mtu: None,
            mac: None,
        }
    }

    /// [`VmnetMode::Shared`]; MTU and hardware address are those macOS chooses.
    pub const fn shared() -> Self {
        Self::new(VmnetMode::Shared)
    }

    /// [`VmnetMode::HostOnly`]; MTU and hardware address are those macOS chooses.
    pub const fn host_only() -> Self {
        Self::new(VmnetMode::HostOnly)
    }

    /// [`VmnetMode::Bridged`] to the interface of this name, such as `en0`.
    pub fn bridged(interface: impl Into<String>) -> Self {
        Self::new(VmnetMode::Bridged {
            interface: interface.into(),
        })
    }

    /// Asks for an MTU, in bytes of an IP packet. The system may grant another: what holds is in
    /// the capabilities of the back end. Not for bridged interfaces.
    #[must_use]
    pub const fn with_mtu(mut self, mtu: u16) -> Self {
        self.mtu = Some(mtu);
        self
    }

    /// The guest brings its own hardware address, this one: macOS is told to make none up. The
    /// framework is not told which, so nothing keeps the guest to it here.
    #[must_use]
    pub const fn with_mac(mut self, mac: MacAddr) -> Self {
        self.mac = Some(mac);
        self
    }

    /// Whom the guest reaches.
    pub const fn mode(&self) -> &VmnetMode {
        &self.mode
    }

    /// The MTU asked for, in bytes; `None` leaves it to macOS.
    pub const fn mtu(&self) -> Option<u16> {
        self.mtu
    }

    /// The guest's own hardware address; `None` has macOS make one up.
    pub const fn mac(&self) -> Option<MacAddr> {
        self.mac
    }

    /// Checks what can be known without asking the system.
    ///
    /// # Errors
    /// The first [`ConfigError`] found.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if let VmnetMode::Bridged { interface } = &self.mode {
            // A zero byte, among others, would not survive the way into the framework.
            let fits = (1..=MAX_NAME).contains(&interface.len());
            if !fits || !interface.bytes().all(|c| c.is_ascii_graphic() && c != b'/') {
                return Err(ConfigError::InterfaceName(interface.clone()));
            }
            if self.mtu.is_some() {
                return Err(ConfigError::BridgedMtu);
            }
        }
        match self.mtu {
            Some(mtu) if mtu < MIN_MTU => return Err(ConfigError::Mtu(mtu)),
            _ => {}
        }
        match self.mac {
            Some(mac) if !mac.is_unicast() => Err(ConfigError::Mac(mac)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    #[test]
    fn each_builder_sets_its_own_part() {
        let shared = VmnetConfig::shared();
        assert_eq!(shared.mode(), &VmnetMode::Shared);
        assert_eq!((shared.mtu(), shared.mac()), (None, None));
        let host = VmnetConfig::host_only().with_mtu(9000).with_mac(MAC);
        assert_eq!(host.mode(), &VmnetMode::HostOnly);
        assert_eq!((host.mtu(), host.mac()), (Some(9000), Some(MAC)));
        assert_eq!(host.validate(), Ok(()));
        let bridged = VmnetConfig::bridged("en0").with_mac(MAC);
        let interface = String::from("en0");
        assert_eq!(bridged.mode(), &VmnetMode::Bridged { interface });
        assert_eq!(bridged.validate(), Ok(()));
    }

    #[test]
    fn an_mtu_has_a_floor_and_no_place_in_bridged_mode() {
        for config in [VmnetConfig::shared(), VmnetConfig::host_only()] {
            for mtu in [0, 68, 1279] {
                let config = config.clone().with_mtu(mtu);
                assert_eq!(config.validate(), Err(ConfigError::Mtu(mtu)));
            }
            for mtu in [1280, 1500, 9000, u16::MAX] {
                assert_eq!(config.clone().with_mtu(mtu).validate(), Ok(()));
            }
        }
        let bridged = VmnetConfig::bridged("en0").with_mtu(1500);
        assert_eq!(bridged.validate(), Err(ConfigError::BridgedMtu));
    }

    #[test]
    fn a_station_has_a_unicast_address() {
        let group = MacAddr([0x01, 0, 0x5e, 0, 0, 1]);
        for mac in [MacAddr::ZERO, MacAddr::BROADCAST, group] {
            let config = VmnetConfig::shared().with_mac(mac);
            assert_eq!(config.validate(), Err(ConfigError::Mac(mac)));
        }
    }

    #[test]
    fn names_of_interfaces() {
        for name in ["en0", "bridge100", "a", "fifteen-bytes-1"] {
            assert_eq!(VmnetConfig::bridged(name).validate(), Ok(()), "{name}");
        }
        for name in ["", "sixteen-bytes-12", "en 0", "en0\0", "en/0", "\u{e9}n0"] {
            let error = VmnetConfig::bridged(name).validate();
            assert_eq!(error, Err(ConfigError::InterfaceName(name.into())));
        }
        let text = ConfigError::InterfaceName("en0\n".into()).to_string();
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}
