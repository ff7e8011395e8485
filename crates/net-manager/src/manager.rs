//! Networks by name.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::addresses::overlap;
use crate::config::NetworkConfig;
use crate::error::ManagerError;
use crate::network::Network;

/// Networks, each with a name and with addresses of its own.
///
/// It is made with one network, and everything that can be asked of a [`Network`] can be asked of the
/// manager, which means that first one. Others are made by [`NetworkManager::create`]. All stop when
/// the manager is dropped, but for those of which somebody else still holds a handle.
#[derive(Debug)]
pub struct NetworkManager {
    first: Arc<Network>,
    others: Mutex<BTreeMap<String, Arc<Network>>>,
}

impl NetworkManager {
    /// A manager of one network, which is not running yet. Takes a [`crate::NetConfig`] or a
    /// [`NetworkConfig`]; [`Network::start`] says what in it cannot work.
    pub fn new(config: impl Into<NetworkConfig>) -> Self {
        Self {
            first: Arc::new(Network::new(config)),
            others: Mutex::default(),
        }
    }

    /// One more network, which is not running yet.
    ///
    /// # Errors
    /// [`ManagerError::NameTaken`]; [`ManagerError::SubnetTaken`] if it has an address in common with
    /// a network that is there, running or not. A network in bridge mode has no addresses of its own.
    pub fn create(&self, config: impl Into<NetworkConfig>) -> Result<Arc<Network>, ManagerError> {
        let config = config.into();
        let mut others = self.others();
        for network in std::iter::once(&self.first).chain(others.values()) {
            let there = network.config();
            if there.name == config.name {
                return Err(ManagerError::NameTaken(config.name));
            }
            if there.has_addresses()
                && config.has_addresses()
                && overlap(there.subnet, config.subnet)
            {
                return Err(ManagerError::SubnetTaken {
                    subnet: config.subnet.network().into(),
                    prefix: config.subnet.prefix(),
                    by: format!("{} of network {}", there.subnet, there.name),
                });
            }
        }
        let network = Arc::new(Network::new(config));
        others.insert(network.config().name.clone(), Arc::clone(&network));
        Ok(network)
    }

    /// The network of this name.
    pub fn network(&self, name: &str) -> Option<Arc<Network>> {
        if self.first.config().name == name {
            return Some(Arc::clone(&self.first));
        }
        self.others().get(name).cloned()
    }

    /// Every network, the first one first, the others in alphabetical order.
    pub fn networks(&self) -> Vec<Arc<Network>> {
        let others = self.others();
        let all = std::iter::once(&self.first).chain(others.values());
        all.cloned().collect()
    }

    /// Stops a network and forgets it: its name and its addresses are free. The first one stops and
    /// stays.
    ///
    /// # Errors
    /// [`ManagerError::NoNetwork`].
    pub fn remove(&self, name: &str) -> Result<(), ManagerError> {
        let network = match self.first.config().name == name {
            true => Some(Arc::clone(&self.first)),
            false => self.others().remove(name),
        };
        let network = network.ok_or_else(|| ManagerError::NoNetwork(name.to_owned()))?;
        network.stop();
        Ok(())
    }

    /// Stops every network.
    pub fn stop_all(&self) {
        for network in self.networks() {
            network.stop();
        }
    }

    /// The lock guards a map of handles: a panic while it is held cannot leave it half made.
    fn others(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Network>>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for NetworkManager {
    type Target = Network;

    fn deref(&self) -> &Network {
        &self.first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NetworkMode;

    fn config(name: &str, subnet: &str) -> NetworkConfig {
        NetworkConfig {
            name: name.to_owned(),
            subnet: subnet.parse().unwrap(),
            ..NetworkConfig::default()
        }
    }

    #[test]
    fn several_networks_run_at_once() {
        let manager = NetworkManager::new(config("blue", "10.1.0.0/24"));
        let red = manager.create(config("red", "10.2.0.0/24")).unwrap();
        manager.start().unwrap();
        red.start().unwrap();
        assert_eq!(manager.allocate_ip().unwrap().to_string(), "10.1.0.2");
        assert_eq!(red.allocate_ip().unwrap().to_string(), "10.2.0.2");
        let names: Vec<_> = manager
            .networks()
            .iter()
            .map(|it| it.config().name.clone())
            .collect();
        assert_eq!(names, ["blue", "red"]);
        manager.network("red").unwrap().stop();
        assert!(manager.is_running() && !red.is_running());
        red.start().unwrap();
        manager.remove("red").unwrap();
        assert!(!red.is_running());
        assert!(manager.network("red").is_none());
        assert!(matches!(
            manager.remove("red"),
            Err(ManagerError::NoNetwork(_))
        ));
        manager.remove("blue").unwrap();
        assert!(!manager.is_running() && manager.network("blue").is_some());
    }

    #[test]
    fn names_and_addresses_are_had_once() {
        let manager = NetworkManager::new(config("blue", "10.1.0.0/24"));
        let taken = manager.create(config("blue", "10.2.0.0/24"));
        assert!(matches!(taken, Err(ManagerError::NameTaken(_))));
        for subnet in ["10.1.0.0/24", "10.0.0.0/8", "10.1.0.128/25"] {
            let error = manager.create(config("red", subnet)).unwrap_err();
            assert!(error.to_string().contains("network blue"), "{error}");
        }
        manager.create(config("red", "10.1.1.0/24")).unwrap();
        let error = manager.create(config("green", "10.1.1.0/25")).unwrap_err();
        assert!(error.to_string().contains("network red"), "{error}");
        manager.remove("red").unwrap();
        manager.create(config("green", "10.1.1.0/25")).unwrap();
        let bridged = NetworkConfig {
            mode: NetworkMode::Bridge,
            ..config("wire", "10.1.0.0/24")
        };
        manager.create(bridged).unwrap();
    }

    #[test]
    fn all_stop_with_the_manager() {
        let manager = NetworkManager::new(config("blue", "10.1.0.0/24"));
        let red = manager.create(config("red", "10.2.0.0/24")).unwrap();
        manager.start().unwrap();
        red.start().unwrap();
        manager.stop_all();
        assert!(!manager.is_running() && !red.is_running());
    }
}
