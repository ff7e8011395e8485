//! An interface of the fake.

use std::sync::Arc;

use super::script::State;
use super::{Shared, has_flag};
use crate::forwarding::RawRule;
use crate::framework::{Interface, Moved, OnDone, OnEvent, OnRules};
use crate::key::{Dictionary, Key};
use crate::rx::Slots;
use crate::tx::Outgoing;

pub(crate) struct FakeInterface {
    shared: Arc<Shared>,
    /// Longest packet, with the header in front if there is one.
    longest: usize,
}

impl FakeInterface {
    pub(crate) fn new(shared: &Arc<Shared>, request: &Dictionary, state: &State) -> Self {
        let header = if has_flag(request, Key::EnableVirtioHeader) {
            12
        } else {
            0
        };
        let longest = state
            .script
            .reply
            .number(Key::MaxPacketSize)
            .unwrap_or(1514);
        Self {
            shared: Arc::clone(shared),
            longest: usize::try_from(longest).unwrap_or(usize::MAX).min(131_072) + header,
        }
    }
}

impl Interface for FakeInterface {
    fn set_events(&mut self, mask: u32, on_event: Option<OnEvent>) -> u32 {
        let mut state = self.shared.state();
        state.event_masks.push(mask);
        if state.script.events_status == 1000 {
            state.on_event = on_event;
        }
        state.script.events_status
    }

    fn read(&mut self, slots: &mut Slots, count: usize) -> Moved {
        let mut state = self.shared.state();
        state.reads += 1;
        state.most_read = state.most_read.max(count);
        let asked = count;
        // The count is left as it was where a call fails.
        let failed = |status| Moved {
            status,
            packets: asked,
        };
        if let Some(status) = state
            .next_reads
            .pop_front()
            .filter(|status| *status != 1000)
        {
            return failed(status);
        }
        if count > state.script.read_most {
            return failed(1008);
        }
        for index in 0..count {
            let (memory, size) = slots.slot_mut(index).expect("a slot for each packet");
            // "Each packet should be at least as large as vmnet_max_packet_size_key."
            if *size < self.longest || *size > memory.len() {
                return failed(1003);
            }
        }
        if state.inbound.is_empty() && state.dead {
            return failed(1004);
        }
        let mut packets = 0;
        while packets < count {
            let Some(packet) = state.inbound.pop_front() else {
                break;
            };
            let (memory, size) = slots.slot_mut(packets).expect("a slot for each packet");
            let len = packet.len().min(memory.len());
            memory[..len].copy_from_slice(&packet[..len]);
            // The length that is reported is the packet's, whatever there was room for.
            *size = packet.len();
            packets += 1;
        }
        Moved {
            status: 1000,
            packets,
        }
    }

    fn write(&mut self, packets: &[Outgoing<'_>]) -> Moved {
        let mut state = self.shared.state();
        let pieces = |packet: &Outgoing<'_>| {
            let segments = packet.segments.iter().filter(|segment| !segment.is_empty());
            usize::from(packet.header.is_some()) + segments.count()
        };
        state
            .writes
            .push((packets.len(), packets.first().map_or(0, pieces)));
        let failed = |status| Moved {
            status,
            packets: packets.len(),
        };
        if let Some(status) = state
            .next_writes
            .pop_front()
            .filter(|status| *status != 1000)
        {
            return failed(status);
        }
        if state.dead {
            return failed(1004);
        }
        if packets.len() > state.script.write_most {
            return failed(1008);
        }
        let mut bytes = Vec::new();
        for packet in packets {
            if state.script.one_piece && pieces(packet) > 1 {
                return failed(1003);
            }
            let mut whole = packet.header.map(Vec::from).unwrap_or_default();
            for segment in packet.segments {
                let at = whole.len();
                whole.resize(at + segment.len(), 0);
                segment.copy_to_slice(0, &mut whole[at..]);
            }
            if whole.len() != packet.size {
                return failed(1003);
            }
            if whole.len() > self.longest {
                return failed(1006);
            }
            bytes.push(whole);
        }
        let free = state.script.room.saturating_sub(state.outbound.len());
        if state.script.exhausted && free < bytes.len() {
            return failed(1007);
        }
        let packets = free.min(bytes.len());
        state.outbound.extend(bytes.into_iter().take(packets));
        Moved {
            status: 1000,
            packets,
        }
    }

    fn stop(&mut self, done: OnDone) -> u32 {
        let mut state = self.shared.state();
        state.stops += 1;
        let (asked, status) = (state.script.stop_asked, state.script.stop_status);
        let answer = state.script.stop_answer;
        drop(state);
        if asked == 1000 {
            self.shared.answer(&answer, move || done(status));
        }
        asked
    }

    fn add_rule(&mut self, rule: &RawRule, done: OnDone) -> u32 {
        let mut state = self.shared.state();
        let (asked, status) = (state.script.rules_asked, state.script.rules_status);
        let answer = state.script.rules_answer;
        if asked == 1000 && status == 1000 {
            state.rules.push(*rule);
        }
        drop(state);
        if asked == 1000 {
            self.shared.answer(&answer, move || done(status));
        }
        asked
    }

    fn remove_rule(&mut self, protocol: u8, external_port: u16, family: u8, done: OnDone) -> u32 {
        let mut state = self.shared.state();
        let (asked, mut status) = (state.script.rules_asked, state.script.rules_status);
        let answer = state.script.rules_answer;
        let before = state.rules.len();
        state.rules.retain(|rule| {
            let same = rule.address.is_ipv6() == (family == 30);
            !(rule.protocol == protocol && rule.external_port == external_port && same)
        });
        if state.rules.len() == before && status == 1000 {
            status = 1003;
        }
        drop(state);
        if asked == 1000 {
            self.shared.answer(&answer, move || done(status));
        }
        asked
    }

    fn rules(&mut self, family: u8, done: OnRules) -> u32 {
        let state = self.shared.state();
        let (asked, status) = (state.script.rules_asked, state.script.rules_status);
        let answer = state.script.rules_answer;
        let rules: Vec<RawRule> = state
            .rules
            .iter()
            .filter(|rule| rule.address.is_ipv6() == (family == 30))
            .copied()
            .collect();
        drop(state);
        if asked == 1000 {
            let result = if status == 1000 {
                Ok(rules)
            } else {
                Err(status)
            };
            self.shared.answer(&answer, move || done(result.clone()));
        }
        asked
    }
}

impl Drop for FakeInterface {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.dropped += 1;
        // The framework lets go of the callback with the interface.
        state.on_event = None;
    }
}
