//! The control queue: what the driver asks of the device (VIRTIO 1.3, 5.1.6.5).

use std::collections::BTreeSet;

use net_wire::MacAddr;

use crate::error::QueueError;
use crate::features;
use crate::memory::Piece;
use crate::queue::Queue;
use net_datapath::IoSegment;

/// The command was carried out.
const OK: u8 = 0;
/// It was not.
const ERR: u8 = 1;

const CLASS_RX: u8 = 0;
const CLASS_MAC: u8 = 1;
const MAC_TABLE_SET: u8 = 0;
const MAC_ADDR_SET: u8 = 1;
const CLASS_VLAN: u8 = 2;
const CLASS_ANNOUNCE: u8 = 3;
const CLASS_MQ: u8 = 4;

/// Addresses of one table that are kept; with more, everything passes, as in QEMU.
const TABLE: usize = 64;
/// Commands carried out before packets have their turn again: a driver waits for each, and one that
/// does not shall not keep the device from others.
const COMMANDS: usize = 16;
/// Bytes of the longest command that is read: two tables of 64 KiB of addresses would be nonsense.
const COMMAND: usize = 16 * 1024;

/// Which frames the driver wants to have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Filter {
    promiscuous: bool,
    all_multicast: bool,
    all_unicast: bool,
    no_multicast: bool,
    no_unicast: bool,
    no_broadcast: bool,
    /// `None`: more than are kept, so all.
    unicast: Option<Vec<MacAddr>>,
    multicast: Option<Vec<MacAddr>>,
    /// VLANs the driver wants; empty until it has named one, and then untagged frames pass too.
    vlans: BTreeSet<u16>,
    filters_vlans: bool,
}

impl Default for Filter {
    /// Everything, until the driver asks for less.
    fn default() -> Self {
        Self {
            promiscuous: true,
            all_multicast: false,
            all_unicast: false,
            no_multicast: false,
            no_unicast: false,
            no_broadcast: false,
            unicast: Some(Vec::new()),
            multicast: Some(Vec::new()),
            vlans: BTreeSet::new(),
            filters_vlans: false,
        }
    }
}

impl Filter {
    /// Whether every frame passes.
    #[inline]
    pub(crate) fn passes_all(&self) -> bool {
        self.promiscuous && !self.filters_vlans
    }

    /// Whether a frame to `dst` with this VLAN tag passes, for a device with address `own`.
    pub(crate) fn passes(&self, dst: MacAddr, vlan: Option<u16>, own: Option<MacAddr>) -> bool {
        if self.filters_vlans
            && let Some(tag) = vlan
            && !self.vlans.contains(&(tag & 0x0fff))
        {
            return false;
        }
        if self.promiscuous {
            return true;
        }
        if dst.is_broadcast() {
            return !self.no_broadcast;
        }
        let listed =
            |table: &Option<Vec<MacAddr>>| table.as_ref().is_none_or(|known| known.contains(&dst));
        if dst.is_multicast() {
            return !self.no_multicast && (self.all_multicast || listed(&self.multicast));
        }
        !self.no_unicast && (self.all_unicast || own == Some(dst) || listed(&self.unicast))
    }
}

/// What commands change.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Control {
    pub(crate) filter: Filter,
    /// The address the driver has given itself.
    pub(crate) mac: Option<MacAddr>,
    /// Pairs of queues in use; 0 counts as 1.
    pub(crate) pairs: u16,
    /// The driver is asked to announce its guest, and has not answered.
    pub(crate) announce: bool,
}

impl Control {
    /// Carries out the commands that wait, as far as the features allow; of more than
    /// [`COMMANDS`] the rest at the next turn. Whether some may be left, of which the driver has told
    /// already. `listen` says whether it is to tell of the next.
    pub(crate) fn run(
        &mut self,
        queue: &mut Queue,
        features: u64,
        max_pairs: u16,
        listen: bool,
    ) -> bool {
        for _ in 0..COMMANDS {
            let Some((running, buffers, _)) = queue.parts() else {
                return false;
            };
            let chain = match running.pop(buffers) {
                Ok(Some(chain)) => chain,
                Ok(None) => {
                    if listen && running.enable_kicks() {
                        continue;
                    }
                    return false;
                }
                Err(error) => {
                    queue.break_with(error);
                    return false;
                }
            };
            let end = chain.end as usize;
            let split = buffers.writable.unwrap_or(end);
            let command = read(
                buffers
                    .pieces
                    .get(chain.first as usize..split)
                    .unwrap_or_default(),
            );
            let status = buffers.pieces.get(split..end).unwrap_or_default();
            let Some(status) = status.first() else {
                queue.break_with(QueueError::TooShort(0));
                return false;
            };
            let answer = match self.carry_out(&command, features, max_pairs) {
                Some(()) => OK,
                None => ERR,
            };
            // SAFETY: translated from the queue's memory, which is mapped as long as it runs; no
            // descriptor is empty.
            unsafe { status.host.write_volatile(answer) };
            running.mark(&[*status], 1);
            running.ring.push(&chain, 1);
            running.publish();
        }
        true
    }

    /// `None` for what is not known, not negotiated or not possible.
    fn carry_out(&mut self, command: &[u8], features: u64, max_pairs: u16) -> Option<()> {
        let (&[class, command], data) = command.split_first_chunk::<2>()?;
        let needs = |bit: u64| (features & bit != 0).then_some(());
        match class {
            CLASS_RX => {
                needs(features::CTRL_RX)?;
                let on = *data.first()? != 0;
                let mode = match command {
                    0 => &mut self.filter.promiscuous,
                    1 => &mut self.filter.all_multicast,
                    2 => &mut self.filter.all_unicast,
                    3 => &mut self.filter.no_multicast,
                    4 => &mut self.filter.no_unicast,
                    5 => &mut self.filter.no_broadcast,
                    _ => return None,
                };
                *mode = on;
            }
            CLASS_MAC if command == MAC_TABLE_SET => {
                needs(features::CTRL_RX)?;
                let (unicast, rest) = table(data)?;
                let (multicast, _) = table(rest)?;
                (self.filter.unicast, self.filter.multicast) = (unicast, multicast);
            }
            CLASS_MAC if command == MAC_ADDR_SET => {
                needs(features::CTRL_MAC_ADDR)?;
                let mac = MacAddr(*data.first_chunk()?);
                self.mac = Some(mac.is_unicast().then_some(mac)?);
            }
            CLASS_VLAN => {
                needs(features::CTRL_VLAN)?;
                let id = u16::from_le_bytes(*data.first_chunk()?);
                if id > 4095 {
                    return None;
                }
                self.filter.filters_vlans = true;
                match command {
                    0 => self.filter.vlans.insert(id),
                    1 => self.filter.vlans.remove(&id),
                    _ => return None,
                };
            }
            CLASS_ANNOUNCE if command == 0 => {
                needs(features::GUEST_ANNOUNCE)?;
                self.announce = false;
            }
            CLASS_MQ if command == 0 => {
                needs(features::MQ)?;
                let pairs = u16::from_le_bytes(*data.first_chunk()?);
                self.pairs = (1..=max_pairs).contains(&pairs).then_some(pairs)?;
            }
            _ => return None,
        }
        Some(())
    }
}

/// A table of addresses and what follows it; the inner `None` stands for too many of them.
#[allow(clippy::type_complexity)]
fn table(data: &[u8]) -> Option<(Option<Vec<MacAddr>>, &[u8])> {
    let (count, rest) = data.split_first_chunk::<4>()?;
    let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
    let (entries, rest) = rest.split_at_checked(count.checked_mul(6)?)?;
    let (entries, _) = entries.as_chunks::<6>();
    let known = (count <= TABLE).then(|| entries.iter().map(|mac| MacAddr(*mac)).collect());
    Some((known, rest))
}

/// The bytes of a command, each read once; what is longer than any command is left off.
fn read(pieces: &[Piece]) -> Vec<u8> {
    let len = pieces
        .iter()
        .fold(0usize, |sum, piece| sum.saturating_add(piece.len))
        .min(COMMAND);
    let mut bytes = vec![0; len];
    let mut at = 0;
    for piece in pieces {
        // SAFETY: translated from the queue's memory, which is mapped as long as it runs.
        let segment = unsafe { IoSegment::from_raw(piece.host, piece.len) };
        at += segment.copy_to_slice(0, bytes.get_mut(at..).unwrap_or_default());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = features::CTRL_RX
        | features::CTRL_MAC_ADDR
        | features::CTRL_VLAN
        | features::GUEST_ANNOUNCE
        | features::MQ;

    fn does(control: &mut Control, command: &[u8]) -> bool {
        control.carry_out(command, ALL, 4).is_some()
    }

    #[test]
    fn filters_follow_the_driver() {
        let mut control = Control::default();
        let own = MacAddr([2, 0, 0, 0, 0, 1]);
        let other = MacAddr([2, 0, 0, 0, 0, 2]);
        let group = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
        let passes = |control: &Control, mac| control.filter.passes(mac, None, Some(own));
        assert!(control.filter.passes_all());
        assert!(does(&mut control, &[0, 0, 0]));
        assert!(passes(&control, own) && passes(&control, MacAddr([0xff; 6])));
        assert!(!passes(&control, other) && !passes(&control, group));
        let mut command = vec![1, 0, 1, 0, 0, 0];
        command.extend(other.0);
        command.extend([1, 0, 0, 0]);
        command.extend(group.0);
        assert!(does(&mut control, &command));
        assert!(passes(&control, other) && passes(&control, group));
        assert!(does(&mut control, &[0, 3, 1]) && !passes(&control, group));
        assert!(does(&mut control, &[0, 5, 1]) && !passes(&control, MacAddr([0xff; 6])));
        assert!(does(&mut control, &[0, 4, 1]) && !passes(&control, own));
        // More addresses than are kept: all of that kind.
        let mut many = vec![1, 0, 65, 0, 0, 0];
        many.extend([2; 65 * 6]);
        many.extend([0; 4]);
        assert!(does(&mut control, &[0, 4, 0]) && does(&mut control, &many));
        assert!(passes(&control, MacAddr([6; 6])));
    }

    #[test]
    fn vlans_are_filtered_once_one_is_named() {
        let mut control = Control::default();
        let mac = MacAddr([2; 6]);
        assert!(control.filter.passes(mac, Some(7), None));
        assert!(does(&mut control, &[2, 0, 5, 0]));
        assert!(control.filter.passes(mac, Some(0x6005), None));
        assert!(!control.filter.passes(mac, Some(7), None));
        assert!(control.filter.passes(mac, None, None));
        assert!(does(&mut control, &[2, 1, 5, 0]));
        assert!(!control.filter.passes(mac, Some(5), None));
        assert!(!does(&mut control, &[2, 0, 0, 16]));
    }

    #[test]
    fn nonsense_is_refused_and_changes_nothing() {
        let mut control = Control::default();
        let before = control.clone();
        for command in [
            &[][..],
            &[0],
            &[0, 0],
            &[0, 9, 1],
            &[1, 0, 255, 255, 255, 255],
            &[1, 0, 1, 0, 0, 0, 2],
            &[1, 1, 1, 0, 0, 0, 0, 0],
            &[1, 2],
            &[2, 2, 1, 0],
            &[4, 0, 0, 0],
            &[4, 0, 5, 0],
            &[3, 1],
            &[9, 9, 9],
        ] {
            assert!(!does(&mut control, command), "{command:?}");
        }
        control.filter.filters_vlans = false;
        assert_eq!(control, before);
        assert!(control.carry_out(&[4, 0, 2, 0], 0, 4).is_none());
        assert!(does(&mut control, &[4, 0, 4, 0]) && control.pairs == 4);
    }
}
