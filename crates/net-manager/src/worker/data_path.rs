//! What a packet touches: ports, switch, gateway and uplink, and the way of a frame through them.

use std::time::Duration;

use net_datapath::packet::ZeroCopyPacket;
use net_gateway::{Gateway, Output, Target, Verdict as GatewayVerdict};
use net_switch::{Switch, Verdict};
use net_wire::MacAddr;
use net_wire::ethernet::{EtherType, EthernetFrame};

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
        for frame in frames.iter() {
            self.ports.capture_lent(frame);
        }
        let mut run = None;
        let mut n = 0;
        while let Some(frame) = frames.get(n) {
            let count = self.let_pass(from, frames.get(n..).unwrap_or_default());
            if count == 0 {
                // What speaks for the router goes nowhere; it ends the run before it as well.
                self.end_run(from, &mut run, frames, n, now);
                n += 1;
                continue;
            }
            let (addresses, tag) = ((frame.dst_mac(), frame.src_mac()), || frame.meta().vlan());
            let apart = self.keeps_apart(from, frame);
            let (verdict, count) = self.switch.forward_run(from, tag, addresses, count, now);
            let verdict = match apart {
                true => Verdict::To(GATEWAY),
                false => verdict,
            };
            match verdict {
                Verdict::To(GATEWAY) => {
                    for n in n..n + count {
                        let next = self.hand_to_gateway(from, &frames[n], now);
                        self.go_on(from, &mut run, next, frames, n, now);
                    }
                }
                Verdict::To(port) => {
                    self.go_on(from, &mut run, Some(Next::Port(port)), frames, n, now);
                }
                Verdict::Flood => {
                    // A copy must not overtake what was sent to the same port before it.
                    self.end_run(from, &mut run, frames, n, now);
                    let next = self.flood(from, &frames[n], now);
                    self.go_on(from, &mut run, next, frames, n, now);
                }
                // Counted by the switch.
                Verdict::Drop(_) => self.end_run(from, &mut run, frames, n, now),
            }
            n += count;
        }
        self.end_run(from, &mut run, frames, frames.len(), now);
    }

    /// How many frames from the front have the same addresses, type and, if any, tag, and may pass; more
    /// may.
    fn let_pass(&mut self, from: PortId, frames: &[ZeroCopyPacket<'_>]) -> usize {
        let Some((first, rest)) = frames.split_first() else {
            return 0;
        };
        let frame = EthernetFrame::parse(first.head());
        let kind = frame.map_or(EtherType(0), |frame| frame.ethertype());
        if self.has_gateway && Gateway::looks_into(kind) && !self.is_router(from, first) {
            return self.gateway.may_pass(first).into();
        }
        1 + rest.iter().take_while(|next| next.goes_like(first)).count()
    }

    /// Has the frame at `n` go on as the run does, or ends that and begins another.
    #[inline]
    fn go_on(
        &mut self,
        from: PortId,
        run: &mut Option<(Next, usize)>,
        next: Option<Next>,
        frames: &mut [ZeroCopyPacket<'_>],
        n: usize,
        now: Duration,
    ) {
        if run.map(|(before, _)| before) != next {
            self.end_run(from, run, frames, n, now);
            *run = next.map(|next| (next, n));
        }
    }

    /// Sends the frames of the run, those up to `end`.
    fn end_run(
        &mut self,
        from: PortId,
        run: &mut Option<(Next, usize)>,
        frames: &mut [ZeroCopyPacket<'_>],
        end: usize,
        now: Duration,
    ) {
        if let Some((next, start)) = run.take()
            && let Some(frames) = frames.get_mut(start..end)
        {
            self.send_run(from, next, frames, now);
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
