//! The ways a frame can take.

use std::time::Duration;

use net_backend::{NetworkBackend, TxFrame};
use net_benches::harness::alone;
use net_datapath::ZeroCopyPacket;
use net_switch::{Config, PortConfig, Switch, Verdict};
use net_virtio::VirtioNet;

use crate::guest::Guest;

/// Frames in a turn: what a driver makes available at a time.
const TURN: u16 = 64;
const NOW: Duration = Duration::from_secs(1);

/// Two devices, and perhaps a switch between them.
pub(crate) struct Path {
    from: VirtioNet,
    to: VirtioNet,
    switch: Option<Switch>,
}

impl Path {
    pub(crate) fn without_switch(from: &Guest, to: &Guest) -> Self {
        Self {
            from: from.device(),
            to: to.device(),
            switch: None,
        }
    }

    pub(crate) fn with_switch(from: &Guest, to: &Guest) -> Self {
        let mut switch = Switch::new(Config::new([7; 16]));
        for port in [1, 2] {
            switch.add_port(port, PortConfig::default());
        }
        // The other one has been heard of.
        let (one, two) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let [one, two] = [one, two].map(net_wire::MacAddr);
        switch.forward(2, one, two, NOW);
        Self {
            switch: Some(switch),
            ..Self::without_switch(from, to)
        }
    }

    /// Carries `frames` frames from one guest to the other.
    pub(crate) fn carry(&mut self, from: &mut Guest, to: &mut Guest, frames: usize) -> Duration {
        alone(|| {
            let mut left = frames;
            while left > 0 {
                let turn = TURN.min(left.try_into().unwrap_or(TURN));
                from.offer(1, turn);
                let Self {
                    from: source,
                    to: target,
                    switch,
                } = self;
                let mut carried = 0;
                let mut sink = |packets: &mut [ZeroCopyPacket<'_>]| {
                    carried += forward(target, switch.as_mut(), packets);
                };
                source.receive(turn.into(), &mut sink).expect("receives");
                assert_eq!(carried, usize::from(turn), "every frame arrives");
                to.offer(0, turn);
                left -= usize::from(turn);
            }
        })
    }
}

/// Decides for each frame and sends neighbours that go the same way together.
#[inline]
fn forward(
    target: &mut VirtioNet,
    switch: Option<&mut Switch>,
    packets: &mut [ZeroCopyPacket<'_>],
) -> usize {
    if let Some(switch) = switch {
        for packet in packets.iter() {
            let verdict = switch.forward(1, packet.dst_mac(), packet.src_mac(), NOW);
            assert_eq!(verdict, Verdict::To(2));
        }
    }
    let frames: Vec<_> = packets
        .iter_mut()
        .map(|packet| TxFrame {
            header: *packet.vnet(),
            segments: packet.segments(),
        })
        .collect();
    target.transmit(&frames).expect("transmits")
}

/// The same bytes between the same buffers, and nothing else.
pub(crate) fn memcpy(guest: &Guest, frames: usize) -> Duration {
    alone(|| {
        for n in 0..frames {
            guest.copy(n);
        }
    })
}
