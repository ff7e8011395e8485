//! What a flow's timer does: retransmission, probes, time-outs.

use super::flow::{Flow, Phase};
use super::open;
use super::receive::{Context, host_failed};
use super::socket::TcpHost;
use super::timers::NEVER;
use super::transmit::{link_of, probe};

/// Attempts for a SYN or SYN-ACK: about a minute (RFC 9293, section 3.8.3 asks for 3 at least).
const SYN_ATTEMPTS: u8 = 6;
/// Attempts for data: many minutes (RFC 1122, section 4.2.3.5 asks for at least 100 seconds).
const DATA_ATTEMPTS: u8 = 15;
/// Segments in flight after a time-out.
const RESTART_SEGMENTS: u32 = 10;

/// The flow's deadline has come.
pub(super) fn fire<H: TcpHost>(flow: &mut Flow, ctx: &mut Context<'_, H>) {
    if flow.retry_at <= ctx.now {
        flow.retry_at = NEVER;
        flow.again = true;
    }
    match flow.phase {
        Phase::Connecting if flow.expires_at <= ctx.now => {
            // The host did not answer, so neither does the relay.
            ctx.stats.timed_out += 1;
            host_failed(flow, ctx);
        }
        Phase::TimeWait if flow.expires_at <= ctx.now => flow.phase = Phase::Closed,
        Phase::SynReceived | Phase::SynSent if flow.retransmit_at <= ctx.now => {
            handshake(flow, ctx)
        }
        Phase::Established => {
            if flow.retransmit_at <= ctx.now {
                retransmit(flow, ctx);
            }
            if flow.phase == Phase::Established && flow.retransmit_at > ctx.now {
                keep_alive(flow, ctx);
            }
        }
        _ => {}
    }
}

fn handshake<H: TcpHost>(flow: &mut Flow, ctx: &mut Context<'_, H>) {
    flow.attempts += 1;
    if flow.attempts > SYN_ATTEMPTS {
        ctx.stats.timed_out += 1;
        host_failed(flow, ctx);
        return;
    }
    flow.rtt.back_off();
    flow.timed = None;
    flow.retransmit_at = NEVER;
    if flow.phase == Phase::SynReceived {
        open::send_syn_ack(flow, ctx);
    } else {
        open::send_syn(flow, ctx);
    }
}

fn retransmit<H: TcpHost>(flow: &mut Flow, ctx: &mut Context<'_, H>) {
    flow.retransmit_at = NEVER;
    let unsent = flow.readable && flow.fin.is_none();
    if flow.in_flight() == 0 && !unsent {
        return;
    }
    if link_of(flow, ctx).is_some_and(|link| !link.ready) {
        // A guest that is paused is waited for; its queue says when it goes on.
        flow.busy = true;
        return;
    }
    flow.attempts += 1;
    if flow.attempts > DATA_ATTEMPTS {
        ctx.stats.timed_out += 1;
        host_failed(flow, ctx);
        return;
    }
    flow.rtt.back_off();
    flow.timed = None;
    if flow.snd_wnd == 0 {
        flow.start_timer(ctx.now);
        probe(flow, ctx);
        return;
    }
    // Go back to what is missing, and from there on at the pace of the ACKs.
    flow.snd_nxt = flow.snd_una;
    flow.recover = flow.snd_max;
    flow.in_recovery = false;
    flow.resend = false;
    flow.dup_acks = 0;
    flow.flight_limit = RESTART_SEGMENTS * u32::from(flow.mss);
    flow.start_timer(ctx.now);
    flow.again = true;
}

/// Asks a guest that has been silent for long whether it is still there.
fn keep_alive<H: TcpHost>(flow: &mut Flow, ctx: &mut Context<'_, H>) {
    if flow.due(ctx.config) > ctx.now {
        return;
    }
    if flow.probes >= ctx.config.probes {
        ctx.stats.timed_out += 1;
        host_failed(flow, ctx);
        return;
    }
    flow.probes += 1;
    probe(flow, ctx);
}
