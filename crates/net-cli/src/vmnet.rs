//! `--vmnet`: an interface of vmnet.framework in place of the gateway.
//!
//! macOS then gives the addresses and has the way out; this program is the switch between its
//! guests and that interface. Two routers and two DHCP servers on one network would be one of each
//! too many, so that the gateway is left out, and what it would do is refused.

use std::fmt;
use std::str::FromStr;

use net_backend_vmnet::{Vmnet, VmnetConfig};
use net_manager::NetworkBackend;

use crate::options::NetworkOptions;
use crate::output::say;
use crate::place::Place;
use crate::usage::UsageError;

/// Where the interface leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VmnetUplink {
    Shared,
    HostOnly,
    /// The BSD name of a physical interface.
    Bridged(String),
}

impl FromStr for VmnetUplink {
    type Err = UsageError;

    fn from_str(text: &str) -> Result<Self, UsageError> {
        match text.split_once('=') {
            None if text == "shared" => Ok(Self::Shared),
            None if text == "host-only" => Ok(Self::HostOnly),
            Some(("bridged", name)) if !name.is_empty() => Ok(Self::Bridged(name.to_owned())),
            _ => Err(UsageError::new(format!(
                "vmnet `{text}` is not shared, host-only or bridged=INTERFACE such as bridged=en0"
            ))),
        }
    }
}

impl fmt::Display for VmnetUplink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared => f.write_str("shared"),
            Self::HostOnly => f.write_str("host-only"),
            Self::Bridged(name) => write!(f, "bridged={name}"),
        }
    }
}

impl VmnetUplink {
    /// The interface for a network of this MTU; a bridged one has that of the network it joins.
    fn config(&self, mtu: u16) -> VmnetConfig {
        match self {
            Self::Shared => VmnetConfig::shared().with_mtu(mtu),
            Self::HostOnly => VmnetConfig::host_only().with_mtu(mtu),
            Self::Bridged(name) => VmnetConfig::bridged(name.as_str()),
        }
    }

    /// Starts the interface.
    pub(crate) fn open(&self, mtu: u16) -> Result<Box<dyn NetworkBackend>, UsageError> {
        let vmnet = Vmnet::new(self.config(mtu)).map_err(UsageError::new)?;
        let info = vmnet.info();
        if let (Some(gateway), Some(mask)) = (info.gateway, info.subnet_mask) {
            say(format_args!("vmnet {self} gateway {gateway} mask {mask}"));
        }
        Ok(Box::new(vmnet))
    }
}

/// Whether the network has a gateway of its own; refuses what it cannot do without one.
pub(crate) fn check(network: &NetworkOptions, options: &[Place]) -> Result<bool, UsageError> {
    let uplinks = options
        .iter()
        .filter(|option| matches!(option, Place::Vmnet(_)));
    let refused = match uplinks.count() {
        0 => return Ok(true),
        1 if !network.publish.is_empty() => "-p: ports are published by the gateway, not by vmnet",
        1 if network.subnet.is_some() => "--subnet: macOS gives the addresses",
        1 if !network.dns.is_empty() => "--dns: macOS is the resolver",
        1 if network.host_loopback => "--host-loopback: macOS is the gateway",
        1 if network.mode.is_some() => "--mode: vmnet has modes of its own",
        1 => return Ok(false),
        _ => "given twice: a network has one way out",
    };
    Err(UsageError::new(format!("--vmnet and {refused}")))
}

/// What keeps this process from the framework. An entitlement cannot be seen from here; where it is
/// missing, only root helps.
#[cfg(target_os = "macos")]
pub(crate) fn probe() -> Result<String, String> {
    let list = Vmnet::shared_interfaces().map_err(|err| err.to_string())?;
    let bridgeable = list.join(", ");
    if rustix::process::geteuid().is_root() {
        Ok(format!("root; can be bridged: {bridgeable}"))
    } else {
        Err(format!(
            "needs root, or the entitlement com.apple.vm.networking; can be bridged: {bridgeable}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_in_its_spelling() {
        for text in ["shared", "host-only", "bridged=en0"] {
            let uplink: VmnetUplink = text.parse().unwrap();
            assert_eq!(uplink.to_string(), text);
            assert_eq!(uplink.config(1500).validate(), Ok(()));
        }
        for bad in ["", "nat", "bridged", "bridged=", "shared=en0", "host=only"] {
            assert!(bad.parse::<VmnetUplink>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_needs_a_gateway_is_refused() {
        let vmnet = [Place::Vmnet(VmnetUplink::Shared)];
        let check = |network: NetworkOptions| super::check(&network, &vmnet);
        assert!(!check(NetworkOptions::default()).unwrap());
        assert!(super::check(&NetworkOptions::default(), &[]).unwrap());
        let publish = NetworkOptions {
            publish: vec!["80:80".parse().unwrap()],
            ..NetworkOptions::default()
        };
        let error = check(publish).unwrap_err().to_string();
        assert!(error.contains("-p"), "{error}");
        let loopback = NetworkOptions {
            host_loopback: true,
            ..NetworkOptions::default()
        };
        assert!(check(loopback).is_err());
        let twice = [vmnet[0].clone(), vmnet[0].clone()];
        assert!(super::check(&NetworkOptions::default(), &twice).is_err());
    }

    #[cfg(not(target_os = "macos"))]
    #[test]
    fn another_system_says_so() {
        let error = VmnetUplink::Shared.open(1500).err().unwrap().to_string();
        assert!(error.contains("not supported on this system"), "{error}");
    }
}
