//! Networks of macOS 26.

use std::ffi::{CString, c_void};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ptr::NonNull;

use super::sys::{self, ConfigurationRef};
use super::{start, symbols};
use crate::forwarding::{family, octets};
use crate::framework::{Interface, Network, OnStart};
use crate::key::Dictionary;
use crate::network::Step;
use crate::status::SUCCESS;

/// `VMNET_FAILURE`, where a function is missing or gives nothing and no reason.
const FAILURE: u32 = 1001;
/// `VMNET_INVALID_ARGUMENT`.
const INVALID_ARGUMENT: u32 = 1003;

/// An object of CoreFoundation that is ours to release.
struct Object(NonNull<c_void>);

// SAFETY: the count of references is atomic. A configuration stays on the thread that makes it; a
// network is never changed after it was made.
unsafe impl Send for Object {}
// SAFETY: as above.
unsafe impl Sync for Object {}

impl Object {
    fn as_raw(&self) -> *mut c_void {
        self.0.as_ptr()
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: the reference that "create" gave, released once.
        unsafe { sys::CFRelease(self.0.as_ptr()) };
    }
}

/// What the framework made, or the status it gave in its place.
fn made(object: *mut c_void, status: u32) -> Result<Object, u32> {
    let reason = if status == SUCCESS { FAILURE } else { status };
    NonNull::new(object).map(Object).ok_or(reason)
}

fn checked(status: u32) -> Result<(), u32> {
    if status == SUCCESS {
        Ok(())
    } else {
        Err(status)
    }
}

/// Makes a network in the mode, with the steps taken one after the other.
pub(super) fn create(mode: u32, steps: &[Step]) -> Result<Box<dyn Network>, u32> {
    let create = symbols::configuration_create().ok_or(FAILURE)?;
    let mut status = SUCCESS;
    // SAFETY: a mode and room for a status; "create" means that the result is ours to release.
    let configuration = made(unsafe { create(mode, &mut status) }, status)?;
    for step in steps {
        take(configuration.as_raw(), step)?;
    }
    let create = symbols::network_create().ok_or(FAILURE)?;
    let mut status = SUCCESS;
    // SAFETY: a configuration and room for a status, as above.
    let network = made(
        unsafe { create(configuration.as_raw(), &mut status) },
        status,
    )?;
    Ok(Box::new(AppleNetwork(network)))
}

/// Makes one setting.
fn take(raw: ConfigurationRef, step: &Step) -> Result<(), u32> {
    // SAFETY, for every call below: `raw` is a live configuration, and what the pointers lead to
    // lives during the call, which copies it.
    macro_rules! call {
        ($function:ident($($argument:expr),*)) => {{
            let function = symbols::$function().ok_or(FAILURE)?;
            // SAFETY: see above.
            unsafe { function(raw $(, $argument)*) }
        }};
    }
    match step {
        Step::ExternalInterface(name) => {
            let name = CString::new(name.as_str()).map_err(|_| INVALID_ARGUMENT)?;
            checked(call!(set_external_interface(name.as_ptr())))
        }
        Step::Ipv4Subnet(address, mask) => {
            let (address, mask) = (in_addr(*address), in_addr(*mask));
            checked(call!(set_ipv4_subnet(&address, &mask)))
        }
        Step::Ipv6Prefix(prefix, length) => {
            let prefix = libc::in6_addr {
                s6_addr: prefix.octets(),
            };
            checked(call!(set_ipv6_prefix(&prefix, *length)))
        }
        Step::Mtu(mtu) => checked(call!(set_mtu(*mtu))),
        Step::DisableNat44 => {
            call!(disable_nat44());
            Ok(())
        }
        Step::DisableNat66 => {
            call!(disable_nat66());
            Ok(())
        }
        Step::DisableDhcp => {
            call!(disable_dhcp());
            Ok(())
        }
        Step::DisableDnsProxy => {
            call!(disable_dns_proxy());
            Ok(())
        }
        Step::DisableRouterAdvertisement => {
            call!(disable_router_advertisement());
            Ok(())
        }
        Step::DhcpReservation(mac, address) => {
            checked(call!(add_dhcp_reservation(&mac.0, &in_addr(*address))))
        }
        Step::Forward(rule) => {
            let address = octets(rule.address);
            // The internal port comes first.
            checked(call!(add_forward(
                rule.protocol,
                family(rule.address),
                rule.port,
                rule.external_port,
                address.as_ptr().cast()
            )))
        }
    }
}

/// An address in the layout of macOS: in network order.
fn in_addr(address: Ipv4Addr) -> libc::in_addr {
    libc::in_addr {
        s_addr: u32::from_ne_bytes(address.octets()),
    }
}

struct AppleNetwork(Object);

impl Network for AppleNetwork {
    fn start(&self, request: &Dictionary, done: OnStart) -> Option<Box<dyn Interface>> {
        let function = symbols::start_with_network()?;
        start(request, done, |request, queue, handler| {
            // SAFETY: a live network, which the interface retains, a dictionary, a queue and a
            // block of the handler's type, which is copied.
            unsafe { function(self.0.as_raw(), request, queue, handler) }
        })
    }

    fn ipv4_subnet(&self) -> (Ipv4Addr, Ipv4Addr) {
        let unspecified = in_addr(Ipv4Addr::UNSPECIFIED);
        let (mut subnet, mut mask) = (unspecified, unspecified);
        if let Some(function) = symbols::network_ipv4_subnet() {
            // SAFETY: a live network and room for two addresses.
            unsafe { function(self.0.as_raw(), &mut subnet, &mut mask) };
        }
        let read = |address: libc::in_addr| Ipv4Addr::from(address.s_addr.to_ne_bytes());
        (read(subnet), read(mask))
    }

    fn ipv6_prefix(&self) -> (Ipv6Addr, u8) {
        let mut prefix = libc::in6_addr { s6_addr: [0; 16] };
        let mut length = 0;
        if let Some(function) = symbols::network_ipv6_prefix() {
            // SAFETY: a live network and room for a prefix and its length.
            unsafe { function(self.0.as_raw(), &mut prefix, &mut length) };
        }
        (Ipv6Addr::from(prefix.s6_addr), length)
    }
}
