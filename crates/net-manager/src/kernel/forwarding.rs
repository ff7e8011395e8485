//! The kernel's switch for forwarding, which all networks of a namespace share.
//!
//! Whoever turns it on first writes down what was before; every other network that needs it copies
//! that from a journal that has it. The last one to go gives it back. A dead network whose journal
//! is still there counts: whoever cleans up after it is then the last.

use super::journal::{self, Act, Journal};
use super::state::StateDir;
use super::system::System;
use crate::error::ManagerError;

/// The switch. Writing it changes the forwarding of every interface, and whether redirects are
/// accepted, which is why those are written down too.
const SWITCH: &str = "net/ipv4/ip_forward";
const ON: &str = "1";

/// Lets the host forward IPv4, if it does not already.
pub(super) fn enable(
    system: &dyn System,
    state: &StateDir,
    network: &str,
    journal: &mut Journal,
) -> Result<(), ManagerError> {
    let _shared = state.lock_shared()?;
    let settings = match others(system, state, network)?.into_iter().next() {
        Some(settings) => settings,
        None if system.setting(SWITCH)?.as_deref() == Some(ON) => return Ok(()),
        None => before(system)?,
    };
    journal.note(Act::Forwarding { settings })?;
    if system.setting(SWITCH)?.as_deref() != Some(ON) {
        system.set_setting(SWITCH, ON)?;
    }
    Ok(())
}

/// Gives back what [`enable`] changed, unless another network still needs it or somebody has turned
/// forwarding off meanwhile.
pub(super) fn restore(
    system: &dyn System,
    state: &StateDir,
    network: &str,
    settings: &[(String, String)],
) -> Result<(), ManagerError> {
    let _shared = state.lock_shared()?;
    if !others(system, state, network)?.is_empty() {
        return Ok(());
    }
    // Killed between two of these writes, the switch is off already and the rest is not given back
    // yet: only the first value of all says whether there is anything to do.
    let was = settings.iter().find(|(path, _)| path == SWITCH);
    let now = system.setting(SWITCH)?;
    if now.as_deref() != Some(ON) && now.as_deref() != was.map(|(_, value)| value.as_str()) {
        return Ok(());
    }
    for (path, value) in settings {
        match system.setting(path)? {
            Some(now) if now != *value => system.set_setting(path, value)?,
            // As it was, or an interface that is gone.
            _ => {}
        }
    }
    Ok(())
}

/// Every setting that the switch touches, the switch itself first.
fn before(system: &dyn System) -> Result<Vec<(String, String)>, ManagerError> {
    let interfaces = system.interfaces()?;
    let names = interfaces.iter().map(|interface| interface.name.as_str());
    let paths = [
        SWITCH.to_owned(),
        "net/ipv4/conf/all/accept_redirects".to_owned(),
    ]
    .into_iter()
    .chain(
        ["default"]
            .into_iter()
            .chain(names)
            .map(|name| format!("net/ipv4/conf/{name}/forwarding")),
    );
    let mut settings = Vec::new();
    for path in paths {
        if let Some(value) = system.setting(&path)? {
            settings.push((path, value));
        }
    }
    Ok(settings)
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
