//! What a packet touches: ports, switch, gateway and uplink, and the way of a frame through them.

use std::time::Duration;

use net_datapath::packet::ZeroCopyPacket;
use net_gateway::{Gateway, Output, Target, Verdict as GatewayVerdict};
use net_switch::{Switch, Verdict};
use net_wire::MacAddr;

use super::links::Links;
use super::ports::{GATEWAY, PortId, Ports};
use super::uplink::Uplink;

/// Where frames go that are carried on without a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// To another guest.
    Port(PortId),
    /// Out, translated.
    Uplink,
}

/// A port with a bridge of the host behind it.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub(super) struct Trunk {
    pub(super) port: PortId,
    /// The hardware address of the host, where it is the router of the network.
    pub(super) router: Option<MacAddr>,
}

/// Everything a packet touches.
pub(super) struct Core {
    pub(super) ports: Ports,
    pub(super) switch: Switch,
    pub(super) gateway: Gateway,
    /// Whether the gateway is on the network. Where it is not, no frame reaches it.
    pub(super) has_gateway: bool,
    /// The port with a bridge of the host behind it.
    pub(super) trunk: Option<Trunk>,
    /// Whether guests are kept from one another.
    pub(super) isolated: bool,
    /// The port that gets copies.
    pub(super) mirror: Option<PortId>,
    /// A message of a guest, whole.
    pub(super) scratch: Vec<u8>,
    pub(super) uplink: Uplink,
    pub(super) outputs: Vec<Output>,
}

impl Core {
    /// Lets the uplink work with a way back to the guests.
    pub(super) fn with_uplink(
        &mut self,
        now: Duration,
        work: impl FnOnce(&mut Uplink, &mut Links<'_>),
    ) {
        let mut links = Links {
            ports: &mut self.ports,
            gateway: &mut self.gateway,
            outputs: &mut self.outputs,
            now,
        };
        work(&mut self.uplink, &mut links);
    }

    /// Takes frames that a guest sent. Neighbouring frames for one port go there in one call.
    pub(super) fn ingress(
        &mut self,
        mut from: PortId,
        frames: &mut [ZeroCopyPacket<'_>],
        now: Duration,
    ) {
        if let Some(port) = self.ports.get_mut(from) {
            port.statistics.sent_frames += frames.len() as u64;
            port.statistics.sent_bytes +=
                frames.iter().map(|frame| frame.len() as u64).sum::<u64>();
            if port.arrival.is_open() {
                from = self.sender_at(from, frames, now);
            }
        }
        if self.uplink.is_device(from) {
            return self.with_uplink(now, |uplink, links| {
                if let Some(packets) = uplink.packets() {
                    packets.inbound(frames, links);
                }
            });
        }
        if let Some(mirror) = self.switch.mirror_of(from) {
            for frame in frames.iter() {
                self.ports.copy_to(mirror, frame);
            }
        }
        let mut run: Option<(Next, usize)> = None;
        for n in 0..frames.len() {
            let frame = &frames[n];
            self.ports.capture_lent(frame);
            // What speaks for the router goes nowhere; it ends the run before it as well.
            if self.has_gateway && !self.is_router(from, frame) && !self.gateway.may_pass(frame) {
                if let Some((next, start)) = run.take() {
                    self.send_run(from, next, &mut frames[start..n], now);
                }
                continue;
            }
            let (dst, src, tag) = (frame.dst_mac(), frame.src_mac(), || frame.meta().vlan());
            let verdict = self.switch.forward_tagged(from, tag, dst, src, now);
            let verdict = match self.keeps_apart(from, frame) {
                true => Verdict::To(GATEWAY),
                false => verdict,
            };
            // A copy must not overtake what was sent to the same port before it.
            if let (Verdict::Flood, Some((next, start))) = (verdict, run) {
                self.send_run(from, next, &mut frames[start..n], now);
                run = None;
            }
            let next = match verdict {
                Verdict::To(GATEWAY) => self.hand_to_gateway(from, &frames[n], now),
                Verdict::To(port) => Some(Next::Port(port)),
                Verdict::Flood => self.flood(from, &frames[n], now),
                // Counted by the switch.
                _ => None,
            };
            if let Some((before, start)) = run
                && next != Some(before)
            {
                self.send_run(from, before, &mut frames[start..n], now);
                run = None;
            }
            run = run.or(next.map(|next| (next, n)));
        }
        if let Some((next, start)) = run {
            self.send_run(from, next, &mut frames[start..], now);
        }
    }

    /// Whether a frame comes from the host behind the trunk, where that is the router.
    fn is_router(&self, from: PortId, frame: &ZeroCopyPacket<'_>) -> bool {
        self.trunk
            .is_some_and(|trunk| trunk.port == from && trunk.router == Some(frame.src_mac()))
    }

    /// Whether a frame comes from a guest behind the trunk, on a network whose guests are kept from
    /// one another: then it is for the gateway or for nobody. The switch knows one port for them and
    /// the host, which everybody may reach.
    fn keeps_apart(&self, from: PortId, frame: &ZeroCopyPacket<'_>) -> bool {
        self.isolated
            && self.trunk.is_some_and(|trunk| {
                trunk.port == from && trunk.router.is_some_and(|router| router != frame.src_mac())
            })
    }

    /// Sends neighbouring frames that go the same way.
    fn send_run(
        &mut self,
        from: PortId,
        next: Next,
        frames: &mut [ZeroCopyPacket<'_>],
        now: Duration,
    ) {
        match next {
            Next::Port(port) => self.ports.forward(port, frames),
            Next::Uplink => self.with_uplink(now, |uplink, links| {
                if let Some(packets) = uplink.packets() {
                    packets.outbound(from, frames, links);
                }
            }),
        }
    }

    /// Copies a frame to every other port; says whether it goes on to the uplink, too.
    fn flood(&mut self, from: PortId, frame: &ZeroCopyPacket<'_>, now: Duration) -> Option<Next> {
        let targets = self.flood_targets(from, frame, now);
        let mut next = None;
        for port in targets {
            if port == GATEWAY {
                next = self.hand_to_gateway(from, frame, now);
            } else {
                self.ports.copy(port, frame);
            }
        }
        next
    }

    /// The ports that a flooded frame goes to: of a group's, if the switch snoops, those that listen.
    fn flood_targets(
        &mut self,
        from: PortId,
        frame: &ZeroCopyPacket<'_>,
        now: Duration,
    ) -> Vec<PortId> {
        let (dst, meta) = (frame.dst_mac(), frame.meta());
        if !self.switch.snoops() || !dst.is_multicast() || dst.is_broadcast() {
            return self.switch.flood_targets(from).collect();
        }
        let (start, end) = (usize::from(meta.l3_offset), meta.l3_end as usize);
        let head = match meta.is_ip() && meta.vlan().is_none_or(|tag| tag & 0x0fff == 0) {
            true => frame.head().get(start..).unwrap_or_default(),
            false => &[],
        };
        if !net_switch::may_report(head) {
            return self.switch.multicast_targets(from, head, now);
        }
        self.scratch.resize(end.saturating_sub(start), 0);
        frame.copy_range(start, &mut self.scratch);
        self.switch.multicast_targets(from, &self.scratch, now)
    }

    /// Lets the gateway take a frame; says where it goes if that carries it on as it is.
    fn hand_to_gateway(
        &mut self,
        from: PortId,
        frame: &ZeroCopyPacket<'_>,
        now: Duration,
    ) -> Option<Next> {
        let verdict = self.gateway.ingress(from, frame, now, &mut self.outputs);
        if verdict != GatewayVerdict::Uplink {
            return None;
        }
        if self.uplink.carries(frame) {
            return Some(Next::Uplink);
        }
        self.with_uplink(now, |uplink, links| uplink.ingress(from, frame, now, links));
        None
    }

    /// Sends a frame that the gateway built.
    pub(super) fn send_built(&mut self, to: Target, frame: &[u8]) {
        // It knows of guests without hearing from them, and would ask for their addresses.
        if !self.has_gateway {
            return;
        }
        let targets: Vec<PortId> = match to {
            Target::Port(port) => vec![port],
            Target::Flood => self.switch.flood_targets(GATEWAY).collect(),
        };
        for port in targets {
            let Some(mut buffer) = self.ports.buffer(frame.len()) else {
                return;
            };
            if buffer.extend_from_slice(frame).is_some() {
                self.ports.send(port, Default::default(), buffer);
            }
        }
    }

    /// Forgets the guest behind a port: its flows end, its addresses are free to move.
    pub(super) fn guest_gone(&mut self, port: PortId, now: Duration) {
        self.uplink.guest_gone(port, &self.gateway);
        self.gateway.port_closed(port, now, &mut self.outputs);
        self.switch.forget_port(port);
    }
}
