//! Towards the guest: data as far as its window reaches, and acknowledgments.

use core::time::Duration;
use std::io::{self, IoSliceMut};

use net_datapath::PacketBuf;
use net_wire::tcp::{SeqNumber, TcpFlags};

use super::emit::{self, Head, Sent};
use super::flow::{Flow, FlowKey, Phase};
use super::receive::{Context, finish_if_done, host_failed};
use super::socket::TcpHost;
use super::timers::NEVER;
use crate::GuestLink;

/// Bytes for one flow until the next has its turn.
const TURN: usize = 512 * 1024;
/// Frames in one burst on a link without super-frames.
const MAX_BURST: usize = 32;
/// Largest L3 packet.
const MAX_PACKET: usize = 65_535;
/// Until the next attempt to get a buffer.
const BUFFER_WAIT: Duration = Duration::from_millis(1);

/// What became of one chunk of data.
enum Chunk {
    /// So many bytes are on their way.
    Sent(u32),
    /// The host has nothing more for now, or the guest cannot take it.
    Stop,
    /// The host's stream ends here.
    End,
    /// The host's connection has failed.
    Failed,
}

/// Does what is to be done for a flow, once per batch.
pub(super) fn work<H: TcpHost>(flow: &mut Flow, ctx: &mut Context<'_, H>) {
    flow.again = false;
    if !matches!(flow.phase, Phase::Established) {
        if flow.ack_due {
            acknowledge(flow, ctx);
        }
        return;
    }
    if flow.unconsumed > 0
        && let Some(socket) = flow.socket
    {
        if ctx.host.consume(socket, flow.unconsumed as usize).is_err() {
            host_failed(flow, ctx);
            return;
        }
        flow.unconsumed = 0;
    }
    if core::mem::take(&mut flow.held)
        && let Some(socket) = flow.socket
    {
        ctx.host.push(socket);
    }
    if flow.writable {
        flow.writable = false;
        reopen(flow, ctx);
    }
    let Some(link) = link_of(flow, ctx) else {
        // Nobody has the guest's address now. The timer tries again, and gives up in the end.
        if flow.readable || flow.in_flight() > 0 {
            flow.start_timer(ctx.now);
        }
        return;
    };
    if !link.ready {
        flow.busy = true;
        ctx.stats.guest_busy += 1;
        return;
    }
    if flow.ack_due {
        refresh_window(flow, ctx);
    }
    send_data(flow, &link, ctx);
    if flow.phase == Phase::Established && flow.ack_due && !flow.busy {
        send_ack(flow, Some(&link), ctx);
    }
    finish_if_done(flow, ctx);
}

/// The guest's link, as long as it is the port the flow belongs to.
pub(super) fn link_of<H>(flow: &Flow, ctx: &Context<'_, H>) -> Option<GuestLink> {
    ctx.out
        .link(flow.key.guest.ip())
        .filter(|link| flow.port.is_none_or(|port| port == link.port))
}

fn send_data<H: TcpHost>(flow: &mut Flow, link: &GuestLink, ctx: &mut Context<'_, H>) {
    let v6 = flow.key.is_v6();
    let mss = u32::from(flow.mss.min(emit::link_mss(v6, link)));
    let tso = link.csum && if v6 { link.tso6 } else { link.tso4 };
    if flow.resend {
        flow.resend = false;
        resend_hole(flow, link, mss, tso, ctx);
    }
    let mut budget = TURN;
    while !flow.busy && flow.phase == Phase::Established {
        if flow.fin == Some(flow.snd_nxt) {
            send_fin(flow, link, ctx);
            break;
        }
        let behind = flow.snd_nxt.before(flow.snd_max);
        if !(behind || flow.readable && flow.fin.is_none()) {
            break;
        }
        let usable = flow.usable_window();
        let offset = flow.host_offset(flow.snd_nxt);
        let limit = (usable as usize).min(ctx.host.peek_limit().saturating_sub(offset));
        // A few bytes at the edge of the window are not worth a segment while an ACK is to be
        // expected (RFC 9293, section 3.8.6.2.1).
        let silly = usable < mss.min(flow.max_window / 2) && flow.snd_nxt != flow.snd_una;
        if limit == 0 || silly {
            break;
        }
        if budget == 0 {
            flow.again = true;
            break;
        }
        let from = flow.snd_nxt;
        let limit = limit.min(budget.max(mss as usize));
        match send_chunk(flow, from, limit, link, mss, tso, ctx) {
            Chunk::Sent(n) => {
                budget = budget.saturating_sub(n as usize);
                sent(flow, from + n, ctx);
            }
            Chunk::Stop => break,
            Chunk::End if behind => {
                // Bytes that were there before are gone: the connection was cut off.
                host_failed(flow, ctx);
                return;
            }
            Chunk::End => {
                flow.fin = Some(from);
                flow.last_ack = flow.guest_fin;
                flow.readable = false;
            }
            Chunk::Failed => {
                host_failed(flow, ctx);
                return;
            }
        }
    }
    let waits = flow.readable && flow.fin.is_none() && flow.usable_window() == 0;
    if !flow.busy && (flow.in_flight() > 0 || waits) {
        flow.start_timer(ctx.now);
    }
}

/// Notes that everything up to `end` has been sent.
fn sent<H>(flow: &mut Flow, end: SeqNumber, ctx: &mut Context<'_, H>) {
    if flow.snd_nxt.before(flow.snd_max) {
        ctx.stats.retransmits += 1;
    } else if flow.timed.is_none() {
        flow.timed = Some((end, ctx.now));
    }
    flow.snd_nxt = end;
    if flow.snd_max.before(end) {
        flow.snd_max = end;
    }
    flow.start_timer(ctx.now);
}

/// Sends the first unacknowledged bytes again, without going back.
fn resend_hole<H: TcpHost>(
    flow: &mut Flow,
    link: &GuestLink,
    mss: u32,
    tso: bool,
    ctx: &mut Context<'_, H>,
) {
    if flow.fin == Some(flow.snd_una) {
        // Only the FIN is missing.
        flow.snd_nxt = flow.snd_una;
        return;
    }
    let end = flow.fin.unwrap_or(flow.snd_max);
    let missing = end.since(flow.snd_una).max(0) as u32;
    let limit = missing
        .min(flow.snd_wnd)
        .min(if tso { u32::MAX } else { mss });
    if limit == 0 {
        return;
    }
    match send_chunk(flow, flow.snd_una, limit as usize, link, mss, tso, ctx) {
        Chunk::Sent(_) => {
            ctx.stats.retransmits += 1;
            flow.timed = None;
            flow.retransmit_at = NEVER;
            flow.start_timer(ctx.now);
        }
        // The timer will see to it.
        Chunk::Stop => {}
        Chunk::End | Chunk::Failed => host_failed(flow, ctx),
    }
}

/// Sends at most `limit` bytes of the host's stream from `seq` on: one super-frame, or a burst of
/// frames from one look into the host's queue.
fn send_chunk<H: TcpHost>(
    flow: &mut Flow,
    seq: SeqNumber,
    limit: usize,
    link: &GuestLink,
    mss: u32,
    tso: bool,
    ctx: &mut Context<'_, H>,
) -> Chunk {
    let mss = mss as usize;
    if tso {
        let room = MAX_PACKET - emit::header_len(flow.key.is_v6());
        // Whole segments, unless one alone is larger than any packet.
        let per_frame = (room / mss * mss).max(mss.min(room));
        return send_burst::<1, H>(flow, seq, limit, 1, per_frame, link, mss, ctx);
    }
    let frames = usize::from(flow.burst).clamp(1, MAX_BURST);
    let want = limit.min(frames * mss);
    let result = send_burst::<MAX_BURST, H>(flow, seq, want, frames, mss, link, mss, ctx);
    if let Chunk::Sent(n) = result {
        // Ask for as much as there was the last time, and more when there was enough.
        let used = (n as usize).div_ceil(mss);
        let next = if n as usize == want {
            used * 2
        } else {
            used + 1
        };
        flow.burst = next.clamp(2, MAX_BURST) as u8;
    }
    result
}

#[allow(clippy::too_many_arguments)] // Two callers, both above.
fn send_burst<const N: usize, H: TcpHost>(
    flow: &mut Flow,
    seq: SeqNumber,
    limit: usize,
    frames: usize,
    per_frame: usize,
    link: &GuestLink,
    mss: usize,
    ctx: &mut Context<'_, H>,
) -> Chunk {
    let Some(socket) = flow.socket else {
        return Chunk::Stop;
    };
    let headers = emit::header_len(flow.key.is_v6());
    let limit = limit.min(frames.min(N) * per_frame);
    let mut packets: [Option<PacketBuf>; N] = [const { None }; N];
    let mut room = 0;
    for slot in &mut packets {
        let len = per_frame.min(limit - room);
        if len == 0 {
            break;
        }
        let packet = ctx
            .out
            .buffer(headers + len)
            .filter(|packet| packet.tailroom() >= headers + len);
        let Some(mut packet) = packet else { break };
        if packet.set_len(headers).is_none() {
            break;
        }
        room += len;
        *slot = Some(packet);
    }
    if room == 0 {
        no_buffer(flow, ctx);
        return Chunk::Stop;
    }

    let mut slices: [IoSliceMut<'_>; N] = core::array::from_fn(|_| IoSliceMut::new(&mut []));
    let (mut left, mut count) = (room, 0);
    for (slice, packet) in slices.iter_mut().zip(packets.iter_mut().flatten()) {
        let len = per_frame.min(left);
        if let Some(spare) = packet.spare_mut().get_mut(..len) {
            *slice = IoSliceMut::new(spare);
        }
        left -= len;
        count += 1;
    }
    let offset = flow.host_offset(seq);
    let found = match ctx.host.peek(socket, offset, &mut slices[..count]) {
        Ok(0) => return Chunk::End,
        Ok(n) => n.min(room),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            flow.readable = false;
            return Chunk::Stop;
        }
        Err(_) => return Chunk::Failed,
    };

    let mut head = head(flow, TcpFlags::ACK);
    let mut done = 0;
    for slot in &mut packets {
        let part = per_frame.min(found - done);
        let Some(mut packet) = slot.take().filter(|_| part > 0) else {
            break;
        };
        if packet.set_len(headers + part).is_none() {
            break;
        }
        head.seq = seq + done as u32;
        if done + part == found {
            head.flags = TcpFlags::ACK | TcpFlags::PSH;
        }
        let gso_size = if part > mss { mss as u16 } else { 0 };
        match emit::data(ctx.out, link, &head, packet, gso_size) {
            Sent::Yes => done += part,
            Sent::Busy | Sent::NoBuffer => {
                flow.busy = true;
                ctx.stats.guest_busy += 1;
                break;
            }
        }
    }
    if done == 0 {
        return Chunk::Stop;
    }
    // Every segment carries the acknowledgment.
    flow.ack_due = false;
    flow.unacked = 0;
    Chunk::Sent(done as u32)
}

fn send_fin<H: TcpHost>(flow: &mut Flow, link: &GuestLink, ctx: &mut Context<'_, H>) {
    let mut head = head(flow, TcpFlags::FIN | TcpFlags::ACK);
    head.seq = flow.snd_nxt;
    if control(flow, Some(link), &head, ctx) {
        let end = flow.snd_nxt + 1;
        sent(flow, end, ctx);
    }
}

/// The header of a segment of this flow, at `snd_nxt`.
fn head(flow: &mut Flow, flags: TcpFlags) -> Head {
    Head {
        src: flow.key.remote,
        dst: flow.key.guest,
        seq: flow.snd_nxt,
        ack: flow.rcv_nxt,
        flags,
        window: flow.window_field(),
    }
}

/// Sends a segment without payload that carries the acknowledgment; whether it went.
fn control<H>(
    flow: &mut Flow,
    link: Option<&GuestLink>,
    head: &Head,
    ctx: &mut Context<'_, H>,
) -> bool {
    match emit::control(ctx.out, link, head, None) {
        Sent::Yes => {
            flow.ack_due = false;
            flow.unacked = 0;
            true
        }
        Sent::Busy => {
            flow.busy = true;
            ctx.stats.guest_busy += 1;
            false
        }
        Sent::NoBuffer => {
            no_buffer(flow, ctx);
            false
        }
    }
}

pub(super) fn no_buffer<H>(flow: &mut Flow, ctx: &mut Context<'_, H>) {
    ctx.stats.no_buffer += 1;
    flow.retry_at = ctx.now.saturating_add(BUFFER_WAIT);
}

/// Sends an ACK now, with a fresh window.
pub(super) fn acknowledge<H: TcpHost>(flow: &mut Flow, ctx: &mut Context<'_, H>) {
    let link = link_of(flow, ctx);
    refresh_window(flow, ctx);
    send_ack(flow, link.as_ref(), ctx);
}

fn send_ack<H>(flow: &mut Flow, link: Option<&GuestLink>, ctx: &mut Context<'_, H>) {
    let mut head = head(flow, TcpFlags::ACK);
    head.seq = flow.ack_seq();
    if !control(flow, link, &head, ctx) {
        flow.ack_due = true;
    }
}

/// Reflects the free space of the host's socket in the window.
fn refresh_window<H: TcpHost>(flow: &mut Flow, ctx: &mut Context<'_, H>) {
    if flow.guest_fin {
        return;
    }
    let Some(socket) = flow.socket else { return };
    let space = ctx.host.send_space(socket);
    flow.open_window(space.free);
    if !flow.watching
        && (flow.write_refused || flow.receive_window() < flow.low_window(space.total))
    {
        flow.watching = true;
        ctx.host.watch_writable(socket);
    }
}

/// The host's socket has room again: the guest is told, and asked for what was refused.
fn reopen<H: TcpHost>(flow: &mut Flow, ctx: &mut Context<'_, H>) {
    let refused = core::mem::take(&mut flow.write_refused);
    let before = flow.rcv_edge;
    refresh_window(flow, ctx);
    let moved = before.before(flow.rcv_edge);
    if !(moved || refused) {
        return;
    }
    let link = link_of(flow, ctx);
    send_ack(flow, link.as_ref(), ctx);
    if refused {
        // Three duplicates make the guest send the missing bytes now, not after its time-out
        // (RFC 5681, section 3.2).
        for _ in 0..3 {
            send_ack(flow, link.as_ref(), ctx);
        }
    }
}

/// Sends a segment that the guest must answer, because it lies just before its window: a window
/// or keep-alive probe (RFC 9293, section 3.8.4).
pub(super) fn probe<H: TcpHost>(flow: &mut Flow, ctx: &mut Context<'_, H>) {
    let link = link_of(flow, ctx);
    let mut head = head(flow, TcpFlags::ACK);
    head.seq = SeqNumber(flow.snd_una.0.wrapping_sub(1));
    control(flow, link.as_ref(), &head, ctx);
}

/// Sends a reset. With `ack` it acknowledges, as the answer to a segment without ACK must.
pub(super) fn reset_to<H>(
    ctx: &mut Context<'_, H>,
    key: &FlowKey,
    seq: SeqNumber,
    ack: Option<SeqNumber>,
) {
    let link = ctx.out.link(key.guest.ip());
    let head = Head {
        src: key.remote,
        dst: key.guest,
        seq,
        ack: ack.unwrap_or_default(),
        flags: if ack.is_some() {
            TcpFlags::RST | TcpFlags::ACK
        } else {
            TcpFlags::RST
        },
        window: 0,
    };
    if emit::control(ctx.out, link.as_ref(), &head, None) == Sent::Yes {
        ctx.stats.resets_sent += 1;
    }
}
