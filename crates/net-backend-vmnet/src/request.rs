//! From a configuration to the dictionary that the framework takes.

use crate::framework::{MODE_BRIDGED, MODE_HOST, MODE_SHARED};
use crate::key::{Dictionary, Key, Value};
use crate::{VmnetConfig, VmnetMode};

/// What to ask for. The configuration has been checked.
pub(crate) fn request(config: &VmnetConfig) -> Dictionary {
    let mut request = Dictionary::default();
    let mut set = |key, value| request.set(key, value);
    let text = |text: &dyn ToString| Value::Text(text.to_string());

    match &config.mode {
        VmnetMode::Shared => set(Key::OperationMode, Value::Number(MODE_SHARED.into())),
        VmnetMode::HostOnly => set(Key::OperationMode, Value::Number(MODE_HOST.into())),
        VmnetMode::Bridged { interface } => {
            set(Key::OperationMode, Value::Number(MODE_BRIDGED.into()));
            set(Key::SharedInterfaceName, text(interface));
        }
        // The network has the mode.
        VmnetMode::Network => {}
    }
    if let Some(id) = config.interface_id {
        set(Key::InterfaceId, Value::Uuid(id.0));
    }
    if config.mac.is_some() {
        set(Key::AllocateMacAddress, Value::Flag(false));
    }
    if let Some(mtu) = config.mtu {
        set(Key::Mtu, Value::Number(mtu.into()));
    }
    if let Some((start, end)) = config.dhcp {
        set(Key::StartAddress, text(&start));
        set(Key::EndAddress, text(&end));
    }
    if let Some(mask) = config.mask {
        set(Key::SubnetMask, text(&mask));
    }
    if let Some(prefix) = config.nat66_prefix {
        set(Key::Nat66Prefix, text(&prefix));
    }
    if let Some(id) = config.network_id {
        set(Key::NetworkIdentifier, Value::Uuid(id.0));
    }
    if let Some((address, mask)) = config.host_address {
        set(Key::HostIpAddress, text(&address));
        set(Key::HostSubnetMask, text(&mask));
    }
    if let Some(address) = config.host_ipv6 {
        set(Key::HostIpv6Address, text(&address));
    }
    if let Some(isolation) = config.isolation {
        set(Key::EnableIsolation, Value::Flag(isolation));
    }
    // A name that is not asked for need not be there: these are newer than the others.
    if config.tso {
        set(Key::EnableTso, Value::Flag(true));
    }
    if config.checksum_offload {
        set(Key::EnableChecksumOffload, Value::Flag(true));
    }
    if config.virtio_header {
        set(Key::EnableVirtioHeader, Value::Flag(true));
    }
    request
}
