//! All flows: found by addresses, by host socket, counted per guest.

use core::time::Duration;
use std::collections::HashMap;

use hashbrown::HashTable;
use slab::Slab;

use super::flow::{Flow, FlowKey, Phase};
use super::isn::Keys;
use super::socket::HostSocket;
use crate::PortId;

/// What one guest holds.
#[derive(Debug, Default)]
pub(super) struct PortAccount {
    /// Flows, those in TIME-WAIT included.
    pub(super) flows: usize,
    /// Flows in [`Phase::Connecting`].
    pub(super) connecting: usize,
    /// Flows that wait for room in the guest's queue.
    pub(super) waiting: Vec<u32>,
}

/// The table. Its owner keeps the bounds; see [`super::RelayConfig`].
#[derive(Debug)]
pub(super) struct FlowTable {
    flows: Slab<Flow>,
    index: HashTable<u32>,
    /// By host socket, which is a small number.
    sockets: Vec<u32>,
    pub(super) ports: HashMap<PortId, PortAccount>,
    pub(super) keys: Keys,
}

const NO_FLOW: u32 = u32::MAX;

impl FlowTable {
    pub(super) fn new(keys: Keys) -> Self {
        Self {
            flows: Slab::new(),
            index: HashTable::new(),
            sockets: Vec::new(),
            ports: HashMap::new(),
            keys,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    pub(super) fn get(&self, id: u32) -> Option<&Flow> {
        self.flows.get(id as usize)
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Flow> {
        self.flows.get_mut(id as usize)
    }

    pub(super) fn find(&self, key: &FlowKey) -> Option<u32> {
        let flows = &self.flows;
        self.index
            .find(self.keys.bucket(key), |&id| {
                flows.get(id as usize).is_some_and(|flow| flow.key == *key)
            })
            .copied()
    }

    pub(super) fn by_socket(&self, socket: HostSocket) -> Option<u32> {
        let id = *self.sockets.get(socket.0 as usize)?;
        self.get(id)
            .is_some_and(|flow| flow.socket == Some(socket))
            .then_some(id)
    }

    /// What the guest on `port` holds.
    pub(super) fn account(&self, port: PortId) -> Option<&PortAccount> {
        self.ports.get(&port)
    }

    /// Adds a flow whose key is not in the table.
    pub(super) fn insert(&mut self, flow: Flow) -> u32 {
        let hash = self.keys.bucket(&flow.key);
        let socket = flow.socket;
        let id = self.flows.insert(flow) as u32;
        let (flows, keys) = (&self.flows, &self.keys);
        self.index.insert_unique(hash, id, |&id| {
            flows
                .get(id as usize)
                .map_or(0, |flow| keys.bucket(&flow.key))
        });
        if let Some(socket) = socket {
            let slot = socket.0 as usize;
            if self.sockets.len() <= slot {
                self.sockets.resize(slot + 1, NO_FLOW);
            }
            self.sockets[slot] = id;
        }
        self.count(id);
        id
    }

    /// Brings the account of the flow's port up to date; returns how many flows that port has.
    pub(super) fn count(&mut self, id: u32) -> usize {
        let Some(flow) = self.flows.get_mut(id as usize) else {
            return 0;
        };
        let Some(port) = flow.port else {
            return 0;
        };
        let connecting = flow.phase == Phase::Connecting;
        if flow.counted && flow.counted_connecting == connecting {
            // The common case, without a look-up.
            return 0;
        }
        let account = self.ports.entry(port).or_default();
        account.flows += usize::from(!flow.counted);
        flow.counted = true;
        match (flow.counted_connecting, connecting) {
            (false, true) => account.connecting += 1,
            (true, false) => account.connecting = account.connecting.saturating_sub(1),
            _ => {}
        }
        flow.counted_connecting = connecting;
        account.flows
    }

    /// Removes a flow; its caller has dealt with the socket.
    pub(super) fn remove(&mut self, id: u32) -> Option<Flow> {
        let flow = self.flows.try_remove(id as usize)?;
        let hash = self.keys.bucket(&flow.key);
        if let Ok(entry) = self.index.find_entry(hash, |&other| other == id) {
            entry.remove();
        }
        if let Some(port) = flow.port
            && flow.counted
            && let Some(account) = self.ports.get_mut(&port)
        {
            account.flows = account.flows.saturating_sub(1);
            account.connecting = account
                .connecting
                .saturating_sub(usize::from(flow.counted_connecting));
            if account.flows == 0 {
                self.ports.remove(&port);
            }
        }
        Some(flow)
    }

    /// The flows of one guest. Walks the table: for a guest that is gone.
    pub(super) fn of_port(&self, port: PortId) -> Vec<u32> {
        self.flows
            .iter()
            .filter(|(_, flow)| flow.port == Some(port))
            .map(|(id, _)| id as u32)
            .collect()
    }

    /// Whether a timer entry is the live one of its flow.
    pub(super) fn is_live(&self, at: Duration, id: u32) -> bool {
        self.get(id).is_some_and(|flow| flow.scheduled == at)
    }
}
