//! The directory of a network: its lock, its control socket, and the list of its guests' sockets.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use net_manager::ManagerError;
use net_manager::control;
use net_manager::kernel::{Held, StateDir};

use crate::sockets::{self, Sockets};
use crate::usage::UsageError;

/// The name of the control socket in a network's directory.
const CONTROL: &str = "control";
/// The list of the sockets that guests connect to.
const SOCKETS: &str = "sockets";

/// The directory of all networks: the one that was asked for, or the usual one.
///
/// # Errors
/// Where this user has no directory for such files.
pub(crate) fn directory(asked: Option<&Path>) -> Result<StateDir, UsageError> {
    match asked {
        Some(path) => Ok(StateDir::new(path)),
        None => Ok(StateDir::usual()?),
    }
}

/// Where the control socket of the network `name` is.
pub(crate) fn control_socket(state: &StateDir, name: &str) -> PathBuf {
    state.network(name).join(CONTROL)
}

/// What a network has in the directory of all networks.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The control socket, where the network can be asked while it runs.
    control: Option<PathBuf>,
    /// The directory, where nobody else holds it for the network.
    held: Option<Held>,
}

impl State {
    /// Takes the directory of a network that has nothing else there.
    ///
    /// Without a name of its own a network serves all the same where the directory cannot be had:
    /// it can only not be asked.
    ///
    /// # Errors
    /// Where the user gave the network this name and another process has it, for example.
    pub(crate) fn take(
        asked: Option<&Path>,
        given: Option<&str>,
        name: &str,
    ) -> Result<Self, UsageError> {
        let held = directory(asked).and_then(|state| {
            let held = state.hold(name)?;
            Ok((state, held))
        });
        match held {
            Ok((state, held)) => Ok(Self {
                control: Some(control_socket(&state, name)),
                held: Some(held),
            }),
            Err(err) if given.is_some() || asked.is_some() => Err(err),
            Err(err) => {
                log::info!("the network cannot be asked while it runs: {err}");
                Ok(Self::default())
            }
        }
    }

    /// For a network in the kernel, which holds its directory itself.
    pub(crate) fn of_kernel(state: &StateDir, name: &str) -> Self {
        Self {
            control: Some(control_socket(state, name)),
            held: None,
        }
    }

    /// Makes the control socket.
    ///
    /// # Errors
    /// What the host said.
    pub(crate) fn bind(&self) -> Result<Option<UnixListener>, UsageError> {
        let Some(path) = &self.control else {
            return Ok(None);
        };
        let bound = control::bind(path);
        let listener = bound.map_err(|err| {
            UsageError::new(format!("the control socket {}: {err}", path.display()))
        })?;
        Ok(Some(listener))
    }

    /// Takes away the sockets that a dead process of this network has left, and begins a list of its
    /// own.
    pub(crate) fn sockets(&self) -> Option<Sockets> {
        let control = self.control.as_ref()?;
        Some(Sockets::begin(control.with_file_name(SOCKETS)))
    }

    /// Takes the control socket away: nobody answers there any more. The sockets of guests are gone.
    pub(crate) fn close(&mut self) {
        let Some(path) = self.control.take() else {
            return;
        };
        sockets::clean(&path.with_file_name(SOCKETS));
        if let Err(err) = fs::remove_file(&path)
            && err.kind() != std::io::ErrorKind::NotFound
        {
            log::warn!("cannot remove {}: {err}", path.display());
        }
    }
}

impl Drop for State {
    /// Gives the directory back.
    fn drop(&mut self) {
        self.close();
        if let Some(held) = self.held.take() {
            held.remove();
        }
    }
}

/// Takes away the directories of dead networks that have nothing in the kernel.
///
/// # Errors
/// Where the directory of all networks cannot be read.
pub(crate) fn clean(state: &StateDir, only: Option<&str>) -> Result<Vec<String>, ManagerError> {
    let mut cleaned = Vec::new();
    for name in state.networks()? {
        if only.is_some_and(|only| only != name) || state.network(&name).join("journal").exists() {
            continue;
        }
        // One that is held is alive.
        if let Ok(held) = state.hold(&name) {
            sockets::clean(&state.network(&name).join(SOCKETS));
            let _ = fs::remove_file(control_socket(state, &name));
            held.remove();
            cleaned.push(name);
        }
    }
    Ok(cleaned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_once_and_given_back() {
        let root = tempfile::tempdir().unwrap();
        let take = |given| State::take(Some(root.path()), given, "blue");
        let first = take(Some("blue")).unwrap();
        let error = take(Some("blue")).unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        let socket = root.path().join("blue").join(CONTROL);
        drop(first.bind().unwrap());
        assert!(socket.exists());
        drop(first);
        assert!(!root.path().join("blue").exists());
        drop(take(Some("blue")).unwrap());
    }

    #[test]
    fn what_a_dead_network_left_is_cleaned_and_the_living_kept() {
        let root = tempfile::tempdir().unwrap();
        let state = StateDir::new(root.path());
        let alive = State::take(Some(root.path()), None, "alive").unwrap();
        alive.bind().unwrap();
        for name in ["dead", "kernel"] {
            let mut gone = State::take(Some(root.path()), None, name).unwrap();
            gone.bind().unwrap();
            // As death has it: the lock ends, and what is there stays.
            (gone.control, gone.held) = (None, None);
        }
        fs::write(root.path().join("kernel").join("journal"), "x").unwrap();
        assert!(clean(&state, Some("alive")).unwrap().is_empty());
        assert_eq!(clean(&state, None).unwrap(), ["dead"]);
        assert_eq!(state.networks().unwrap(), ["alive", "kernel"]);
        assert!(control_socket(&state, "alive").exists());
    }
}
