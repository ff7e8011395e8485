//! The line between relay and guest, and the guest's end of it.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

use super::rng::Rng;

/// The guest's network card.
#[derive(Default)]
pub(crate) struct Card {
    pub(crate) received: VecDeque<Vec<u8>>,
    pub(crate) sent: Vec<Vec<u8>>,
    pub(crate) mtu: usize,
}

pub(crate) struct Received(Vec<u8>);
pub(crate) struct Sending<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push(packet);
        result
    }
}

impl Device for Card {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Received, Sending<'_>)> {
        let packet = self.received.pop_front()?;
        Some((Received(packet), Sending(&mut self.sent)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

/// What happens to packets of one direction, in parts of 1000.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Faults {
    pub(crate) loss: u64,
    pub(crate) repeat: u64,
    pub(crate) corrupt: u64,
    pub(crate) delay_us: u64,
    pub(crate) jitter_us: u64,
}

impl Faults {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        Self {
            loss: rng.pick(&[0, 0, 5, 20, 60, 120]),
            repeat: rng.pick(&[0, 0, 10, 50]),
            corrupt: rng.pick(&[0, 0, 5, 30]),
            delay_us: rng.pick(&[0, 20, 500, 5_000]),
            jitter_us: rng.pick(&[0, 0, 50, 3_000]),
        }
    }
}

/// Packets on their way.
pub(crate) struct Line {
    pub(crate) faults: Faults,
    flying: BTreeMap<(Duration, u64), Vec<u8>>,
    count: u64,
    /// `TCP_RELAY_TRACE=1` prints every packet.
    trace: bool,
}

impl Line {
    pub(crate) fn new(faults: Faults) -> Self {
        Self {
            faults,
            flying: BTreeMap::new(),
            count: 0,
            trace: std::env::var_os("TCP_RELAY_TRACE").is_some(),
        }
    }

    pub(crate) fn put(&mut self, packet: Vec<u8>, now: Duration, rng: &mut Rng) {
        let faults = self.faults;
        if self.trace {
            let seg = super::lab::Seg::read(&packet);
            let (len, scale) = (seg.payload.len(), seg.scale());
            eprintln!(
                "{now:?} {} {:?} seq {} len {len} ack {} win {} {scale:?}",
                seg.src, seg.flags, seg.seq, seg.ack, seg.window
            );
        }
        let copies = if rng.permille(faults.loss) {
            0
        } else {
            1 + usize::from(rng.permille(faults.repeat))
        };
        for _ in 0..copies {
            let mut packet = packet.clone();
            if rng.permille(faults.corrupt) {
                let at = rng.below(packet.len() as u64) as usize;
                packet[at] ^= 1 << rng.below(8);
            }
            let delay = faults.delay_us + rng.below(faults.jitter_us + 1);
            self.count += 1;
            let due = now + Duration::from_micros(delay);
            self.flying.insert((due, self.count), packet);
        }
    }

    pub(crate) fn take(&mut self, now: Duration) -> Option<Vec<u8>> {
        let entry = self.flying.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    pub(crate) fn next(&self) -> Option<Duration> {
        self.flying.first_key_value().map(|(key, _)| key.0)
    }
}
