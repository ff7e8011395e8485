//! A guest and a front-end that keep to the rules: what others do must not disturb them.

use std::fs::File;
use std::os::fd::OwnedFd;

use net_backend::{NetworkBackend, TxFrame};
use net_datapath::IoSegment;
use net_virtio::driver::{BASE, DriverOptions, DriverQueue, GuestRam};
use net_virtio::features;
use net_virtio::vhost_user::VhostUserPort;
use rustix::event::{EventfdFlags, eventfd};

use crate::front::Front;

const SIZE: u16 = 4;
/// Where this front-end has the guest's memory.
const USER: u64 = 0x7f00_0000_0000;
/// Where the guest has its buffers.
const SENDS: u64 = BASE + 0x6000;
const RECEIVES: u64 = BASE + 0x7000;
const PROTOCOL_FEATURES: u64 = 1 << 30;

fn words(fields: &[u64]) -> Vec<u8> {
    fields.iter().flat_map(|it| it.to_ne_bytes()).collect()
}

fn pair(index: u32, value: u32) -> Vec<u8> {
    [index, value].map(u32::to_ne_bytes).concat()
}

pub struct Guest {
    ram: GuestRam,
    queues: [DriverQueue; 2],
    front: Front,
    call: OwnedFd,
    count: u8,
    _memory: File,
}

impl Guest {
    /// A guest that has set up its device.
    pub fn attach(port: &VhostUserPort, packed: bool) -> Self {
        let (ram, memory) = GuestRam::shared(0x8000).expect("memory");
        let options = DriverOptions {
            packed,
            ..DriverOptions::default()
        };
        let queues = [0, 1].map(|n| DriverQueue::new(&ram, BASE + n * 0x3000, SIZE, options));
        let mut front = Front::connect(port);
        front.ask(1, &[], &[]);
        let offered = front.ask(15, &[], &[]);
        front.ask(16, &offered, &[]);
        let bits = if packed { features::RING_PACKED } else { 0 };
        let chosen = features::VERSION_1 | features::MRG_RXBUF | PROTOCOL_FEATURES | bits;
        assert_eq!(front.ask(2, &words(&[chosen]), &[]), words(&[0]));
        let mut table = pair(1, 0);
        table.extend(words(&[BASE, 0x8000, USER, 0]));
        front.ask(5, &table, &[&memory]);
        let [kick, call] = [0; 2].map(|_| eventfd(0, EventfdFlags::NONBLOCK).expect("an eventfd"));
        for (index, queue) in (0..).zip(&queues) {
            let setup = queue.setup();
            front.ask(8, &pair(index, SIZE.into()), &[]);
            front.ask(10, &pair(index, if packed { 0x8000_8000 } else { 0 }), &[]);
            let mut body = pair(index, 0);
            let places = [setup.descriptors, setup.device, setup.driver].map(|at| at - BASE + USER);
            body.extend(words(&places));
            body.extend(words(&[0]));
            front.ask(9, &body, &[]);
            front.ask(12, &words(&[index.into()]), &[&kick]);
            front.ask(13, &words(&[index.into()]), &[&call]);
            front.ask(18, &pair(index, 1), &[]);
        }
        Self {
            ram,
            queues,
            front,
            call,
            count: 0,
            _memory: memory,
        }
    }

    /// One frame each way.
    pub fn exchange(&mut self, port: &mut VhostUserPort) {
        self.count = self.count.wrapping_add(1);
        let frame: Vec<u8> = (0..100).map(|at| self.count.wrapping_mul(at | 1)).collect();
        let [receive, transmit] = &mut self.queues;
        self.ram
            .write(SENDS, &[[0; 12].as_slice(), &frame].concat());
        let id = transmit.add(&[(SENDS, 112)], &[]).expect("room");
        transmit.publish();
        let mut seen = 0;
        let mut look = |batch: &mut [net_datapath::ZeroCopyPacket<'_>]| {
            for packet in batch {
                let mut copy = vec![0; packet.len()];
                packet.copy_range(0, &mut copy);
                assert_eq!(copy, frame, "what this guest sent");
                seen += 1;
            }
        };
        port.receive(64, &mut look).expect("it is served");
        assert_eq!(seen, 1);
        assert_eq!(transmit.take_used(), Some((id, 0)));

        receive.add(&[], &[(RECEIVES, 1600)]).expect("room");
        receive.publish();
        let segments = [IoSegment::from(&frame[..])];
        let taken = port.transmit(&[TxFrame::plain(&segments)]);
        assert_eq!(taken.expect("it is served"), 1);
        assert_eq!(receive.take_used().expect("a frame").1, 112);
        assert_eq!(self.ram.read(RECEIVES + 12, 100), frame);
        let mut count = [0; 8];
        rustix::io::read(&self.call, &mut count).expect("an interrupt");
        assert!(self.front.is_served());
    }
}
