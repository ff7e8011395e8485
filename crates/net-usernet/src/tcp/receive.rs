//! A segment of the guest on a known flow (RFC 9293, section 3.10.7; RFC 5961).

use std::io;
use std::net::SocketAddr;

use core::time::Duration;

use net_datapath::{FragmentState, IoSegment, ZeroCopyPacket};
use net_wire::ip_proto;
use net_wire::tcp::{SeqNumber, TcpFlags, TcpOption, TcpSegment};

use super::config::RelayConfig;
use super::flow::{Flow, FlowKey, Phase, SynOptions};
use super::reorder::{Budget, Reorder};
use super::socket::TcpHost;
use super::timers::NEVER;
use super::{open, transmit};
use crate::{Egress, TcpStatistics};

/// Everything outside a flow that work on it may need.
pub(super) struct Context<'a, H> {
    pub(super) host: &'a mut H,
    pub(super) out: &'a mut dyn Egress,
    pub(super) config: &'a RelayConfig,
    pub(super) stats: &'a mut TcpStatistics,
    pub(super) early: &'a Budget,
    pub(super) now: Duration,
}

/// Bytes accepted until an ACK is sent in the middle of a batch.
const ACK_EVERY: u32 = 128 * 1024;
/// Time between two ACKs that answer segments without payload which should not have come: two
/// ends that disagree must not keep each other busy (RFC 5961, section 7).
const CHALLENGE_INTERVAL: Duration = Duration::from_millis(100);
const DUP_ACKS: u8 = 3;

/// A segment with its header read.
pub(super) struct Segment<'p, 'a> {
    packet: &'p ZeroCopyPacket<'a>,
    pub(super) seq: SeqNumber,
    pub(super) ack: SeqNumber,
    pub(super) flags: TcpFlags,
    pub(super) window: u16,
    pub(super) payload_len: u32,
}

impl<'p, 'a> Segment<'p, 'a> {
    /// Reads a segment; `None` if it is not a whole, sane one.
    pub(super) fn parse(packet: &'p ZeroCopyPacket<'a>) -> Option<(FlowKey, Self)> {
        let meta = packet.meta();
        if !meta.has_transport(ip_proto::TCP) || meta.fragment != FragmentState::None {
            return None;
        }
        let at = usize::from(meta.l4_offset);
        let header = packet.head().get(at..at + 20)?.first_chunk::<20>()?;
        let [
            s0,
            s1,
            d0,
            d1,
            q0,
            q1,
            q2,
            q3,
            a0,
            a1,
            a2,
            a3,
            _,
            flags,
            w0,
            w1,
            ..,
        ] = *header;
        let (src_port, dst_port) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
        let flags = TcpFlags(flags);
        if src_port == 0 || dst_port == 0 || contradictory(flags) {
            return None;
        }
        let key = FlowKey {
            guest: SocketAddr::new(packet.ip_src()?, src_port),
            remote: SocketAddr::new(packet.ip_dst()?, dst_port),
        };
        let segment = Self {
            packet,
            seq: SeqNumber(u32::from_be_bytes([q0, q1, q2, q3])),
            ack: SeqNumber(u32::from_be_bytes([a0, a1, a2, a3])),
            flags,
            window: u16::from_be_bytes([w0, w1]),
            payload_len: packet.payload_len() as u32,
        };
        Some((key, segment))
    }

    pub(super) fn has(&self, flag: TcpFlags) -> bool {
        self.flags.contains(flag)
    }

    /// The first segment of a connection.
    pub(super) fn is_opening(&self) -> bool {
        self.has(TcpFlags::SYN) && !self.has(TcpFlags::ACK)
    }

    /// Sequence numbers the segment takes up.
    pub(super) fn len(&self) -> u32 {
        self.payload_len + u32::from(self.has(TcpFlags::SYN)) + u32::from(self.has(TcpFlags::FIN))
    }

    /// The options of a SYN that matter here.
    pub(super) fn syn_options(&self) -> SynOptions {
        let meta = self.packet.meta();
        let (from, to) = (
            usize::from(meta.l4_offset),
            usize::from(meta.payload_offset),
        );
        let mut bytes = [0u8; 60];
        let len = to.saturating_sub(from).min(bytes.len());
        let copied = self.packet.copy_range(from, &mut bytes[..len]);
        let mut found = SynOptions::default();
        if let Ok(header) = TcpSegment::parse(&bytes[..copied]) {
            for option in header.options() {
                match option {
                    TcpOption::MaxSegmentSize(mss) => found.mss = Some(mss),
                    TcpOption::WindowScale(shift) => found.window_scale = Some(shift),
                    _ => {}
                }
            }
        }
        found
    }
}

/// Flags no TCP sends: SYN with FIN or RST, or none at all.
fn contradictory(flags: TcpFlags) -> bool {
    let control = TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST | TcpFlags::ACK;
    let bad_syn = flags.contains(TcpFlags::SYN) && flags.intersects(TcpFlags::FIN | TcpFlags::RST);
    bad_syn || !flags.intersects(control)
}

/// Takes a segment on its flow.
pub(super) fn receive<H: TcpHost>(
    flow: &mut Flow,
    seg: &Segment<'_, '_>,
    ctx: &mut Context<'_, H>,
) {
    flow.heard = ctx.now;
    flow.probes = 0;
    match flow.phase {
        // Nothing was answered yet, so only a guest that gives up has something to say.
        Phase::Connecting => {
            if seg.has(TcpFlags::RST) && seg.seq == flow.rcv_nxt {
                guest_reset(flow, ctx);
            }
        }
        Phase::SynSent => open::answered(flow, seg, ctx),
        Phase::SynReceived | Phase::Established | Phase::TimeWait => synchronized(flow, seg, ctx),
        Phase::Closed => {}
    }
}

fn synchronized<H: TcpHost>(flow: &mut Flow, seg: &Segment<'_, '_>, ctx: &mut Context<'_, H>) {
    let window = flow.receive_window();
    let start = seg.seq.since(flow.rcv_nxt);

    if seg.has(TcpFlags::RST) {
        // RFC 5961, section 3.2: exact, or in the window, or nowhere.
        if start == 0 {
            guest_reset(flow, ctx);
        } else if start > 0 && start as u32 <= window {
            challenge(flow, ctx);
        } else {
            ctx.stats.out_of_window += 1;
        }
        return;
    }
    if seg.has(TcpFlags::SYN) {
        if flow.phase == Phase::SynReceived && seg.seq == flow.irs && seg.is_opening() {
            open::send_syn_ack(flow, ctx);
        } else {
            // RFC 5961, section 4.2: whatever its sequence number.
            challenge(flow, ctx);
        }
        return;
    }
    if !acceptable(start, seg.len(), window) {
        ctx.stats.out_of_window += 1;
        // Without a window no byte is acceptable; the ACK counts nevertheless, and the payload
        // draws its answer further down.
        if !(window == 0 && start == 0) {
            if seg.len() > 0 || start == -1 {
                // A retransmission whose ACK was lost, a window probe, a keep-alive probe.
                transmit::acknowledge(flow, ctx);
            } else {
                challenge(flow, ctx);
            }
            return;
        }
    }
    if !seg.has(TcpFlags::ACK) {
        ctx.stats.malformed += 1;
        return;
    }
    if !take_ack(flow, seg, ctx) || flow.phase != Phase::Established {
        return;
    }
    take_payload(flow, seg, window, ctx);
    finish_if_done(flow, ctx);
}

/// RFC 9293, section 3.4, with the right edge itself allowed: a guest that has used up its window
/// sends its ACKs from there.
fn acceptable(start: i32, len: u32, window: u32) -> bool {
    let (start, len, window) = (i64::from(start), i64::from(len), i64::from(window));
    if len == 0 {
        return (0..=window).contains(&start);
    }
    let last = start + len - 1;
    window > 0
        && ((0..window).contains(&start)
            || (0..window).contains(&last)
            || (start < 0 && last >= window))
}

/// Takes the acknowledgment and the window; `false` if the segment goes no further.
fn take_ack<H: TcpHost>(flow: &mut Flow, seg: &Segment<'_, '_>, ctx: &mut Context<'_, H>) -> bool {
    if flow.phase == Phase::SynReceived {
        if seg.ack != flow.snd_nxt {
            transmit::reset_to(ctx, &flow.key, seg.ack, None);
            return false;
        }
        open::established(flow, seg, ctx);
        return true;
    }
    let ahead = seg.ack.since(flow.snd_una);
    if seg.ack.since(flow.snd_max) > 0 || i64::from(ahead) < -i64::from(flow.max_window.max(65_535))
    {
        // RFC 5961, section 5.2: an ACK of something never sent, or of long ago.
        ctx.stats.out_of_window += 1;
        challenge(flow, ctx);
        return false;
    }
    let was_closed = flow.snd_wnd == 0;
    let window_changed = flow.take_window(seg.seq, seg.ack, seg.window, true);
    if ahead > 0 {
        advance(flow, seg.ack, ctx);
    } else if ahead == 0 && flow.in_flight() > 0 && seg.len() == 0 && !window_changed {
        duplicate(flow);
    }
    if flow.snd_wnd == 0 {
        // The guest lives and has no room: it is waited for without end (RFC 9293, 3.8.6.1).
        flow.attempts = 0;
    } else if was_closed {
        flow.rtt.reset_backoff();
        flow.attempts = 0;
        flow.retransmit_at = NEVER;
        if flow.in_flight() > 0 {
            // What was sent into the closed window is lost.
            flow.snd_nxt = flow.snd_una;
            flow.timed = None;
        }
    }
    flow.again |= window_changed;
    true
}

/// The guest has acknowledged up to `ack`.
fn advance<H>(flow: &mut Flow, ack: SeqNumber, ctx: &mut Context<'_, H>) {
    let acked = ack.since(flow.snd_una) as u32;
    let bytes = acked - u32::from(flow.fin.is_some_and(|fin| fin.before(ack)));
    flow.unconsumed += bytes;
    ctx.stats.bytes_to_guest += u64::from(bytes);
    flow.snd_una = ack;
    if flow.snd_nxt.before(ack) {
        flow.snd_nxt = ack;
    }
    if let Some((end, sent)) = flow.timed
        && !ack.before(end)
    {
        flow.rtt.sample(ctx.now.saturating_sub(sent));
        flow.timed = None;
    }
    flow.rtt.reset_backoff();
    flow.attempts = 0;
    flow.dup_acks = 0;
    if flow.flight_limit != u32::MAX {
        // Doubles in every round trip until it no longer matters.
        flow.flight_limit = flow.flight_limit.saturating_add(acked.saturating_mul(2));
    }
    if flow.in_recovery {
        if flow.recover.before(ack) || flow.recover == ack {
            flow.in_recovery = false;
        } else {
            // A partial acknowledgment: the next hole (RFC 6582, section 3.2).
            flow.resend = true;
        }
    }
    flow.retransmit_at = NEVER;
    if flow.in_flight() > 0 {
        flow.start_timer(ctx.now);
    }
    flow.again = true;
}

/// The guest has repeated itself: a segment is missing (RFC 5681, section 3.2).
fn duplicate(flow: &mut Flow) {
    flow.dup_acks = flow.dup_acks.saturating_add(1);
    if flow.dup_acks == DUP_ACKS && !flow.in_recovery && flow.recover.before(flow.snd_una) {
        flow.in_recovery = true;
        flow.recover = flow.snd_max;
        flow.resend = true;
        flow.timed = None;
        flow.again = true;
    }
}

/// Writes what is in order to the host, and takes the FIN when nothing is left before it.
fn take_payload<H: TcpHost>(
    flow: &mut Flow,
    seg: &Segment<'_, '_>,
    window: u32,
    ctx: &mut Context<'_, H>,
) {
    let fin = seg.has(TcpFlags::FIN);
    if flow.guest_fin || (seg.payload_len == 0 && !fin) {
        return;
    }
    let start = seg.seq.since(flow.rcv_nxt);
    if start > 0 {
        // A hole. The guest learns of it at once, once per segment, and sends it again; unless
        // it is there because the socket was full, when sending it again would be in vain.
        ctx.stats.out_of_window += 1;
        if !flow.write_refused {
            keep_early(flow, seg, start as u32, window, ctx);
            transmit::acknowledge(flow, ctx);
        }
        return;
    }
    let skip = start.unsigned_abs();
    let fresh = seg.payload_len.saturating_sub(skip);
    let take = fresh.min(window);
    let mut taken = 0;
    if take > 0 {
        let Some(socket) = flow.socket else { return };
        // Segments of a burst end up in one of the host's as well, by the end of the batch.
        let more = !fin && !seg.has(TcpFlags::PSH);
        // A write can stop short with room left; it is full only when it says so.
        while taken < take {
            let data = seg
                .packet
                .payload((skip + taken) as usize, (take - taken) as usize);
            match ctx.host.write(socket, &data, more) {
                Ok(0) => break,
                Ok(n) => taken = taken.saturating_add(n as u32).min(take),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    host_failed(flow, ctx);
                    return;
                }
            }
        }
        ctx.stats.bytes_to_host += u64::from(taken);
        flow.rcv_nxt = flow.rcv_nxt + taken;
        flow.unacked += taken;
        if taken > 0 {
            flow.held = more;
            flow.again |= more;
        }
    }
    // Whether the socket refused it or the window did: the guest is asked again when there is room.
    flow.write_refused = taken < fresh;
    if fin {
        flow.early = None;
    } else if taken == fresh && flow.early.is_some() && !take_early(flow, ctx) {
        return;
    }
    if taken < fresh {
        // What was not taken comes again, and so does the FIN behind it.
        transmit::acknowledge(flow, ctx);
    } else if fin && skip <= seg.payload_len {
        flow.rcv_nxt = flow.rcv_nxt + 1;
        flow.guest_fin = true;
        if let Some(socket) = flow.socket {
            ctx.host.shutdown_write(socket);
        }
        transmit::acknowledge(flow, ctx);
    } else if flow.unacked >= ACK_EVERY {
        transmit::acknowledge(flow, ctx);
    } else {
        flow.want_ack();
    }
}

/// Keeps a copy of a segment that came before its turn. One with a FIN comes again.
fn keep_early<H>(
    flow: &mut Flow,
    seg: &Segment<'_, '_>,
    start: u32,
    window: u32,
    ctx: &mut Context<'_, H>,
) {
    let len = seg.payload_len;
    if seg.has(TcpFlags::FIN) || u64::from(start) + u64::from(len) > u64::from(window) {
        return;
    }
    let early = flow
        .early
        .get_or_insert_with(|| Box::new(Reorder::new(ctx.early)));
    early.keep(seg.seq, len as usize, |to| {
        let from = usize::from(seg.packet.meta().payload_offset);
        seg.packet.copy_range(from, to);
    });
}

/// Writes the kept segments whose turn has come; `false` if the host's connection has failed.
fn take_early<H: TcpHost>(flow: &mut Flow, ctx: &mut Context<'_, H>) -> bool {
    let (Some(mut early), Some(socket)) = (flow.early.take(), flow.socket) else {
        return true;
    };
    while let Some(bytes) = early.front(flow.rcv_nxt) {
        match ctx.host.write(socket, &[IoSegment::from(bytes)], false) {
            Ok(n) if n > 0 => {
                let taken = n.min(bytes.len()) as u32;
                ctx.stats.bytes_to_host += u64::from(taken);
                flow.rcv_nxt = flow.rcv_nxt + taken;
                flow.unacked += taken;
                // Written without "more", it took what was held before along.
                flow.held = false;
            }
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                host_failed(flow, ctx);
                return false;
            }
            _ => {
                flow.write_refused = true;
                break;
            }
        }
    }
    if !early.is_empty() {
        flow.early = Some(early);
    }
    true
}

/// Ends the flow when both directions have ended and the guest knows.
pub(super) fn finish_if_done<H: TcpHost>(flow: &mut Flow, ctx: &mut Context<'_, H>) {
    if flow.phase != Phase::Established || !flow.guest_fin || !flow.fin_acknowledged() {
        return;
    }
    if let Some(socket) = flow.socket.take() {
        ctx.host.close(socket);
    }
    flow.retransmit_at = NEVER;
    if flow.last_ack {
        flow.phase = Phase::Closed;
    } else {
        flow.phase = Phase::TimeWait;
        flow.expires_at = ctx.now.saturating_add(ctx.config.time_wait);
    }
}

/// The guest has reset the connection. A stream that the guest had ended before still arrives: its
/// bytes are acknowledged.
pub(super) fn guest_reset<H: TcpHost>(flow: &mut Flow, ctx: &mut Context<'_, H>) {
    ctx.stats.resets_received += 1;
    if let Some(socket) = flow.socket.take() {
        if flow.guest_fin {
            ctx.host.close(socket);
        } else {
            ctx.host.reset(socket);
        }
    }
    flow.phase = Phase::Closed;
}

/// The host's connection has failed, or is to be given up: the guest gets a reset.
pub(super) fn host_failed<H: TcpHost>(flow: &mut Flow, ctx: &mut Context<'_, H>) {
    if let Some(socket) = flow.socket.take() {
        ctx.host.reset(socket);
    }
    if flow.phase != Phase::Connecting {
        transmit::reset_to(ctx, &flow.key, flow.snd_max, Some(flow.rcv_nxt));
    }
    flow.phase = Phase::Closed;
}

/// Tells the guest what is expected, so that a guest that means it can say it exactly.
fn challenge<H: TcpHost>(flow: &mut Flow, ctx: &mut Context<'_, H>) {
    let wait = flow
        .challenged
        .is_some_and(|at| ctx.now.saturating_sub(at) < CHALLENGE_INTERVAL);
    if !wait {
        flow.challenged = Some(ctx.now);
        transmit::acknowledge(flow, ctx);
    }
}
