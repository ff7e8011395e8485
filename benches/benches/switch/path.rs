//! The ways a frame can take.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use net_backend::{NetworkBackend, TxFrame};
use net_benches::harness::{alone, together};
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
        Self::between(from.device(), to.device())
    }

    /// A switch between these devices.
    pub(crate) fn between(from: VirtioNet, to: VirtioNet) -> Self {
        let mut switch = Switch::new(Config::new([7; 16]));
        for port in [1, 2] {
            switch.add_port(port, PortConfig::default());
        }
        // The other one has been heard of.
        let (one, two) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let [one, two] = [one, two].map(net_wire::MacAddr);
        switch.forward(2, one, two, NOW);
        Self {
            from,
            to,
            switch: Some(switch),
        }
    }

    /// Carries what the sender has made available, `most` frames at most; how many it carried.
    #[inline]
    pub(crate) fn turn(&mut self, most: usize) -> usize {
        let Self { from, to, switch } = self;
        let mut carried = 0;
        let mut sink = |packets: &mut [ZeroCopyPacket<'_>]| {
            carried += forward(to, switch.as_mut(), packets);
        };
        from.receive(most, &mut sink).expect("receives");
        carried
    }

    /// Carries `frames` frames from one guest to the other, and works for both drivers; the time of
    /// all, and of the devices and the switch without the drivers.
    pub(crate) fn carry(
        &mut self,
        from: &mut Guest,
        to: &mut Guest,
        frames: usize,
    ) -> (Duration, Duration) {
        let mut devices = Duration::ZERO;
        let all = alone(|| self.carry_here(from, to, frames, &mut devices));
        (all, devices)
    }

    /// [`Self::carry`] on this core, whichever it is.
    pub(crate) fn carry_here(
        &mut self,
        from: &mut Guest,
        to: &mut Guest,
        frames: usize,
        devices: &mut Duration,
    ) {
        let mut left = frames;
        while left > 0 {
            let turn = TURN.min(left.try_into().unwrap_or(TURN));
            from.offer(1, turn);
            let start = Instant::now();
            let carried = self.turn(turn.into());
            *devices += start.elapsed();
            assert_eq!(carried, usize::from(turn), "every frame arrives");
            to.offer(0, turn);
            left -= usize::from(turn);
        }
    }

    /// The same with both drivers on another core, which do nothing but keep the rings full.
    pub(crate) fn serve(&mut self, from: &mut Guest, to: &mut Guest, frames: usize) -> Duration {
        let done = AtomicBool::new(false);
        together(
            || {
                let mut left = frames;
                while left > 0 {
                    left -= self.turn(left.min(usize::from(TURN)));
                }
                done.store(true, Ordering::Relaxed);
            },
            || {
                while !done.load(Ordering::Relaxed) {
                    for (guest, which) in [(&mut *to, 0), (&mut *from, 1)] {
                        if guest.given_back(which) >= TURN / 2 {
                            guest.refill(which);
                        }
                    }
                    std::hint::spin_loop();
                }
            },
        )
    }

    /// Takes back what the last sender has still made available, so that another may begin.
    pub(crate) fn drain(&mut self, to: &mut Guest) {
        to.refill(0);
        while self.turn(TURN.into()) > 0 {
            to.refill(0);
        }
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
        let mut rest = &*packets;
        while let Some(first) = rest.first() {
            let alike = rest.iter().take_while(|packet| packet.goes_like(first));
            let addresses = (first.dst_mac(), first.src_mac());
            let (verdict, count) = switch.forward_run(1, || None, addresses, alike.count(), NOW);
            assert!(matches!(verdict, Verdict::To(2)), "both are known");
            rest = rest.get(count..).unwrap_or_default();
        }
    }
    let frames: Vec<_> = packets
        .iter_mut()
        .map(|packet| TxFrame {
            header: *packet.vnet(),
            segments: packet.segments(),
        })
        .collect();
    let mut sent = 0;
    // A driver on another core may be a moment late with its buffers.
    while let Some(rest) = frames.get(sent..).filter(|rest| !rest.is_empty()) {
        sent += target.transmit(rest).expect("transmits");
    }
    sent
}

/// The same bytes between the same buffers, and nothing else.
pub(crate) fn memcpy(guest: &Guest, frames: usize) -> Duration {
    alone(|| {
        for n in 0..frames {
            guest.copy(n);
        }
    })
}
