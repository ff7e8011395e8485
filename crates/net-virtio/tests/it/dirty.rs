//! What a device has written is marked, all of it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use net_backend::{NetworkBackend, Offloads};
use net_datapath::VirtioNetHdr;
use net_virtio::driver::{BASE, DriverOptions, DriverQueue, GuestRam};
use net_virtio::{DeviceConfig, DirtyLog, QueueError, VirtioNet};

use crate::guest::{Guest, Shape};
use crate::queues::{received, transmit};

const PAGE: u64 = 4096;

#[derive(Default)]
struct Pages {
    marked: Mutex<BTreeSet<u64>>,
    batches: Mutex<usize>,
}

impl DirtyLog for Pages {
    fn mark(&self, address: u64, len: u64) {
        assert!(len > 0);
        let pages = address / PAGE..=(address + len - 1) / PAGE;
        self.marked.lock().unwrap().extend(pages);
    }

    fn publish(&self) {
        *self.batches.lock().unwrap() += 1;
    }
}

impl Pages {
    fn take(&self) -> BTreeSet<u64> {
        std::mem::take(&mut self.marked.lock().unwrap())
    }
}

/// The pages that are not what they were.
pub(crate) fn changed(before: &[u8], after: &[u8]) -> BTreeSet<u64> {
    let pages = before
        .chunks(PAGE as usize)
        .zip(after.chunks(PAGE as usize));
    let changed = (BASE / PAGE..)
        .zip(pages)
        .filter(|(_, (old, new))| old != new);
    changed.map(|(page, _)| page).collect()
}

fn all(guest: &Guest) -> Vec<u8> {
    guest.ram.read(BASE, guest.ram.mapping().1)
}

fn marked_device(guest: &Guest) -> (VirtioNet, Arc<Pages>) {
    let pages = Arc::new(Pages::default());
    let mut device = VirtioNet::new(DeviceConfig::default());
    device.set_offloads(Offloads::NONE).unwrap();
    device.set_dirty_log(Some(pages.clone()));
    guest.attach(&mut device);
    (device, pages)
}

#[test]
fn every_page_that_was_written_is_marked() {
    for shape in Shape::all() {
        let shape = Shape { size: 32, ..shape };
        let mut guest = Guest::new(shape);
        let before = all(&guest);
        let (mut device, pages) = marked_device(&guest);
        assert!(changed(&before, &all(&guest)).is_subset(&pages.take()));
        for n in 0..36usize {
            let frame = vec![n as u8 + 1; 60 + n * 31 % 300];
            guest.refill();
            assert!(guest.send(VirtioNetHdr::PLAIN, &frame));
            let before = all(&guest);
            assert_eq!(received(&mut device).len(), 1);
            let after = all(&guest);
            let (wrote, marked) = (changed(&before, &after), pages.take());
            assert!(wrote.is_subset(&marked), "sent: {shape:?} {n}");
            // No more than the ring has.
            assert!(marked.len() <= 4, "{marked:?}");
            assert!(transmit(&mut device, &frame));
            let wrote = changed(&after, &all(&guest));
            assert!(!wrote.is_empty());
            let marked = pages.take();
            assert!(wrote.is_subset(&marked), "received: {shape:?} {n}");
            assert!(marked.len() <= 4 + frame.len() / 13, "{marked:?}");
            assert_eq!(guest.recv().unwrap().1, frame);
        }
        let before = all(&guest);
        assert_eq!(guest.command(&mut device, &[9, 0]), 1);
        let answer = changed(&before, &all(&guest));
        let marked = pages.take();
        // The driver has written its command, and its part of the ring.
        assert!(answer.iter().filter(|page| marked.contains(page)).count() >= 2);
        assert!(*pages.batches.lock().unwrap() > 0);
    }
}

#[test]
fn what_was_given_back_and_not_shown_when_a_ring_was_broken_is_marked() {
    let guest = Guest::new(Shape::default());
    let (mut device, pages) = marked_device(&guest);
    assert!(transmit(&mut device, &[1; 100]));
    pages.take();
    let setup = guest.receive.setup();
    // An index out of step, which is read behind the buffers that there are.
    guest.ram.publish(setup.driver + 2, 1000);
    let before = all(&guest);
    let segment = [net_datapath::IoSegment::from(&[2; 100][..])];
    let frames = [net_backend::TxFrame::plain(&segment); 70];
    device.transmit(&frames).unwrap();
    assert!(matches!(
        device.fault(0),
        Some(QueueError::AvailableIndex { .. })
    ));
    let written = changed(&before, &all(&guest));
    assert!(written.contains(&(setup.device / PAGE)));
    assert!(written.is_subset(&pages.take()));
}

/// Rings of several pages: a batch goes round, and both of its ends are marked.
#[test]
fn a_batch_that_goes_round_is_marked_at_both_ends() {
    for packed in [false, true] {
        let mut guest = Guest::new(Shape {
            options: DriverOptions {
                packed,
                ..DriverOptions::default()
            },
            size: 1024,
            ..Shape::default()
        });
        let (mut device, pages) = marked_device(&guest);
        for _ in 0..10 {
            for n in 0..100 {
                assert!(guest.send(VirtioNetHdr::PLAIN, &[n; 60]));
            }
            assert_eq!(received(&mut device).len(), 100);
        }
        for n in 0..32 {
            assert!(guest.send(VirtioNetHdr::PLAIN, &[n; 60]));
        }
        let setup = guest.transmit.setup();
        let (ring, len) = match packed {
            false => (setup.device, 4 + 8 * 1024),
            true => (setup.descriptors, 16 * 1024),
        };
        let before = guest.ram.read(ring & !(PAGE - 1), len + PAGE as usize);
        pages.take();
        assert_eq!(device.receive(32, &mut |_| {}).unwrap(), 32);
        let after = guest.ram.read(ring & !(PAGE - 1), before.len());
        let first = (ring & !(PAGE - 1)) / PAGE - BASE / PAGE;
        let wrote: BTreeSet<u64> = changed(&before, &after)
            .into_iter()
            .map(|page| page + first)
            .collect();
        assert!(wrote.len() >= 2, "{wrote:?}");
        assert!(wrote.is_subset(&pages.take()), "{wrote:?}");
    }
}

/// The used ring begins at the end of a page, so that what goes round lies behind its header's page and
/// before that of the rest of the batch.
#[test]
fn what_goes_round_is_marked_where_nothing_else_of_the_batch_is() {
    const SIZE: u16 = 1024;
    let ram = GuestRam::new(0x2_0000);
    let mut queue = DriverQueue::new(&ram, BASE + 1968, SIZE, DriverOptions::default());
    let setup = queue.setup();
    assert_eq!(setup.device % PAGE, PAGE - 64);
    let pages = Arc::new(Pages::default());
    let mut device = VirtioNet::new(DeviceConfig::default());
    device.set_dirty_log(Some(pages.clone()));
    let memory = ram.memory().unwrap();
    device
        .start_queue(1, &setup, memory, Box::new(|| {}))
        .unwrap();
    let mut send = |count: usize| {
        for _ in 0..count {
            queue.add(&[(BASE + 0x1_f000, 72)], &[]).unwrap();
        }
        queue.publish();
        pages.take();
        assert_eq!(device.receive(count, &mut |_| {}).unwrap(), count);
        while queue.take_used().is_some() {}
        let (marked, first) = (pages.take(), setup.device / PAGE);
        [0, 1, 2].map(|page| marked.contains(&(first + page)))
    };
    for _ in 0..25 {
        send(40);
    }
    assert_eq!(send(20), [true, false, true]);
    // Four entries up to the end, then 28, of which seven and a half lie in the header's page.
    assert_eq!(send(32), [true, true, true]);
}
