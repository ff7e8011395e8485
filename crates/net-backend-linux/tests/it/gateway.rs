//! The network as the test plays it: answers ARP for the gateway and hands UDP to the case.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use net_backend::{BackendError, NetworkBackend, TxFrame};
use net_datapath::{IoSegment, L3, VirtioNetHdr, ZeroCopyPacket};
use net_wire::arp::{self, ArpPacket};
use net_wire::checksum::{pseudo_v4, sum};
use net_wire::ethernet::{self, EtherType};
use net_wire::ipv4::Ipv4Repr;
use net_wire::{MacAddr, ip_proto, udp};

pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub(crate) const GUEST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
pub(crate) const PORT: u16 = 7777;
const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
/// Long enough for a machine with other work; no case waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(20);

/// A UDP packet from the guest.
pub(crate) struct Datagram {
    pub(crate) header: VirtioNetHdr,
    pub(crate) guest_mac: MacAddr,
    pub(crate) guest_port: u16,
    pub(crate) payload: Vec<u8>,
    pub(crate) checksum_is_right: bool,
}

pub(crate) struct Gateway {
    pub(crate) backend: Box<dyn NetworkBackend>,
}

impl Gateway {
    /// Serves ARP until `done` has seen enough of the datagrams. Panics after 20 seconds.
    pub(crate) fn serve(&mut self, mut done: impl FnMut(&mut Self, Datagram) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "the guest is silent");
            let (replies, datagrams) = self.poll().expect("the interface is there");
            for reply in replies {
                self.send(VirtioNetHdr::PLAIN, &reply);
            }
            for datagram in datagrams {
                if done(self, datagram) {
                    return;
                }
            }
        }
    }

    /// Serves ARP until the interface is gone.
    pub(crate) fn serve_until_gone(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(
                Instant::now() < deadline,
                "the interface outlives its namespace"
            );
            match self.poll() {
                Err(BackendError::Disconnected) => return,
                Err(error) => panic!("{error}"),
                Ok((replies, _)) => replies
                    .iter()
                    .for_each(|reply| self.try_send(VirtioNetHdr::PLAIN, reply)),
            }
        }
    }

    fn poll(&mut self) -> Result<(Vec<Vec<u8>>, Vec<Datagram>), BackendError> {
        let (mut replies, mut datagrams) = (Vec::new(), Vec::new());
        let n = self.backend.receive(64, &mut |batch| {
            for packet in batch {
                if packet.meta().l3 == L3::Arp {
                    replies.extend(arp_reply(packet));
                } else if packet.ip_dst() == Some(GATEWAY.into()) && packet.meta().dst_port == PORT
                {
                    datagrams.push(datagram(packet));
                }
            }
        })?;
        if n == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok((replies, datagrams))
    }

    fn try_send(&mut self, header: VirtioNetHdr, frame: &[u8]) {
        let segments = [IoSegment::from(frame)];
        let frame = TxFrame {
            header,
            segments: &segments,
        };
        let _ = self.backend.transmit(&[frame]);
    }

    /// Sends one frame, in two pieces.
    pub(crate) fn send(&mut self, header: VirtioNetHdr, frame: &[u8]) {
        let (a, b) = frame.split_at(frame.len() / 2);
        let segments = [IoSegment::from(a), IoSegment::EMPTY, IoSegment::from(b)];
        let sent = self.backend.statistics().tx_frames;
        let frame = TxFrame {
            header,
            segments: &segments,
        };
        assert_eq!(self.backend.transmit(&[frame]).expect("transmit"), 1);
        assert_eq!(
            self.backend.statistics().tx_frames,
            sent + 1,
            "{:?}",
            self.backend.statistics()
        );
    }

    /// Sends a datagram to the guest, or with `gso_size` a super-frame of several; the checksum is
    /// left partial where the interface takes that.
    pub(crate) fn send_udp(&mut self, to: &Datagram, payload: &[u8], gso_size: u16, partial: bool) {
        let mut packet = vec![0; 14 + 28 + payload.len()];
        ethernet::emit(&mut packet, to.guest_mac, MAC, EtherType::IPV4);
        Ipv4Repr {
            src: GATEWAY,
            dst: GUEST,
            protocol: ip_proto::UDP,
            ttl: 64,
            tos: 0,
            id: 1,
            dont_fragment: true,
            payload_len: 8 + payload.len(),
        }
        .emit(&mut packet[14..]);
        udp::emit(&mut packet[34..], PORT, to.guest_port, payload.len(), 0);
        packet[42..].copy_from_slice(payload);
        let pseudo = pseudo_v4(GATEWAY, GUEST, ip_proto::UDP, 8 + payload.len());
        let check = if partial {
            pseudo.fold()
        } else {
            (pseudo + sum(&packet[34..])).finish_udp()
        };
        packet[40..42].copy_from_slice(&check.to_be_bytes());
        let header = match (partial, gso_size) {
            (false, _) => VirtioNetHdr::PLAIN,
            (true, 0) => VirtioNetHdr {
                flags: VirtioNetHdr::NEEDS_CSUM,
                csum_start: 34,
                csum_offset: 6,
                ..VirtioNetHdr::PLAIN
            },
            (true, gso_size) => VirtioNetHdr {
                flags: VirtioNetHdr::NEEDS_CSUM,
                gso_type: VirtioNetHdr::GSO_UDP_L4,
                hdr_len: 42,
                gso_size,
                csum_start: 34,
                csum_offset: 6,
                num_buffers: 0,
            },
        };
        self.send(header, &packet);
    }
}

fn arp_reply(packet: &ZeroCopyPacket<'_>) -> Option<Vec<u8>> {
    let request = ArpPacket::parse(packet.head().get(14..)?).ok()?;
    if request.operation != arp::REQUEST || request.target_ip != GATEWAY {
        return None;
    }
    let mut reply = vec![0; 42];
    ethernet::emit(&mut reply, request.sender_mac, MAC, EtherType::ARP);
    ArpPacket {
        operation: arp::REPLY,
        sender_mac: MAC,
        sender_ip: GATEWAY,
        target_mac: request.sender_mac,
        target_ip: request.sender_ip,
    }
    .emit(&mut reply[14..]);
    Some(reply)
}

fn datagram(packet: &ZeroCopyPacket<'_>) -> Datagram {
    let mut payload = vec![0; packet.payload_len()];
    packet.copy_range(packet.meta().payload_offset.into(), &mut payload);
    Datagram {
        header: *packet.vnet(),
        guest_mac: packet.src_mac(),
        guest_port: packet.meta().src_port,
        payload,
        checksum_is_right: packet.verify_l4_checksum() && packet.verify_ip_checksum(),
    }
}
