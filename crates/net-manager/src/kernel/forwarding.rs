//! The kernel's switches for forwarding, one for each family, which all networks of a namespace share.
//!
//! Whoever turns one on first writes down what was before; every other network that needs it copies
//! that from a journal that has it. The last one to go gives it back. A dead network whose journal
//! is still there counts: whoever cleans up after it is then the last.

use std::net::SocketAddr;

use super::journal::{self, Act, Journal};
use super::state::StateDir;
use super::system::System;
use crate::error::ManagerError;

/// What comes before an interface's name, and after it.
const SIX: &str = "net/ipv6/conf/";
const ACCEPT_RA: &str = "/accept_ra";

const ON: &str = "1";
/// Router advertisements are heeded unless the host forwards, and whatever it does.
const AS_HOST: &str = "1";
const ALWAYS: &str = "2";

/// What is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    /// The switch. Writing it changes the forwarding of every interface. For IPv4 it changes whether
    /// redirects are accepted, too. For IPv6 it makes the host forget the routers that it heard of by
    /// advertisements, and hear no others, unless the interface is told to listen nevertheless.
    const fn switch(self) -> &'static str {
        match self {
            Self::V4 => "net/ipv4/ip_forward",
            Self::V6 => "net/ipv6/conf/all/forwarding",
        }
    }

    /// That of an address.
    pub(super) const fn of(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(_) => Self::V4,
            SocketAddr::V6(_) => Self::V6,
        }
    }

    /// Whether settings that were written down are those of this family: the first is the switch.
    pub(super) fn is_of(self, settings: &[(String, String)]) -> bool {
        settings
            .first()
            .is_some_and(|(path, _)| path == self.switch())
    }
}

/// Lets the host forward packets of a family, if it does not already.
pub(super) fn enable(
    system: &dyn System,
    state: &StateDir,
    network: &str,
    journal: &mut Journal,
    family: Family,
) -> Result<(), ManagerError> {
    let _shared = state.lock_shared()?;
    let switch = family.switch();
    let mut others = others(system, state, network)?.into_iter();
    let settings = match others.find(|settings| family.is_of(settings)) {
        Some(settings) => settings,
        None if system.setting(switch)?.as_deref() == Some(ON) => return Ok(()),
        None => before(system, family)?,
    };
    journal.note(Act::Forwarding {
        settings: settings.clone(),
    })?;
    if system.setting(switch)?.as_deref() == Some(ON) {
        return Ok(());
    }
    // Before the switch: afterwards what was heard is forgotten.
    for (path, value) in &settings {
        if path.ends_with(ACCEPT_RA) && value == AS_HOST && system.setting(path)?.is_some() {
            system.set_setting(path, ALWAYS)?;
        }
    }
    Ok(system.set_setting(switch, ON)?)
}

/// Gives back what [`enable`] changed, unless another network still needs it or somebody has turned
/// forwarding off meanwhile.
pub(super) fn restore(
    system: &dyn System,
    state: &StateDir,
    network: &str,
    settings: &[(String, String)],
) -> Result<(), ManagerError> {
    let Some((switch, was)) = settings.first() else {
        return Ok(());
    };
    let _shared = state.lock_shared()?;
    let same_switch = |other: &Vec<(String, String)>| other.first().map(|it| &it.0) == Some(switch);
    if others(system, state, network)?.iter().any(same_switch) {
        return Ok(());
    }
    // Killed between two of these writes, the switch is off already and the rest is not given back
    // yet: only the first value of all says whether there is anything to do.
    let now = system.setting(switch)?;
    if now.as_deref() != Some(ON) && now.as_ref() != Some(was) {
        return Ok(());
    }
    for (path, value) in settings {
        match system.setting(path)? {
            // The switch does not change this: another value than ours is somebody else's choice.
            Some(now) if path.ends_with(ACCEPT_RA) && now != ALWAYS => {}
            Some(now) if now != *value => system.set_setting(path, value)?,
            // As it was, or an interface that is gone.
            _ => {}
        }
    }
    Ok(())
}

/// Every setting that changes with the switch, the switch itself first, in the order in which they
/// are given back.
fn before(system: &dyn System, family: Family) -> Result<Vec<(String, String)>, ManagerError> {
    let interfaces = system.interfaces()?;
    let names = || {
        let names = interfaces.iter().map(|interface| interface.name.as_str());
        ["default"].into_iter().chain(names)
    };
    let mut paths = vec![family.switch().to_owned()];
    match family {
        Family::V4 => {
            paths.push("net/ipv4/conf/all/accept_redirects".to_owned());
            paths.extend(names().map(|name| format!("net/ipv4/conf/{name}/forwarding")));
        }
        // To turn the forwarding of one interface on makes the host forget routers, too: whether
        // they are heard is given back after that.
        Family::V6 => {
            paths.extend(names().map(|name| format!("{SIX}{name}/forwarding")));
            paths.extend(names().map(|name| format!("{SIX}{name}{ACCEPT_RA}")));
        }
    }
    let mut settings = Vec::new();
    for path in paths {
        if let Some(value) = system.setting(&path)? {
            settings.push((path, value));
        }
    }
    // Where the host is a router of one interface already, it does not listen there.
    let routes = |path: &str| {
        let forwarding = path.replace(ACCEPT_RA, "/forwarding");
        settings
            .iter()
            .any(|(it, on)| *it == forwarding && on == ON)
    };
    let listens = |(path, value): &(String, String)| {
        !path.ends_with(ACCEPT_RA) || (value == AS_HOST && !routes(path))
    };
    Ok(settings.iter().filter(|it| listens(it)).cloned().collect())
}

/// What the journals of other networks of this namespace say was before.
fn others(
    system: &dyn System,
    state: &StateDir,
    network: &str,
) -> Result<Vec<Vec<(String, String)>>, ManagerError> {
    let (boot, namespace) = (system.boot()?, system.namespace()?);
    let mut found = Vec::new();
    for name in state.networks()? {
        if name == network {
            continue;
        }
        // A journal that cannot be read says nothing; whoever cleans up after it is told.
        let Ok(Some((header, acts))) = journal::read(&state.journal(&name)) else {
            continue;
        };
        if (&header.boot, &header.namespace) != (&boot, &namespace) {
            continue;
        }
        found.extend(acts.into_iter().filter_map(|act| match act {
            Act::Forwarding { settings } => Some(settings),
            _ => None,
        }));
    }
    Ok(found)
}
