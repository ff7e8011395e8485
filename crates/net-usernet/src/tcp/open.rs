//! Connections being opened: by the guest, or by a client of a published port.

use core::time::Duration;

use net_wire::tcp::{SeqNumber, TcpFlags};

use super::emit::{self, Head, Offer, Sent};
use super::flow::{Flow, FlowKey, Phase};
use super::receive::{Context, Segment, guest_reset};
use super::socket::{ConnectError, TcpHost, Unreachable};
use super::timers::NEVER;
use super::transmit::{self, link_of};

/// Starts a connection that the guest asks for; `None` when it was refused, and the guest told.
pub(super) fn guest_opens<H: TcpHost>(
    key: FlowKey,
    port: crate::PortId,
    iss: SeqNumber,
    seg: &Segment<'_, '_>,
    ctx: &mut Context<'_, H>,
) -> Option<Flow> {
    ctx.stats.opened += 1;
    match ctx.host.connect(port, key.guest, key.remote) {
        Ok(socket) => {
            let mut flow = Flow::new(key, Phase::Connecting, iss, ctx.now);
            flow.port = Some(port);
            flow.socket = Some(socket);
            flow.take_syn(seg.seq, &seg.syn_options());
            flow.take_window(seg.seq, iss, seg.window, false);
            flow.expires_at = ctx.now.saturating_add(ctx.config.connect);
            Some(flow)
        }
        Err(error) => {
            refuse(&key, seg.seq, error, ctx);
            None
        }
    }
}

/// The host may have finished connecting.
pub(super) fn host_answered<H: TcpHost>(flow: &mut Flow, ctx: &mut Context<'_, H>) {
    let Some(socket) = flow.socket else { return };
    match ctx.host.connect_result(socket) {
        None => {}
        Some(Ok(())) => {
            flow.phase = Phase::SynReceived;
            flow.expires_at = NEVER;
            flow.readable = true;
            send_syn_ack(flow, ctx);
        }
        Some(Err(error)) => {
            flow.socket = None;
            ctx.host.close(socket);
            flow.phase = Phase::Closed;
            refuse(&flow.key, flow.irs, error, ctx);
        }
    }
}

/// Tells the guest why its SYN, which had `seq`, came to nothing.
pub(super) fn refuse<H>(
    key: &FlowKey,
    seq: SeqNumber,
    error: ConnectError,
    ctx: &mut Context<'_, H>,
) {
    let why = match error {
        ConnectError::Refused => {
            ctx.stats.connect_failed += 1;
            None
        }
        ConnectError::Resources => {
            ctx.stats.refused_host += 1;
            None
        }
        ConnectError::TimedOut => {
            ctx.stats.connect_failed += 1;
            return;
        }
        ConnectError::Unreachable(Unreachable::Prohibited) => {
            ctx.stats.refused_destination += 1;
            Some(Unreachable::Prohibited)
        }
        ConnectError::Unreachable(why) => {
            ctx.stats.connect_failed += 1;
            Some(why)
        }
    };
    match why {
        None => transmit::reset_to(ctx, key, SeqNumber(0), Some(seq + 1)),
        Some(why) => {
            let source = ctx.config.error_source(key.remote.ip());
            // An error that cannot be sent now is drawn again by the guest's next SYN.
            emit::unreachable(ctx.out, source, key.guest, key.remote, seq, why);
        }
    }
}

/// Sends the SYN-ACK, at first or again.
pub(super) fn send_syn_ack<H: TcpHost>(flow: &mut Flow, ctx: &mut Context<'_, H>) {
    let free = flow
        .socket
        .map_or(0, |socket| ctx.host.send_space(socket).free);
    let head = Head {
        src: flow.key.remote,
        dst: flow.key.guest,
        seq: flow.iss,
        ack: flow.rcv_nxt,
        flags: TcpFlags::SYN | TcpFlags::ACK,
        window: flow.unscaled_window(free),
    };
    let scale = (flow.rcv_shift > 0).then_some(Flow::offered_shift());
    handshake_segment(flow, &head, scale, ctx);
}

/// Sends the SYN of a published port's client, at first or again.
pub(super) fn send_syn<H: TcpHost>(flow: &mut Flow, ctx: &mut Context<'_, H>) {
    let head = Head {
        src: flow.key.remote,
        dst: flow.key.guest,
        seq: flow.iss,
        ack: SeqNumber(0),
        flags: TcpFlags::SYN,
        window: u16::MAX,
    };
    handshake_segment(flow, &head, Some(Flow::offered_shift()), ctx);
}

fn handshake_segment<H: TcpHost>(
    flow: &mut Flow,
    head: &Head,
    window_scale: Option<u8>,
    ctx: &mut Context<'_, H>,
) {
    let v6 = flow.key.is_v6();
    let link = link_of(flow, ctx);
    if let Some(link) = &link {
        flow.port = flow.port.or(Some(link.port));
    }
    // Without a link this still goes to the caller, who may ask for the neighbour.
    let mss = link
        .as_ref()
        .map_or(if v6 { 1220 } else { 536 }, |link| emit::link_mss(v6, link));
    let offer = Offer { mss, window_scale };
    match emit::control(ctx.out, link.as_ref(), head, Some(offer)) {
        Sent::Yes if flow.attempts == 0 => flow.timed = Some((flow.iss + 1, ctx.now)),
        Sent::Yes => ctx.stats.retransmits += 1,
        Sent::Busy => ctx.stats.guest_busy += 1,
        Sent::NoBuffer => ctx.stats.no_buffer += 1,
    }
    flow.snd_nxt = flow.iss + 1;
    flow.snd_max = flow.snd_nxt;
    flow.start_timer(ctx.now);
}

/// The guest's side of the connection exists: data may flow.
pub(super) fn established<H>(flow: &mut Flow, seg: &Segment<'_, '_>, ctx: &mut Context<'_, H>) {
    flow.phase = Phase::Established;
    flow.snd_una = flow.snd_nxt;
    flow.retransmit_at = NEVER;
    flow.attempts = 0;
    flow.rtt.reset_backoff();
    if let Some((_, sent)) = flow.timed.take() {
        flow.rtt.sample(ctx.now.saturating_sub(sent));
    }
    // In a SYN-ACK the window is not scaled (RFC 7323, section 2.2).
    flow.take_window(seg.seq, seg.ack, seg.window, !seg.has(TcpFlags::SYN));
    flow.readable = true;
    flow.again = true;
}

/// The guest's answer to our SYN (RFC 9293, section 3.10.7.3).
pub(super) fn answered<H: TcpHost>(
    flow: &mut Flow,
    seg: &Segment<'_, '_>,
    ctx: &mut Context<'_, H>,
) {
    if !seg.has(TcpFlags::ACK) {
        // A SYN of its own, by chance on the same ports: the guest's SYN-ACK decides.
        ctx.stats.out_of_window += 1;
        return;
    }
    if seg.ack != flow.snd_nxt {
        ctx.stats.out_of_window += 1;
        if !seg.has(TcpFlags::RST) {
            transmit::reset_to(ctx, &flow.key, seg.ack, None);
        }
        return;
    }
    if seg.has(TcpFlags::RST) {
        ctx.stats.connect_failed += 1;
        guest_reset(flow, ctx);
    } else if seg.has(TcpFlags::SYN) {
        flow.take_syn(seg.seq, &seg.syn_options());
        established(flow, seg, ctx);
        // This ACK carries the window, and what the client has already sent may follow at once.
        transmit::acknowledge(flow, ctx);
    }
}

/// The connection of a client of a published port.
pub(super) fn client_flow(
    key: FlowKey,
    socket: super::HostSocket,
    iss: SeqNumber,
    now: Duration,
) -> Flow {
    let mut flow = Flow::new(key, Phase::SynSent, iss, now);
    flow.socket = Some(socket);
    flow
}
