//! A kernel in memory that fails or dies where a test says so.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use ipnetwork::IpNetwork;
use net_backend_linux::LinuxError;
use net_backend_linux::netlink::{Address, PortOptions, Route};
use net_backend_linux::nftables::{Forward, Table};
use net_wire::MacAddr;

use super::system::{FarEnd, NewMacvtap, NewTap, Result, Seen, System};

/// What happens at the chosen call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The kernel refuses, once.
    Refused,
    /// The process is killed before the call reaches the kernel.
    KilledBefore,
    /// The process is killed after the kernel has done it.
    KilledAfter,
}

/// An interface of the kernel in memory.
#[derive(Debug, Clone, PartialEq)]
struct Interface {
    seen: Seen,
    port: PortOptions,
    addresses: Vec<Address>,
    routes: Vec<Route>,
}

/// Everything that a test compares before and after.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct World {
    interfaces: BTreeMap<String, Interface>,
    pub(super) rules: BTreeMap<String, Table>,
    pub(super) settings: BTreeMap<String, String>,
    pub(super) vlans: Vec<String>,
}

#[derive(Default)]
struct Kernel {
    world: World,
    /// Changes made so far, and what happens at one of them.
    changes: usize,
    fault: Option<(usize, Fault)>,
    dead: bool,
    /// Forwards whose connections were ended.
    ended: Vec<Forward>,
    boot: u32,
    namespace: u32,
}

/// One handle of several on the same kernel.
#[derive(Clone, Default)]
pub(super) struct Fake(Arc<Mutex<Kernel>>);

impl Fake {
    /// A host with one interface that has an address and a way out.
    pub(super) fn new() -> Self {
        let this = Self::default();
        this.plug("eth0", MacAddr([2, 0, 0, 0, 0, 9]));
        let address = r#"{"network":"192.0.2.10/24","peer":null,"broadcast":null,"label":"eth0",
            "scope":0,"flags":0,"metric":null,"lifetime":null}"#;
        let address = serde_json::from_str(address).unwrap();
        this.restore_address("eth0", &address).unwrap();
        let gateway = Route::default_via("192.0.2.1".parse().unwrap(), 2);
        this.add_route("eth0", &gateway).unwrap();
        // For IPv6, the way out is by a router that advertises itself.
        let address = r#"{"network":"2001:db8::10/64","peer":null,"broadcast":null,"label":null,
            "scope":0,"flags":0,"metric":null,"lifetime":null}"#;
        let address = serde_json::from_str(address).unwrap();
        this.restore_address("eth0", &address).unwrap();
        let mut heard = Route::default_via("fe80::1".parse().unwrap(), 2);
        heard.protocol = Route::BY_ADVERTISEMENT;
        this.add_route("eth0", &heard).unwrap();
        {
            let mut kernel = this.lock();
            let settings = &mut kernel.world.settings;
            for (path, value) in [
                ("net/ipv4/ip_forward", "0"),
                ("net/ipv4/conf/all/accept_redirects", "1"),
                ("net/ipv4/conf/default/forwarding", "0"),
                // Somebody has turned it on for one interface alone.
                ("net/ipv4/conf/eth0/forwarding", "1"),
                ("net/ipv6/conf/all/forwarding", "0"),
                ("net/ipv6/conf/default/forwarding", "0"),
                ("net/ipv6/conf/default/accept_ra", "1"),
                ("net/ipv6/conf/default/disable_ipv6", "0"),
            ] {
                settings.insert(path.to_owned(), value.to_owned());
            }
        }
        this
    }

    /// An interface that appears by itself.
    pub(super) fn plug(&self, name: &str, mac: MacAddr) {
        let mut kernel = self.lock();
        kernel.world.add(name, Some(mac), None);
        if let Some(interface) = kernel.world.interfaces.get_mut(name) {
            interface.seen.up = true;
        }
    }

    /// Chooses a change, counted from 0 and from now, at which something happens.
    pub(super) fn fail_at(&self, change: usize, fault: Fault) {
        let mut kernel = self.lock();
        kernel.changes = 0;
        kernel.fault = Some((change, fault));
    }

    /// Another process finds the same kernel; says how many changes there were.
    pub(super) fn revive(&self) -> usize {
        let mut kernel = self.lock();
        kernel.dead = false;
        kernel.fault = None;
        std::mem::take(&mut kernel.changes)
    }

    /// Whether the process has been killed.
    pub(super) fn is_dead(&self) -> bool {
        self.lock().dead
    }

    pub(super) fn world(&self) -> World {
        self.lock().world.clone()
    }

    /// The forward whose connections were ended last.
    pub(super) fn ended(&self) -> Option<Forward> {
        self.lock().ended.last().copied()
    }

    pub(super) fn change_world(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.lock().world);
    }

    pub(super) fn reboot(&self) {
        self.lock().boot += 1;
    }

    pub(super) fn enter_namespace(&self, namespace: u32) {
        self.lock().namespace = namespace;
    }

    fn lock(&self) -> MutexGuard<'_, Kernel> {
        self.0.lock().unwrap()
    }

    fn look<T>(&self, look: impl FnOnce(&Kernel) -> T) -> Result<T> {
        let kernel = self.lock();
        if kernel.dead {
            return Err(refused(3));
        }
        Ok(look(&kernel))
    }

    fn change<T>(&self, change: impl FnOnce(&mut World) -> Result<T>) -> Result<T> {
        let mut kernel = self.lock();
        if kernel.dead {
            return Err(refused(3));
        }
        let fault = kernel.fault.filter(|(at, _)| *at == kernel.changes);
        kernel.changes += 1;
        match fault {
            Some((_, Fault::Refused)) => Err(refused(1)),
            Some((_, Fault::KilledBefore)) => {
                kernel.dead = true;
                Err(refused(3))
            }
            Some((_, Fault::KilledAfter)) => {
                let result = change(&mut kernel.world);
                kernel.dead = true;
                result.and(Err(refused(3)))
            }
            None => change(&mut kernel.world),
        }
    }
}

fn refused(errno: i32) -> LinuxError {
    LinuxError::host("a test", &std::io::Error::from_raw_os_error(errno))
}

impl World {
    pub(super) fn add(&mut self, name: &str, mac: Option<MacAddr>, kind: Option<&str>) {
        for (family, setting, unset) in [
            ("net/ipv4", "forwarding", "0"),
            ("net/ipv6", "forwarding", "0"),
            ("net/ipv6", "accept_ra", "1"),
            ("net/ipv6", "disable_ipv6", "0"),
            ("net/ipv6", "addr_gen_mode", "0"),
        ] {
            let of = |name: &str| format!("{family}/conf/{name}/{setting}");
            let value = self.settings.get(&of("default")).cloned();
            let value = value.unwrap_or_else(|| unset.to_owned());
            self.settings.insert(of(name), value);
        }
        let seen = Seen {
            name: name.to_owned(),
            mac,
            alias: None,
            kind: kind.map(str::to_owned),
            bridge: None,
            up: false,
            mtu: 1500,
        };
        let interface = Interface {
            seen,
            port: PortOptions::default(),
            addresses: Vec::new(),
            routes: Vec::new(),
        };
        self.interfaces.insert(name.to_owned(), interface);
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.interfaces.keys().map(String::as_str).collect()
    }

    pub(super) fn seen(&self, name: &str) -> Option<&Seen> {
        self.interfaces.get(name).map(|interface| &interface.seen)
    }

    pub(super) fn port(&self, name: &str) -> Option<&PortOptions> {
        self.interfaces.get(name).map(|interface| &interface.port)
    }

    pub(super) fn addresses(&self, name: &str) -> Vec<IpNetwork> {
        let interface = self.interfaces.get(name);
        let addresses = interface.map(|interface| &interface.addresses[..]);
        let addresses = addresses.unwrap_or_default().iter();
        addresses.map(|address| address.network).collect()
    }

    pub(super) fn routes(&self, name: &str) -> &[Route] {
        let interface = self.interfaces.get(name);
        interface.map_or(&[], |interface| &interface.routes)
    }

    /// What Linux does when a setting has another value.
    fn follow(&mut self, path: &str, value: &str) {
        let forwarding = match path {
            "net/ipv4/ip_forward" => Some("net/ipv4/"),
            "net/ipv6/conf/all/forwarding" => Some("net/ipv6/"),
            _ => None,
        };
        for (path, setting) in &mut self.settings {
            if forwarding.is_some_and(|family| path.starts_with(family)) {
                if path.ends_with("/forwarding") {
                    value.clone_into(setting);
                } else if path.ends_with("/accept_redirects") {
                    *setting = if value == "1" { "0" } else { "1" }.to_owned();
                }
            }
        }
        // Who becomes a router forgets those it heard of, but where it listens nevertheless.
        if path.starts_with("net/ipv6/") && path.ends_with("/forwarding") && value == "1" {
            for (name, interface) in &mut self.interfaces {
                let listens = self
                    .settings
                    .get(&format!("net/ipv6/conf/{name}/accept_ra"));
                if listens.is_none_or(|value| value != "2") {
                    let routes = &mut interface.routes;
                    routes.retain(|route| route.protocol != Route::BY_ADVERTISEMENT);
                }
            }
        }
        // What routers advertise is heard again, with IPv6, at once.
        if let Some(rest) = path.strip_prefix("net/ipv6/conf/")
            && let Some(name) = rest.strip_suffix("/disable_ipv6")
            && value == "1"
            && let Some(interface) = self.interfaces.get_mut(name)
        {
            interface.addresses.retain(|it| it.network.is_ipv4());
            interface.routes.retain(|route| {
                route.destination.is_ipv4() || route.protocol == Route::BY_ADVERTISEMENT
            });
        }
    }

    fn interface(&mut self, name: &str) -> Result<&mut Interface> {
        self.interfaces.get_mut(name).ok_or_else(|| refused(19))
    }

    fn vacant(&self, name: &str) -> Result<()> {
        match self.interfaces.contains_key(name) {
            true => Err(refused(17)),
            false => Ok(()),
        }
    }

    fn remove(&mut self, name: &str) {
        self.interfaces.remove(name);
        let own = format!("/conf/{name}/");
        self.settings.retain(|path, _| !path.contains(&own));
        self.vlans.retain(|bridge| bridge != name);
        for interface in self.interfaces.values_mut() {
            if interface.seen.bridge.as_deref() == Some(name) {
                interface.seen.bridge = None;
            }
        }
    }
}

impl System for Fake {
    fn hold(&self, _lock: Arc<std::os::fd::OwnedFd>) {}

    fn boot(&self) -> Result<String> {
        self.look(|kernel| kernel.boot.to_string())
    }

    fn namespace(&self) -> Result<String> {
        self.look(|kernel| kernel.namespace.to_string())
    }

    fn find(&self, name: &str) -> Result<Option<Seen>> {
        self.look(|kernel| kernel.world.seen(name).cloned())
    }

    fn interfaces(&self) -> Result<Vec<Seen>> {
        self.look(|kernel| {
            let interfaces = kernel.world.interfaces.values();
            interfaces.map(|interface| interface.seen.clone()).collect()
        })
    }

    fn create_bridge(&self, name: &str, mac: MacAddr, _mtu: u16) -> Result<()> {
        self.change(|world| {
            world.vacant(name)?;
            world.add(name, Some(mac), Some("bridge"));
            Ok(())
        })
    }

    fn create_tap(&self, tap: &NewTap) -> Result<()> {
        self.change(|world| {
            world.vacant(&tap.name)?;
            world.add(&tap.name, Some(MacAddr([2, 9, 9, 9, 9, 9])), Some("tun"));
            world.interface(&tap.name)?.seen.alias = Some(tap.alias.clone());
            Ok(())
        })
    }

    fn create_veth(&self, near: &str, mac: MacAddr, _far: &FarEnd) -> Result<()> {
        self.change(|world| {
            world.vacant(near)?;
            world.add(near, Some(mac), Some("veth"));
            Ok(())
        })
    }

    fn create_macvtap(&self, macvtap: &NewMacvtap) -> Result<PathBuf> {
        self.change(|world| {
            world.vacant(&macvtap.name)?;
            world.interface(&macvtap.parent)?;
            world.add(&macvtap.name, Some(macvtap.mac), Some("macvtap"));
            Ok("/dev/tap7".into())
        })
    }

    fn set_alias(&self, name: &str, alias: &str) -> Result<()> {
        self.change(|world| {
            world.interface(name)?.seen.alias = Some(alias.to_owned());
            Ok(())
        })
    }

    fn set_up(&self, name: &str, up: bool) -> Result<()> {
        self.change(|world| {
            world.interface(name)?.seen.up = up;
            Ok(())
        })
    }

    fn set_bridge(&self, name: &str, bridge: Option<&str>) -> Result<()> {
        self.change(|world| {
            if let Some(bridge) = bridge {
                world.interface(bridge)?;
            }
            world.interface(name)?.seen.bridge = bridge.map(str::to_owned);
            Ok(())
        })
    }

    fn set_port(&self, name: &str, options: &PortOptions) -> Result<()> {
        self.change(|world| {
            world.interface(name)?.port = options.clone();
            Ok(())
        })
    }

    fn filter_vlans(&self, bridge: &str, ours: bool) -> Result<()> {
        self.change(|world| {
            if !ours && !world.vlans.iter().any(|it| it == bridge) {
                return Err(refused(95));
            }
            world.interface(bridge)?;
            world.vlans.push(bridge.to_owned());
            Ok(())
        })
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.change(|world| {
            world.interface(name)?;
            world.remove(name);
            Ok(())
        })
    }

    fn addresses(&self, name: &str) -> Result<Vec<Address>> {
        self.look(|kernel| {
            let interface = kernel.world.interfaces.get(name);
            interface.map(|interface| interface.addresses.clone())
        })
        .map(Option::unwrap_or_default)
    }

    fn add_address(&self, name: &str, address: IpNetwork) -> Result<()> {
        let text = format!(
            r#"{{"network":"{address}","peer":null,"broadcast":null,"label":null,"scope":0,
            "flags":0,"metric":null,"lifetime":null}}"#
        );
        let address = serde_json::from_str(&text).unwrap();
        self.restore_address(name, &address)
    }

    fn restore_address(&self, name: &str, address: &Address) -> Result<()> {
        self.change(|world| {
            let addresses = &mut world.interface(name)?.addresses;
            if !addresses.contains(address) {
                addresses.push(address.clone());
                // As they are listed.
                addresses.sort_by_key(|it| it.network.is_ipv6());
            }
            Ok(())
        })
    }

    fn delete_address(&self, name: &str, address: IpNetwork) -> Result<()> {
        self.change(|world| {
            let interface = world.interface(name)?;
            interface.addresses.retain(|it| it.network != address);
            // As the kernel does.
            if !interface.addresses.iter().any(|it| it.network.is_ipv4()) {
                interface.routes.retain(|it| it.destination.is_ipv6());
            }
            Ok(())
        })
    }

    fn routes(&self, name: &str) -> Result<Vec<Route>> {
        self.look(|kernel| {
            let interface = kernel.world.interfaces.get(name);
            interface.map(|interface| interface.routes.clone())
        })
        .map(Option::unwrap_or_default)
    }

    fn add_route(&self, name: &str, route: &Route) -> Result<()> {
        self.change(|world| {
            let elsewhere = world
                .interfaces
                .values()
                .any(|interface| interface.seen.name != name && interface.routes.contains(route));
            if elsewhere {
                return Err(refused(17));
            }
            let interface = world.interface(name)?;
            if interface.addresses.is_empty() {
                return Err(refused(101));
            }
            if !interface.routes.contains(route) {
                interface.routes.push(route.clone());
                interface.routes.sort_by_key(|it| it.destination.is_ipv6());
            }
            Ok(())
        })
    }

    fn delete_route(&self, name: &str, route: &Route) -> Result<()> {
        self.change(|world| {
            world.interface(name)?.routes.retain(|it| it != route);
            Ok(())
        })
    }

    fn apply_rules(&self, rules: &Table) -> Result<()> {
        self.change(|world| {
            world.rules.insert(rules.network.clone(), rules.clone());
            Ok(())
        })
    }

    fn delete_rules(&self, network: &str) -> Result<()> {
        self.change(|world| {
            world.rules.remove(network);
            Ok(())
        })
    }

    fn end_connections(&self, forward: &Forward) -> Result<()> {
        let mut kernel = self.lock();
        let mut rules = kernel.world.rules.values();
        // Earlier, they would be let in again.
        assert!(!rules.any(|table| table.forwards.contains(forward)));
        kernel.ended.push(*forward);
        Ok(())
    }

    fn setting(&self, path: &str) -> Result<Option<String>> {
        self.look(|kernel| kernel.world.settings.get(path).cloned())
    }

    fn no_ipv6(&self) -> Result<Option<String>> {
        let without = self.setting("net/ipv6/conf/default/disable_ipv6")?;
        Ok((without.as_deref() != Some("0")).then(|| "a test forbids it".to_owned()))
    }

    fn set_setting(&self, path: &str, value: &str) -> Result<()> {
        self.change(|world| {
            world.settings.insert(path.to_owned(), value.to_owned());
            world.follow(path, value);
            Ok(())
        })
    }
}
