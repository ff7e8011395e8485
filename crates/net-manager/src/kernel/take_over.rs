//! A physical interface becomes a port of the bridge, and its addresses and routes go with it.
//!
//! The journal has all of them before the first is moved. Each is given to the bridge before it is
//! taken from the interface, and the other way round on the way back, so that the host is without
//! its address for the time between two netlink messages at most.

use net_backend_linux::netlink::Route;

use super::journal::TakenOver;
use super::system::System;
use crate::error::ManagerError;

/// Looks at an interface before it is taken over.
///
/// # Errors
/// [`ManagerError::CannotTakeOver`] for one that is a port of a bridge already, or no Ethernet.
pub(super) fn inspect(
    system: &dyn System,
    interface: &str,
    bridge: &str,
) -> Result<TakenOver, ManagerError> {
    let refuse = |why: String| ManagerError::CannotTakeOver {
        interface: interface.to_owned(),
        why,
    };
    let seen = system
        .find(interface)?
        .ok_or_else(|| refuse("there is no such interface".to_owned()))?;
    if let Some(other) = seen.bridge {
        return Err(refuse(format!("it is a port of {other}")));
    }
    if seen.mac.is_none_or(|mac| !mac.is_unicast()) || seen.kind.as_deref() == Some("bridge") {
        return Err(refuse("it is no Ethernet interface".to_owned()));
    }
    // An interface makes its own link-local addresses, and the kernel the routes of an address.
    let addresses = system.addresses(interface)?.into_iter();
    let addresses = addresses.filter(|address| !is_link_local(address.network.ip()));
    let routes = system.routes(interface)?.into_iter().filter(|route| {
        route.protocol != Route::BY_KERNEL && route.protocol != Route::BY_ADVERTISEMENT
    });
    Ok(TakenOver {
        interface: interface.to_owned(),
        bridge: bridge.to_owned(),
        up: seen.up,
        addresses: addresses.collect(),
        routes: routes.collect(),
        disable_ipv6: system.setting(&disable_ipv6(interface))?,
        accept_ra: system.setting(&accept_ra(bridge))?,
    })
}

/// Makes the interface a port and moves what it has to the bridge, which is up.
pub(super) fn take(system: &dyn System, taken: &TakenOver) -> Result<(), ManagerError> {
    let (interface, bridge) = (&taken.interface, &taken.bridge);
    // The bridge listens to the routers that the interface has listened to.
    if let Some(value) = system.setting(&accept_ra(interface))? {
        set(system, &accept_ra(bridge), &value)?;
    }
    system.set_bridge(interface, Some(bridge))?;
    system.set_up(interface, true)?;
    move_all(system, taken, interface, bridge)?;
    // What is left are addresses and routes that advertisements brought. Nothing arrives there any
    // more, and the bridge asks for its own.
    set(system, &disable_ipv6(interface), "1")
}

/// Gives everything back. May be called again after it was cut short at any point, and after
/// [`take`] was.
pub(super) fn give_back(system: &dyn System, taken: &TakenOver) -> Result<(), ManagerError> {
    let (interface, bridge) = (&taken.interface, &taken.bridge);
    let Some(seen) = system.find(interface)? else {
        // Unplugged: there is nothing to give anything to.
        return Ok(());
    };
    if seen.bridge.as_ref() == Some(bridge) {
        system.set_bridge(interface, None)?;
    }
    if let Some(value) = &taken.disable_ipv6 {
        // With it the kernel asks for routers again.
        set(system, &disable_ipv6(interface), value)?;
    }
    if let Some(value) = &taken.accept_ra {
        set(system, &accept_ra(bridge), value)?;
    }
    if system.find(bridge)?.is_some() {
        move_all(system, taken, bridge, interface)?;
    } else {
        give(system, taken, interface)?;
    }
    if !taken.up {
        system.set_up(interface, false)?;
    }
    Ok(())
}

fn move_all(
    system: &dyn System,
    taken: &TakenOver,
    from: &str,
    to: &str,
) -> Result<(), ManagerError> {
    for address in &taken.addresses {
        system.restore_address(to, address)?;
    }
    for address in &taken.addresses {
        system.delete_address(from, address.network)?;
    }
    // Most routes have gone with the addresses. Two of the same destination cannot stand together.
    for route in &taken.routes {
        system.delete_route(from, route)?;
    }
    give(system, taken, to)
}

/// Gives an interface the addresses and routes that it does not have yet.
fn give(system: &dyn System, taken: &TakenOver, to: &str) -> Result<(), ManagerError> {
    for address in &taken.addresses {
        system.restore_address(to, address)?;
    }
    // Those on the link first: a gateway has to be reachable before a route goes through it.
    let (links, gateways): (Vec<_>, Vec<_>) = taken
        .routes
        .iter()
        .partition(|route| route.gateway.is_none());
    for route in links.into_iter().chain(gateways) {
        system.add_route(to, route)?;
    }
    Ok(())
}

fn disable_ipv6(interface: &str) -> String {
    format!("net/ipv6/conf/{interface}/disable_ipv6")
}

fn accept_ra(interface: &str) -> String {
    format!("net/ipv6/conf/{interface}/accept_ra")
}

/// Changes a setting that is there and has another value.
fn set(system: &dyn System, path: &str, value: &str) -> Result<(), ManagerError> {
    if system.setting(path)?.is_some_and(|now| now != value) {
        system.set_setting(path, value)?;
    }
    Ok(())
}

fn is_link_local(ip: std::net::IpAddr) -> bool {
    match ip {
        std::net::IpAddr::V4(_) => false,
        std::net::IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}
