//! vhost-user: a front-end that sends whatever it likes, with whatever descriptors beside it, in
//! pieces or not at all, while a worker moves frames and the memory changes.
//!
//! The back end is the real one, over a real socket, in steps on this thread. Nothing of a front-end
//! outlives it: descriptors, mappings and memory are what they were. Whoever connects next is
//! served, and somebody else's port is as it was.
//!
//! The input is a byte of options and steps ([`input::Op`]).
#![no_main]
#![cfg(target_os = "linux")]

mod files;
mod front;
mod guest;
mod input;
mod usage;

use std::cell::RefCell;
use std::os::fd::AsFd;

use libfuzzer_sys::fuzz_target;
use net_backend::{BackendError, NetworkBackend, Offloads, TxFrame};
use net_datapath::{IoSegment, VirtioNetHdr};
use net_virtio::DeviceConfig;
use net_virtio::vhost_user::VhostUserPort;

use files::Files;
use front::Front;
use guest::Guest;
use input::Op;
use usage::Usage;

/// Steps of one input.
const STEPS: usize = 200;

/// A port and its guest that live as long as the process.
struct Witness {
    port: VhostUserPort,
    guest: Guest,
}

thread_local! {
    static WITNESS: RefCell<Witness> = RefCell::new({
        let port = VhostUserPort::new(DeviceConfig::default()).expect("descriptors");
        let guest = Guest::attach(&port, true);
        Witness { port, guest }
    });
}

fn disturb_nobody() {
    WITNESS.with_borrow_mut(|witness| witness.guest.exchange(&mut witness.port));
}

/// A port, and the front-end of the moment.
struct World {
    port: VhostUserPort,
    front: Option<Front>,
    files: Files,
}

impl World {
    /// The front-end that is served; another where the last one has gone.
    fn front(&mut self) -> &mut Front {
        if self.front.as_ref().is_none_or(|front| !front.is_served()) {
            self.front = None;
            self.front = Some(Front::connect(&self.port));
        }
        self.front.as_mut().expect("connected")
    }

    fn send(&mut self, bytes: &[u8], fds: &[u8]) {
        for kind in fds {
            self.files.of(*kind);
        }
        self.front();
        let fds: Vec<_> = fds
            .iter()
            .map(|kind| self.files.of(*kind).try_clone())
            .collect();
        let fds: Vec<_> = fds.into_iter().map(|fd| fd.expect("a copy")).collect();
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        self.front().send(bytes, &fds);
    }

    fn run(&mut self) {
        if let Some(front) = &mut self.front
            && let Some(fd) = front.run()
        {
            self.files.keep(fd);
        }
    }

    fn receive(&mut self, budget: usize) {
        let taken = self.port.receive(budget, &mut |batch| {
            for packet in batch {
                let mut copy = vec![0; packet.len()];
                assert_eq!(packet.copy_range(0, &mut copy), copy.len());
                assert!((14..=65_550).contains(&copy.len()));
            }
        });
        match taken {
            Ok(taken) => assert!(taken <= budget),
            Err(BackendError::Disconnected) => {}
            Err(err) => panic!("a front-end is never the host's error: {err}"),
        }
    }

    fn transmit(&mut self, count: u8, len: u16, gso: u8) {
        let bytes = vec![gso; len.into()];
        let header = match gso & 3 {
            0 | 1 => VirtioNetHdr::PLAIN,
            2 => VirtioNetHdr {
                flags: VirtioNetHdr::NEEDS_CSUM,
                csum_start: 34,
                csum_offset: 16,
                ..VirtioNetHdr::PLAIN
            },
            _ => VirtioNetHdr {
                flags: VirtioNetHdr::NEEDS_CSUM,
                gso_type: VirtioNetHdr::GSO_TCPV4,
                gso_size: 1000,
                csum_start: 34,
                csum_offset: 16,
                ..VirtioNetHdr::PLAIN
            },
        };
        let segments = [IoSegment::from(&bytes[..])];
        let segments = &segments[..];
        let frames = vec![TxFrame { header, segments }; (count % 80).into()];
        let taken = self.port.transmit(&frames).expect("never the host's error");
        assert!(taken <= frames.len());
    }

    fn take(&mut self, op: Op<'_>) {
        match op {
            Op::Message {
                request,
                flags,
                claims,
                fds,
                body,
                cut,
                late,
                held,
            } => {
                let len = claims.unwrap_or(body.len() as u32);
                let header = [request.into(), flags.into(), len];
                let mut bytes = header.map(u32::to_ne_bytes).concat();
                bytes.extend(body);
                let (first, second) = bytes.split_at(usize::from(cut).min(bytes.len()));
                self.send(first, if late { &[] } else { fds });
                if !held && !first.is_empty() {
                    self.run();
                }
                let all_in_one = first.is_empty();
                self.send(second, if late || all_in_one { fds } else { &[] });
                if !held {
                    self.run();
                }
            }
            Op::Bytes { bytes, fds } => self.send(bytes, fds),
            Op::Step => self.run(),
            Op::End { go: true } => self.front = None,
            Op::End { go: false } => self.front().end(),
            Op::Receive { budget } => self.receive(budget.into()),
            Op::Transmit { count, len, gso } => self.transmit(count, len, gso),
            Op::Poke { file, at, bytes } => self.files.poke(file, at, bytes),
            Op::Ring { file } => self.files.ring(file),
            Op::Silence => self.files.silence(),
            Op::Witness => disturb_nobody(),
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&options, mut rest)) = bytes.split_first() else {
        return;
    };
    disturb_nobody();
    let before = Usage::now();
    let config = DeviceConfig::default().with_pairs(1 + u16::from(options & 1));
    let mut port = VhostUserPort::new(config).expect("descriptors");
    let offloads = if options & 2 == 0 {
        Offloads::ALL
    } else {
        Offloads::NONE
    };
    port.set_offloads(offloads).expect("offloads");
    let mut world = World {
        port,
        front: None,
        files: Files::default(),
    };
    for _ in 0..STEPS {
        let Some(op) = Op::read(&mut rest) else {
            break;
        };
        world.take(op);
    }
    disturb_nobody();
    let World {
        mut port,
        front,
        files,
    } = world;
    drop((front, files));
    // Whoever comes next finds the port as if it were new.
    let _ = port.receive(64, &mut |_| panic!("nobody is there"));
    let mut guest = Guest::attach(&port, options & 4 != 0);
    guest.exchange(&mut port);
    drop(guest);
    drop(port);
    before.check();
});
