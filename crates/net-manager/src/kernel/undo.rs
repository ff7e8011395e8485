//! Undoing what a journal says, by its owner or by whoever finds it.
//!
//! Every act can be undone at any time after it was written down, whether it was begun, done or
//! already undone: the state of the kernel says which.

use super::journal::{self, Act, Header, Journal};
use super::names;
use super::state::{Held, StateDir};
use super::system::System;
use super::{forwarding, take_over};
use crate::error::ManagerError;

/// A dead network that was cleaned up after.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// The network.
    pub network: String,
    /// The process that left it behind.
    pub pid: u32,
    /// How many things were undone.
    pub acts: usize,
}

/// Undoes one act.
pub(super) fn undo(
    system: &dyn System,
    state: &StateDir,
    network: &str,
    act: &Act,
) -> Result<(), ManagerError> {
    match act {
        Act::Link { name, mac } => {
            let Some(seen) = system.find(name)? else {
                return Ok(());
            };
            let ours = match &seen.alias {
                Some(alias) => *alias == names::mark(network),
                // Made, and not yet marked.
                None => mac.is_some_and(|mac| seen.mac.is_some_and(|seen| seen.0 == mac)),
            };
            if ours {
                system.delete(name)?;
            } else {
                log::warn!("the interface {name} is not that of network {network} any more");
            }
            Ok(())
        }
        Act::Rules {} => Ok(system.delete_rules(network)?),
        Act::Forwarding { settings } => forwarding::restore(system, state, network, settings),
        Act::TakeOver(taken) => take_over::give_back(system, taken),
    }
}

/// Undoes everything, the last first, and strikes it out. What cannot be undone does not keep the
/// rest from it, and stays in the journal.
///
/// # Errors
/// The first failure.
pub(super) fn undo_all(
    system: &dyn System,
    state: &StateDir,
    network: &str,
    journal: &mut Journal,
) -> Result<(), ManagerError> {
    let mut left = Vec::new();
    let mut failure = None;
    for act in journal.acts().iter().rev() {
        if let Err(err) = undo(system, state, network, act) {
            left.push(act.clone());
            failure.get_or_insert(err);
        }
    }
    journal.strike(|act| !left.contains(act))?;
    failure.map_or(Ok(()), Err)
}

/// Undoes what a dead owner of the held directory has left.
///
/// # Errors
/// [`ManagerError::OtherNamespace`] if it was made where this process cannot reach it; whatever
/// the kernel refuses. The journal stays then.
pub(super) fn clean(
    system: &dyn System,
    state: &StateDir,
    held: &Held,
    network: &str,
) -> Result<Option<Recovered>, ManagerError> {
    let Some((header, acts)) = journal::read(&held.journal())? else {
        return Ok(None);
    };
    let recovered = Recovered {
        network: network.to_owned(),
        pid: header.pid,
        acts: acts.len(),
    };
    // What was made before the machine was started is gone.
    if header.boot == system.boot()? && !acts.is_empty() {
        let namespace = system.namespace()?;
        if header.namespace != namespace {
            return Err(ManagerError::OtherNamespace {
                network: network.to_owned(),
                namespace: header.namespace,
            });
        }
        let header = Header::new(network, header.boot, namespace);
        let mut journal = Journal::resume(held.journal(), header, acts)?;
        undo_all(system, state, network, &mut journal)?;
        log::info!(
            "network {network}: undid what process {} had left",
            recovered.pid
        );
    }
    Ok(Some(recovered))
}

/// Cleans up after every dead network of `state` and leaves those that are alive alone.
pub(super) fn recover(
    system: &dyn System,
    state: &StateDir,
) -> Result<Vec<Recovered>, ManagerError> {
    let mut all = Vec::new();
    let mut failure = None;
    for network in state.networks()? {
        let held = match state.hold(&network) {
            Ok(held) => held,
            Err(ManagerError::InUse { .. }) => continue,
            Err(err) => {
                failure.get_or_insert(err);
                continue;
            }
        };
        system.hold(held.lock());
        match clean(system, state, &held, &network) {
            Ok(recovered) => {
                held.remove();
                all.extend(recovered);
            }
            Err(err) => {
                failure.get_or_insert(err);
            }
        }
    }
    failure.map_or(Ok(all), Err)
}
