//! TAP devices for virtual machines whose frames a worker carries, and not the kernel.
//!
//! ```text
//!   VM opens ──► TAP ══ redirect ══ TAP ◄── worker
//!              `vm0`              `at-...`
//! ```
//!
//! A device is opened by its name in the namespace of whoever opens it, so it lies among the host's
//! own. What a guest sends is still none of the host's business: it is redirected before any
//! address, route or rule is looked at, which a bridge in between would not do.

use std::sync::{Mutex, MutexGuard, PoisonError};

use net_backend_linux::Tap;

use super::host::Host;
use super::journal::{Act, Header, Journal};
use super::names;
use super::ops::TapPort;
use super::state::{Held, StateDir};
use super::system::{NewTap, System};
use super::undo;
use crate::config::NetworkConfig;
use crate::error::ManagerError;

/// The TAP devices of a network that is not in the kernel, and the journal of them. Whoever makes
/// one needs CAP_NET_ADMIN.
///
/// Dropping it takes them away, as [`ServedTaps::destroy`] does, with failures in the log.
pub struct ServedTaps {
    network: String,
    mtu: u16,
    queues: u16,
    inner: Mutex<Inner>,
}

struct Inner {
    system: Host,
    state: StateDir,
    journal: Journal,
    /// Gone once everything is taken away.
    held: Option<Held>,
}

impl ServedTaps {
    /// Takes the directory of the network that `config` describes, and undoes what a dead process of
    /// the same name has left. No device is made yet.
    ///
    /// # Errors
    /// [`ManagerError::InUse`] if another process runs a network of this name, others as the kernel
    /// refuses.
    pub fn create(config: &NetworkConfig, state: &StateDir) -> Result<Self, ManagerError> {
        let network = &config.name;
        names::check_network(network)?;
        let system = Host::new()?;
        let held = state.hold(network)?;
        system.hold(held.lock());
        undo::clean(&system, state, &held, network)?;
        let header = Header::new(network, system.boot()?, system.namespace()?);
        let journal = Journal::begin(held.journal(), header)?;
        Ok(Self {
            network: network.clone(),
            mtu: config.mtu,
            queues: config.queues,
            inner: Mutex::new(Inner {
                system,
                state: state.clone(),
                journal,
                held: Some(held),
            }),
        })
    }

    /// Makes a device, and gives back the one through which its frames come and go. That goes with
    /// its last descriptor; the machine's own stays until [`ServedTaps::close`].
    ///
    /// # Errors
    /// [`ManagerError::Invalid`] for a VLAN, or where there is an interface of that name;
    /// [`ManagerError::Linux`] as the kernel refuses. Nothing is left behind then.
    pub fn open(&self, tap: &TapPort) -> Result<Tap, ManagerError> {
        let refuse = |why: String| Err(ManagerError::Invalid(why));
        names::check_interface(&tap.name)?;
        if tap.vlan.is_some() {
            return refuse("VLANs are kept apart by a bridge of the kernel: it needs one".into());
        }
        let mut inner = self.inner();
        if inner.system.find(&tap.name)?.is_some() {
            return refuse(format!("there is an interface {} already", tap.name));
        }
        inner.journal.note(Act::Link {
            name: tap.name.clone(),
            mac: None,
        })?;
        let made = self.make(&inner.system, tap);
        if made.is_err()
            && let Err(err) = inner.unlink(&self.network, &tap.name)
        {
            let (network, name) = (&self.network, &tap.name);
            log::warn!("network {network}: {name} is left for later: {err}");
        }
        made
    }

    fn make(&self, system: &Host, tap: &TapPort) -> Result<Tap, ManagerError> {
        system.create_tap(&NewTap {
            name: tap.name.clone(),
            queues: tap.queues.unwrap_or(self.queues),
            owner: tap.owner,
            group: tap.group,
            mtu: self.mtu,
            alias: names::mark(&self.network),
        })?;
        let ours = names::served(&self.network, &tap.name);
        let served = system.open_tap(&ours, self.mtu)?;
        for (from, to) in [(&tap.name, &ours), (&ours, &tap.name)] {
            // The host has no business on either: it would greet the guest by IPv6.
            let ipv6 = format!("net/ipv6/conf/{from}/disable_ipv6");
            if system.setting(&ipv6)?.is_some() {
                system.set_setting(&ipv6, "1")?;
            }
            system.redirect(from, to)?;
        }
        // With both redirected: not one frame goes astray.
        system.set_up(&ours, true)?;
        system.set_up(&tap.name, true)?;
        Ok(served)
    }

    /// Takes a machine's device away; one that is not there is not missed.
    ///
    /// # Errors
    /// As the kernel refuses. It stays in the journal then.
    pub fn close(&self, name: &str) -> Result<(), ManagerError> {
        self.inner().unlink(&self.network, name)
    }

    /// Takes everything away.
    ///
    /// # Errors
    /// The first thing that could not be undone. It stays in the journal, for whoever starts next.
    pub fn destroy(self) -> Result<(), ManagerError> {
        self.inner().destroy(&self.network)
    }

    /// A panic while the lock is held leaves nothing that the journal does not know.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn unlink(&mut self, network: &str, interface: &str) -> Result<(), ManagerError> {
        let is_it = |act: &Act| matches!(act, Act::Link { name, .. } if name == interface);
        for act in self.journal.acts().iter().filter(|act| is_it(act)) {
            undo::undo(&self.system, &self.state, network, act)?;
        }
        self.journal.strike(is_it)
    }

    fn destroy(&mut self, network: &str) -> Result<(), ManagerError> {
        let Some(held) = self.held.take() else {
            return Ok(());
        };
        undo::undo_all(&self.system, &self.state, network, &mut self.journal)?;
        held.remove();
        Ok(())
    }
}

impl Drop for ServedTaps {
    fn drop(&mut self) {
        let network = &self.network;
        if let Err(err) = self.inner().destroy(network) {
            log::error!("network {network} leaves something behind: {err}");
        }
    }
}

impl std::fmt::Debug for ServedTaps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServedTaps")
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}
