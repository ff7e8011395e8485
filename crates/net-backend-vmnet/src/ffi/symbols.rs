//! What may be missing on the system the program runs on, looked up by name.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::NonNull;

use super::sys::{BlockRef, ConfigurationRef, InterfaceRef, NetworkRef, QueueRef, XpcObject};
use crate::framework::Feature;
use crate::key::Key;

/// The address of a symbol of the libraries that are loaded, vmnet.framework among them.
fn find(name: &CStr) -> Option<NonNull<c_void>> {
    // SAFETY: `name` ends with a zero byte; `dlsym` reads it and keeps nothing.
    NonNull::new(unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) })
}

/// The framework's string for a key.
pub(super) fn key_name(key: Key) -> Option<*const c_char> {
    let variable = find(key.symbol())?.cast::<*const c_char>();
    // SAFETY: `vmnet.h` declares every `vmnet_*_key` as a `const char *`, which is never changed.
    let name = unsafe { variable.read() };
    (!name.is_null()).then_some(name)
}

/// Defines functions that may be missing, each with its name in the framework and its type there.
macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident: $symbol:literal as fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        $($(#[$doc])*
        pub(super) fn $name() -> Option<unsafe extern "C" fn($($argument),*) $(-> $result)?> {
            let function = find($symbol)?;
            // SAFETY: the symbol is a function of this type by the SDK's `vmnet.h`.
            Some(unsafe {
                std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) $(-> $result)?>(
                    function.as_ptr(),
                )
            })
        })*
    };
}

functions! {
    /// Interface, protocol, external port, family, internal address, internal port, handler.
    add_rule: c"vmnet_interface_add_ip_port_forwarding_rule"
        as fn(InterfaceRef, u8, u16, u8, *const c_void, u16, BlockRef) -> u32;
    /// Interface, protocol, external port, family, handler.
    remove_rule: c"vmnet_interface_remove_ip_port_forwarding_rule"
        as fn(InterfaceRef, u8, u16, u8, BlockRef) -> u32;
    /// Interface, family, handler.
    rules: c"vmnet_interface_get_ip_port_forwarding_rules"
        as fn(InterfaceRef, u8, BlockRef) -> u32;
    /// Rule, protocol, external port, family, internal address, internal port.
    rule_details: c"vmnet_ip_port_forwarding_rule_get_details"
        as fn(XpcObject, *mut u8, *mut u16, u8, *mut c_void, *mut u16) -> u32;

    /// Mode, status.
    configuration_create: c"vmnet_network_configuration_create"
        as fn(u32, *mut u32) -> ConfigurationRef;
    set_external_interface: c"vmnet_network_configuration_set_external_interface"
        as fn(ConfigurationRef, *const c_char) -> u32;
    /// Configuration, address, mask.
    set_ipv4_subnet: c"vmnet_network_configuration_set_ipv4_subnet"
        as fn(ConfigurationRef, *const libc::in_addr, *const libc::in_addr) -> u32;
    set_ipv6_prefix: c"vmnet_network_configuration_set_ipv6_prefix"
        as fn(ConfigurationRef, *const libc::in6_addr, u8) -> u32;
    set_mtu: c"vmnet_network_configuration_set_mtu" as fn(ConfigurationRef, u32) -> u32;
    disable_nat44: c"vmnet_network_configuration_disable_nat44" as fn(ConfigurationRef);
    disable_nat66: c"vmnet_network_configuration_disable_nat66" as fn(ConfigurationRef);
    disable_dhcp: c"vmnet_network_configuration_disable_dhcp" as fn(ConfigurationRef);
    disable_dns_proxy: c"vmnet_network_configuration_disable_dns_proxy" as fn(ConfigurationRef);
    disable_router_advertisement: c"vmnet_network_configuration_disable_router_advertisement"
        as fn(ConfigurationRef);
    /// Configuration, hardware address, address.
    add_dhcp_reservation: c"vmnet_network_configuration_add_dhcp_reservation"
        as fn(ConfigurationRef, *const [u8; 6], *const libc::in_addr) -> u32;
    /// Configuration, protocol, family, internal port, external port, internal address: the ports
    /// the other way round than for an interface.
    add_forward: c"vmnet_network_configuration_add_port_forwarding_rule"
        as fn(ConfigurationRef, u8, u8, u16, u16, *const c_void) -> u32;

    network_create: c"vmnet_network_create" as fn(ConfigurationRef, *mut u32) -> NetworkRef;
    network_ipv4_subnet: c"vmnet_network_get_ipv4_subnet"
        as fn(NetworkRef, *mut libc::in_addr, *mut libc::in_addr);
    network_ipv6_prefix: c"vmnet_network_get_ipv6_prefix"
        as fn(NetworkRef, *mut libc::in6_addr, *mut u8);
    /// Network, request, queue, handler.
    start_with_network: c"vmnet_interface_start_with_network"
        as fn(NetworkRef, XpcObject, QueueRef, BlockRef) -> InterfaceRef;
}

/// Whether this system has it.
pub(super) fn has(feature: Feature) -> bool {
    match feature {
        Feature::Key(key) => key_name(key).is_some(),
        Feature::Forwarding => add_rule().is_some(),
        Feature::Networks => network_create().is_some() && start_with_network().is_some(),
    }
}
