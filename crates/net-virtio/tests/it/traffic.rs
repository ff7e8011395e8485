//! The conformance cases that need no transport, over both ring formats; and two guests.

use net_backend::conformance::{self, Frame, Harness, Peer, Properties};
use net_backend::{NetworkBackend, Offloads, TxFrame};
use net_datapath::{VirtioNetHdr, ZeroCopyPacket};
use net_virtio::VirtioNet;
use net_virtio::driver::DriverOptions;

use crate::guest::{Guest, Shape};

struct Pair(Shape);

impl Peer for Guest {
    fn send(&mut self, header: VirtioNetHdr, frame: &[u8]) -> bool {
        Self::send(self, header, frame)
    }

    fn recv(&mut self) -> Option<Frame> {
        let (header, bytes) = Self::recv(self)?;
        Some(Frame { header, bytes })
    }
}

impl Harness for Pair {
    type Backend = VirtioNet;
    type Peer = Guest;

    fn connect(&mut self) -> (VirtioNet, Guest) {
        let guest = Guest::new(self.0);
        let device = guest.device();
        (device, guest)
    }

    fn reconnect(&mut self, mut gone: VirtioNet) -> (VirtioNet, Guest) {
        gone.reset();
        let guest = Guest::new(self.0);
        guest.attach(&mut gone);
        (gone, guest)
    }

    fn properties(&self) -> Properties {
        Properties::default().with_headers()
    }
}

fn shapes() -> impl Iterator<Item = Shape> {
    [false, true].into_iter().map(|packed| Shape {
        options: DriverOptions {
            packed,
            event_index: true,
            indirect: true,
        },
        size: 256,
        ..Shape::default()
    })
}

#[test]
fn conformance() {
    for shape in shapes() {
        let mut pair = Pair(shape);
        conformance::frame_sizes(&mut pair);
        conformance::batches(&mut pair);
        conformance::receive_would_block(&mut pair);
        conformance::transmit_would_block(&mut pair);
        conformance::partial_progress(&mut pair);
        conformance::invalid_frames(&mut pair);
        conformance::offloads_refused(&mut pair);
        conformance::statistics(&mut pair);
    }
}

/// From one guest's memory into the other's.
#[test]
fn guest_to_guest() {
    for (from, to) in [(false, false), (false, true), (true, false), (true, true)] {
        let shape = |packed| Shape {
            options: DriverOptions {
                packed,
                event_index: true,
                indirect: packed,
            },
            size: 64,
            cut: 700,
            ..Shape::default()
        };
        let (mut alice, mut bob) = (Guest::new(shape(from)), Guest::new(shape(to)));
        let [mut a, mut b] = [&alice, &bob].map(|guest| guest.device_with(Offloads::ALL));
        for n in 0..500usize {
            let frame: Vec<u8> = (0..60 + n * 3).map(|at| (at ^ n) as u8).collect();
            assert!(alice.send(VirtioNetHdr::PLAIN, &frame));
            let mut forwarded = 0;
            let mut forward = |packets: &mut [ZeroCopyPacket<'_>]| {
                for packet in packets {
                    let segments = packet.frame_segments();
                    let header = *packet.vnet();
                    let frame = TxFrame {
                        header,
                        segments: &segments,
                    };
                    forwarded += b.transmit(&[frame]).unwrap();
                }
            };
            a.receive(64, &mut forward).unwrap();
            assert_eq!(forwarded, 1);
            assert_eq!(bob.recv().unwrap().1, frame);
        }
    }
}
