//! The tests that every back end must pass, over the fake: plain, with the virtio header, and with
//! a framework that takes one piece and few packets.

use net_backend::conformance::{Frame, Harness, Peer, Properties};
use net_backend::conformance_tests;
use net_datapath::VirtioNetHdr;

use super::start;
use crate::fake::{Fake, Script, reply};
use crate::{Vmnet, VmnetConfig};

/// Packets that wait for the back end, at most.
const QUEUE: usize = 128;

struct Setup {
    script: Script,
    config: VmnetConfig,
    header: bool,
}

impl Setup {
    fn plain() -> Self {
        Self {
            script: Script::default(),
            config: VmnetConfig::shared(),
            header: false,
        }
    }

    /// Super-frames and headers.
    fn virtio() -> Self {
        Self {
            script: Script {
                reply: reply(1500, 65_550),
                ..Script::default()
            },
            config: VmnetConfig::shared()
                .with_virtio_header(true)
                .with_tso(true),
            header: true,
        }
    }

    /// As unhelpful as it gets.
    fn stingy() -> Self {
        Self {
            script: Script {
                reply: reply(9000, 9014),
                read_most: 3,
                write_most: 2,
                room: 8,
                exhausted: true,
                one_piece: true,
                ..Script::default()
            },
            config: VmnetConfig::host_only(),
            header: false,
        }
    }
}

/// What is behind the framework.
struct Guest {
    fake: Fake,
    header: bool,
}

impl Peer for Guest {
    fn send(&mut self, header: VirtioNetHdr, frame: &[u8]) -> bool {
        if self.fake.state().inbound.len() >= QUEUE {
            return false;
        }
        let front = if self.header {
            &header.to_bytes()[..]
        } else {
            &[]
        };
        self.fake.deliver(&[front, frame].concat());
        true
    }

    fn recv(&mut self) -> Option<Frame> {
        let packet = self.fake.taken()?;
        if !self.header {
            return Some(Frame::plain(packet));
        }
        let (header, frame) = packet.split_first_chunk().expect("a header");
        Some(Frame {
            header: VirtioNetHdr::from_bytes(header),
            bytes: frame.to_vec(),
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.fake.die();
    }
}

impl Harness for Setup {
    type Backend = Vmnet;
    type Peer = Guest;

    fn connect(&mut self) -> (Vmnet, Guest) {
        let fake = Fake::with(self.script.clone());
        let vmnet = start(&fake, self.config.clone()).unwrap();
        let header = self.header;
        (vmnet, Guest { fake, header })
    }

    fn reconnect(&mut self, gone: Vmnet) -> (Vmnet, Guest) {
        drop(gone);
        self.connect()
    }

    fn properties(&self) -> Properties {
        if self.header {
            Properties::default().with_headers()
        } else {
            Properties::default()
        }
    }
}

conformance_tests!(plain, Setup::plain());
conformance_tests!(virtio, Setup::virtio());
conformance_tests!(stingy, Setup::stingy());
