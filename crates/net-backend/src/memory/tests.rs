//! The in-memory pair passes the conformance suite, and its faults do what they say.

use crate::conformance::{Frame, Harness, Peer, Properties};
use crate::memory::{Faults, MemoryBackend, pair, pair_with};
use crate::{BackendError, Capabilities, NetworkBackend, Offloads, TxFrame};
use net_datapath::VirtioNetHdr;

struct Ends(Offloads);

struct FarEnd(MemoryBackend);

impl Peer for FarEnd {
    fn send(&mut self, header: VirtioNetHdr, frame: &[u8]) -> bool {
        let segments = [frame.into()];
        let offer = [TxFrame {
            header,
            segments: &segments,
        }];
        matches!(self.0.transmit(&offer), Ok(1))
    }

    fn recv(&mut self) -> Option<Frame> {
        let mut got = None;
        let sink = &mut |batch: &mut [net_datapath::ZeroCopyPacket<'_>]| {
            for packet in batch {
                let mut bytes = vec![0; packet.len()];
                packet.copy_range(0, &mut bytes);
                let header = *packet.vnet();
                got = Some(Frame { header, bytes });
            }
        };
        self.0.receive(1, sink).ok()?;
        got
    }
}

impl Harness for Ends {
    type Backend = MemoryBackend;
    type Peer = FarEnd;

    fn connect(&mut self) -> (MemoryBackend, FarEnd) {
        let capabilities = Capabilities {
            offloads: self.0,
            ..Capabilities::default()
        };
        let (near, mut far) = pair_with(capabilities, 40);
        far.set_offloads(Offloads::ALL).unwrap();
        (near, FarEnd(far))
    }

    fn reconnect(&mut self, mut gone: MemoryBackend) -> (MemoryBackend, FarEnd) {
        let far = gone.attach_peer();
        (gone, FarEnd(far))
    }

    fn properties(&self) -> Properties {
        Properties::default().with_headers()
    }
}

crate::conformance_tests!(plain, Ends(Offloads::NONE));
crate::conformance_tests!(offloaded, Ends(Offloads::ALL));

fn offer_of<const N: usize>(near: &mut MemoryBackend) -> Result<usize, BackendError> {
    let frame = [7u8; 60];
    let segments = [frame[..].into()];
    near.transmit(&[TxFrame::plain(&segments); N])
}

#[test]
fn faults_happen_as_often_as_asked_for() {
    let (mut near, mut far) = pair();
    near.set_faults(Faults {
        transmit_blocks: 2,
        transmit_at_most: Some(3),
        ..Faults::default()
    });
    assert_eq!(offer_of::<5>(&mut near).unwrap(), 0);
    assert!(near.wants_write());
    assert_eq!(offer_of::<5>(&mut near).unwrap(), 0);
    assert_eq!(offer_of::<5>(&mut near).unwrap(), 3);
    assert_eq!(offer_of::<2>(&mut near).unwrap(), 2);
    assert!(!near.wants_write());
    far.set_faults(Faults {
        receive_blocks: 1,
        ..Faults::default()
    });
    let mut seen = 0;
    assert_eq!(far.receive(9, &mut |batch| seen += batch.len()).unwrap(), 0);
    assert_eq!(far.receive(9, &mut |batch| seen += batch.len()).unwrap(), 5);
    assert_eq!(seen, 5);
}

#[test]
fn a_planned_disconnect_comes_after_the_frames_before_it() {
    let (mut near, mut far) = pair();
    near.set_faults(Faults {
        disconnect_after: Some(2),
        ..Faults::default()
    });
    assert_eq!(offer_of::<5>(&mut near).unwrap(), 2);
    assert!(matches!(
        offer_of::<5>(&mut near),
        Err(BackendError::Disconnected)
    ));
    let mut seen = 0;
    assert_eq!(far.receive(9, &mut |batch| seen += batch.len()).unwrap(), 2);
    assert!(matches!(
        far.receive(9, &mut |_| ()),
        Err(BackendError::Disconnected)
    ));
    assert!(matches!(
        offer_of::<1>(&mut far),
        Err(BackendError::Disconnected)
    ));
}

#[test]
fn the_sink_may_answer_on_the_same_pair() {
    let (mut near, mut far) = pair_with(Capabilities::default(), 1);
    assert_eq!(offer_of::<1>(&mut near).unwrap(), 1);
    far.receive(1, &mut |_| assert_eq!(offer_of::<1>(&mut near).unwrap(), 1))
        .unwrap();
    assert_eq!(far.receive(1, &mut |_| ()).unwrap(), 1);
}
