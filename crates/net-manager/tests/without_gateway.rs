//! A network without a gateway of its own is a switch and nothing else.

use std::time::{Duration, Instant};

use net_backend::memory::{self, MemoryBackend};
use net_backend::{NetworkBackend, TxFrame};
use net_manager::{AttachOptions, ManagerError, NetworkConfig, NetworkManager};

fn network(gateway: bool) -> NetworkManager {
    let mut config = NetworkConfig::default();
    config.gateway = gateway;
    let manager = NetworkManager::new(config);
    manager.start().expect("a network");
    manager
}

fn attach(manager: &NetworkManager) -> MemoryBackend {
    let (guest, port) = memory::pair();
    manager
        .attach(Box::new(port), AttachOptions::default())
        .expect("a port");
    guest
}

fn send(guest: &mut MemoryBackend, frame: &[u8]) {
    let segments = [frame.into()];
    let sent = guest.transmit(&[TxFrame::plain(&segments)]);
    assert_eq!(sent.expect("the port is there"), 1);
}

/// A pair in memory has no descriptor: a command of the manager is what wakes the worker.
fn frames(manager: &NetworkManager, guest: &mut MemoryBackend, until: usize) -> Vec<Vec<u8>> {
    let mut got = Vec::new();
    let patience = Duration::from_millis(if until > 0 { 5000 } else { 100 });
    let begun = Instant::now();
    while got.len() < until.max(1) && begun.elapsed() < patience {
        manager.status().expect("the network runs");
        let _ = guest.receive(64, &mut |batch| {
            for packet in batch {
                let mut frame = vec![0; packet.len()];
                packet.copy_range(0, &mut frame);
                got.push(frame);
            }
        });
        std::thread::sleep(Duration::from_millis(1));
    }
    got
}

/// An ARP question of `mac` for the first address of the network.
fn question(mac: u8) -> Vec<u8> {
    let mut frame = vec![0; 42];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, mac]);
    frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&[2, 0, 0, 0, 0, mac]);
    frame[28..32].copy_from_slice(&[10, 0, 2, 2]);
    frame[38..42].copy_from_slice(&[10, 0, 2, 1]);
    frame
}

#[test]
fn nobody_but_the_guests_answers() {
    let manager = network(false);
    let mut other = attach(&manager);
    // What waits in a pair when it is attached is read; of what comes later nobody is told.
    let (mut one, port) = memory::pair();
    send(&mut one, &question(1));
    manager
        .attach(Box::new(port), AttachOptions::default())
        .unwrap();
    assert_eq!(frames(&manager, &mut other, 1), [question(1)]);
    assert!(frames(&manager, &mut one, 0).is_empty());
}

#[test]
fn with_a_gateway_it_answers() {
    let manager = network(true);
    let (mut one, port) = memory::pair();
    send(&mut one, &question(1));
    manager
        .attach(Box::new(port), AttachOptions::default())
        .unwrap();
    assert!(!frames(&manager, &mut one, 1).is_empty());
}

#[test]
fn ports_cannot_be_published() {
    let manager = network(false);
    let _guest = attach(&manager);
    let error = manager.publish("0:80".parse().unwrap()).unwrap_err();
    assert!(matches!(error, ManagerError::NoGateway(0)));
    assert!(error.to_string().contains("no gateway"));
}
