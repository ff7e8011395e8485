//! A guest that goes on somewhere else, and how its network learns of it.
//!
//! Switches go by where they saw an address last, so whoever has moved has to send something. Either
//! the driver does, asked by a bit in the configuration space (VIRTIO 1.3, 5.1.4 and 5.1.6.5.4): a guest
//! knows all its addresses. Or, where the driver does not know how, the device sends a frame that says
//! where the hardware address is and nothing else (RARP, RFC 903).

use net_backend::{MIN_FRAME, Presence};
use net_datapath::{VirtioNetHdr, ZeroCopyPacket};
use net_wire::ethernet::{self, EtherType};
use net_wire::{MacAddr, arp};

use super::VirtioNet;
use crate::features;

/// The least a frame has on a wire, without its checksum (IEEE 802.3, 3.2.7).
const ON_A_WIRE: usize = 60;
const _: () = assert!(ON_A_WIRE >= MIN_FRAME && ON_A_WIRE >= ethernet::HEADER_LEN + arp::LEN);

/// Who announces a guest; see [`VirtioNet::announce`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a driver that is not interrupted does not look"]
pub enum Announcement {
    /// The driver, once it has looked at the configuration space: interrupt it for a change there.
    ByDriver,
    /// The device: it lends a RARP frame at the next [`receive`](net_backend::NetworkBackend::receive).
    ByDevice,
    /// Nobody: there is no driver, or nobody knows its hardware address.
    ByNobody,
}

/// What became of the guest behind a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Whereabouts {
    /// A queue for packets has run.
    pub(super) came: bool,
    /// It went on where it stood elsewhere.
    pub(super) moved: bool,
}

impl VirtioNet {
    /// Has the guest announced on its network: after a restore, after a move from another host, after
    /// its network was away. A driver that is asked already is asked on.
    pub fn announce(&mut self) -> Announcement {
        let needed = features::GUEST_ANNOUNCE | features::CTRL_VQ;
        let control = self.queues.len() - 1;
        if self.acknowledged & needed == needed && self.is_running(control) {
            self.control.announce = true;
            return Announcement::ByDriver;
        }
        match self.mac() {
            Some(mac) if self.is_served() && self.announce_address(mac) => Announcement::ByDevice,
            _ => Announcement::ByNobody,
        }
    }

    /// Whether the driver has been asked to announce its guest and has not answered.
    pub fn is_announcing(&self) -> bool {
        self.control.announce
    }

    /// Has the device announce that `mac` is here; whether it does. It is a guest's address, and where
    /// the device has one that is the only one.
    pub(crate) fn announce_address(&mut self, mac: MacAddr) -> bool {
        let own = self.mac().is_none_or(|own| own == mac);
        let does = own && mac.is_unicast();
        if does {
            self.to_announce = Some(mac);
        }
        does
    }

    /// Lends what there is to announce; how many frames that was.
    pub(super) fn lend_announcement(
        &mut self,
        sink: &mut dyn FnMut(&mut [ZeroCopyPacket<'_>]),
    ) -> usize {
        let Some(mac) = self.to_announce.take() else {
            return 0;
        };
        let frame = reverse_request(mac);
        let Ok(packet) = ZeroCopyPacket::from_slice(&frame, VirtioNetHdr::PLAIN) else {
            return 0;
        };
        self.stats.rx_frames += 1;
        self.stats.rx_bytes += frame.len() as u64;
        sink(&mut [packet]);
        1
    }

    /// The status field of the configuration space (VIRTIO 1.3, 5.1.4).
    pub(super) fn link_status(&self) -> u16 {
        const LINK_UP: u16 = 1;
        const ANNOUNCE: u16 = 2;
        LINK_UP | if self.control.announce { ANNOUNCE } else { 0 }
    }

    /// A queue for packets is served.
    pub(super) fn is_served(&self) -> bool {
        let control = self.queues.len() - 1;
        (0..control).any(|index| self.is_running(index))
    }

    /// The queues go on where they stood behind another device.
    pub(crate) fn note_move(&mut self) {
        self.whereabouts.moved = true;
    }

    /// The queues stop, and where they go on is not known yet.
    #[cfg(target_os = "linux")]
    pub(crate) fn forget_move(&mut self) {
        self.whereabouts.moved = false;
    }

    /// Whoever drives the device ends. A guest that goes on elsewhere has left before.
    #[cfg(target_os = "linux")]
    pub(crate) fn note_end(&mut self) {
        self.whereabouts.came &= !self.is_served();
    }

    pub(super) fn guest(&self) -> Presence {
        match (self.is_served(), self.whereabouts) {
            (true, Whereabouts { moved: true, .. }) => Presence::Moved,
            (true, _) => Presence::Here,
            (false, Whereabouts { came: true, .. }) => Presence::Left,
            (false, _) => Presence::Absent,
        }
    }
}

/// A broadcast by which every switch learns where `mac` is: it asks for its own address, which nobody
/// answers.
fn reverse_request(mac: MacAddr) -> [u8; ON_A_WIRE] {
    let mut frame = [0; ON_A_WIRE];
    let (header, body) = frame.split_at_mut(ethernet::HEADER_LEN);
    ethernet::emit(header, MacAddr::BROADCAST, mac, EtherType::RARP);
    let packet = arp::ArpPacket {
        operation: arp::REVERSE_REQUEST,
        sender_mac: mac,
        sender_ip: std::net::Ipv4Addr::UNSPECIFIED,
        target_mac: mac,
        target_ip: std::net::Ipv4Addr::UNSPECIFIED,
    };
    packet.emit(body);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reverse_request_is_as_rfc_903_has_it() {
        let mac = [0x52, 0x54, 0, 1, 2, 3];
        let frame = reverse_request(MacAddr(mac));
        assert_eq!(frame[..6], [0xff; 6]);
        assert_eq!(frame[6..12], mac);
        assert_eq!(frame[12..22], [0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3]);
        assert_eq!((&frame[22..28], &frame[28..32]), (&mac[..], &[0; 4][..]));
        assert_eq!((&frame[32..38], &frame[38..]), (&mac[..], &[0; 22][..]));
    }
}
