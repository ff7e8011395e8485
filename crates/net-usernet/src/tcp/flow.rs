//! One connection: its sequence numbers, windows and timers.

use core::time::Duration;
use std::net::{IpAddr, SocketAddr};

use net_wire::tcp::SeqNumber;

use super::config::RelayConfig;
use super::reorder::Reorder;
use super::rtt::RoundTrip;
use super::socket::HostSocket;
use super::timers::NEVER;
use crate::PortId;

/// What tells flows apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FlowKey {
    /// The guest's end.
    pub(super) guest: SocketAddr,
    /// The far end, as the guest knows it.
    pub(super) remote: SocketAddr,
}

impl FlowKey {
    /// A key without IPv6 flow labels and scopes, which do not tell flows apart.
    pub(super) fn new(guest: SocketAddr, remote: SocketAddr) -> Self {
        let plain = |addr: SocketAddr| SocketAddr::new(addr.ip(), addr.port());
        Self {
            guest: plain(guest),
            remote: plain(remote),
        }
    }

    pub(super) fn is_v6(&self) -> bool {
        matches!(self.guest.ip(), IpAddr::V6(_))
    }
}

/// Where a connection is. The closing states of RFC 9293 are [`Phase::Established`] with
/// [`Flow::guest_fin`] and [`Flow::fin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The guest has sent a SYN, the host is connecting; nothing was answered yet.
    Connecting,
    /// The host has connected, a SYN-ACK is on its way to the guest.
    SynReceived,
    /// A client of a published port is waiting, a SYN is on its way to the guest.
    SynSent,
    /// Data flows.
    Established,
    /// Both directions have ended and the host's socket is closed.
    TimeWait,
    /// To be removed.
    Closed,
}

/// The most a window scale can shift (RFC 7323, section 2.3).
const MAX_SHIFT: u8 = 14;
/// What the relay offers: windows up to 16 MiB in steps of 256 bytes.
const OUR_SHIFT: u8 = 8;
/// The smallest segment size that is honoured: below it, headers are most of the traffic.
const MIN_MSS: u16 = 48;
/// A window that was never limited by a loss.
const UNLIMITED: u32 = u32::MAX;

/// One connection.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) key: FlowKey,
    /// The guest's port; `None` while nobody has answered to its address.
    pub(super) port: Option<PortId>,
    /// The flow is in the account of its port.
    pub(super) counted: bool,
    /// The flow is in that account as one whose host is still connecting.
    pub(super) counted_connecting: bool,
    /// The host's socket, while there is one.
    pub(super) socket: Option<HostSocket>,
    pub(super) phase: Phase,

    // Towards the guest; names of RFC 9293, section 3.3.1.
    pub(super) iss: SeqNumber,
    pub(super) snd_una: SeqNumber,
    pub(super) snd_nxt: SeqNumber,
    /// The highest `snd_nxt` ever: after a time-out, `snd_nxt` goes back and this does not.
    pub(super) snd_max: SeqNumber,
    /// The guest's window in bytes.
    pub(super) snd_wnd: u32,
    pub(super) snd_wl1: SeqNumber,
    pub(super) snd_wl2: SeqNumber,
    /// The largest window the guest ever offered.
    pub(super) max_window: u32,
    pub(super) snd_shift: u8,
    /// Payload bytes of a segment towards the guest.
    pub(super) mss: u16,
    /// Acknowledged bytes that are still in the host's queue.
    pub(super) unconsumed: u32,
    /// The sequence number of our FIN, once the host's stream has been seen to end.
    pub(super) fin: Option<SeqNumber>,
    /// The guest had ended its direction before that: TIME-WAIT is the guest's to keep.
    pub(super) last_ack: bool,

    // Recovery from loss.
    pub(super) dup_acks: u8,
    /// No second fast retransmission before this is acknowledged (RFC 6582).
    pub(super) recover: SeqNumber,
    pub(super) in_recovery: bool,
    /// One chunk at `snd_una` is to be sent again.
    pub(super) resend: bool,
    /// What may be in flight after a time-out.
    pub(super) flight_limit: u32,
    pub(super) rtt: RoundTrip,
    /// The segment that is being timed: its end, and when it was sent.
    pub(super) timed: Option<(SeqNumber, Duration)>,
    /// Retransmissions, or probes, since the guest was last heard.
    pub(super) attempts: u8,
    /// Frames in a burst on a link without super-frames.
    pub(super) burst: u8,

    // From the guest.
    pub(super) irs: SeqNumber,
    pub(super) rcv_nxt: SeqNumber,
    /// The right edge of the window the guest was told of.
    pub(super) rcv_edge: SeqNumber,
    pub(super) rcv_shift: u8,
    /// Segments that came before their turn.
    pub(super) early: Option<Box<Reorder>>,
    /// Accepted bytes the guest has not been told of.
    pub(super) unacked: u32,
    /// The guest's FIN was accepted.
    pub(super) guest_fin: bool,
    /// The socket holds bytes back, for more that may follow in the same batch.
    pub(super) held: bool,
    /// Not all the guest sent was taken, for want of room; it has to send the rest again.
    pub(super) write_refused: bool,
    /// A writable event has been asked for and has not come.
    pub(super) watching: bool,
    /// That event has come.
    pub(super) writable: bool,

    // Readiness and work.
    /// The host's socket may have something to peek.
    pub(super) readable: bool,
    /// An ACK is due.
    pub(super) ack_due: bool,
    /// Is in the list of flows with work.
    pub(super) queued: bool,
    /// Is in the list of flows that wait for room in the guest's queue.
    pub(super) waiting: bool,
    /// The guest's queue was full: to be put in that list.
    pub(super) busy: bool,
    /// There is more to do than one turn allows.
    pub(super) again: bool,
    /// To be reset at both ends.
    pub(super) withdrawn: bool,
    /// The last ACK that answered a segment which asked for none.
    pub(super) challenged: Option<Duration>,

    // Time.
    /// Retransmission, window probe, SYN.
    pub(super) retransmit_at: Duration,
    /// End of the connect or of TIME-WAIT.
    pub(super) expires_at: Duration,
    /// When to try again for want of a buffer.
    pub(super) retry_at: Duration,
    /// When the guest was last heard.
    pub(super) heard: Duration,
    /// Keep-alive probes since then.
    pub(super) probes: u8,
    /// Time of the live entry in the heap of timers.
    pub(super) scheduled: Duration,
}

impl Flow {
    /// A flow in `phase` that nobody has said anything on yet.
    pub(super) fn new(key: FlowKey, phase: Phase, iss: SeqNumber, now: Duration) -> Self {
        Self {
            key,
            port: None,
            counted: false,
            counted_connecting: false,
            socket: None,
            phase,
            iss,
            snd_una: iss,
            snd_nxt: iss,
            snd_max: iss,
            snd_wnd: 0,
            snd_wl1: SeqNumber(0),
            snd_wl2: SeqNumber(0),
            max_window: 0,
            snd_shift: 0,
            mss: if key.is_v6() { 1220 } else { 536 },
            unconsumed: 0,
            fin: None,
            last_ack: false,
            dup_acks: 0,
            recover: iss,
            in_recovery: false,
            resend: false,
            flight_limit: UNLIMITED,
            rtt: RoundTrip::default(),
            timed: None,
            attempts: 0,
            burst: 4,
            irs: SeqNumber(0),
            early: None,
            rcv_nxt: SeqNumber(0),
            rcv_edge: SeqNumber(0),
            rcv_shift: 0,
            unacked: 0,
            guest_fin: false,
            held: false,
            write_refused: false,
            watching: false,
            writable: false,
            readable: false,
            ack_due: false,
            queued: false,
            waiting: false,
            busy: false,
            again: false,
            withdrawn: false,
            challenged: None,
            retransmit_at: NEVER,
            expires_at: NEVER,
            retry_at: NEVER,
            heard: now,
            probes: 0,
            scheduled: NEVER,
        }
    }

    /// Takes the guest's SYN: its sequence number and options.
    pub(super) fn take_syn(&mut self, seq: SeqNumber, options: &SynOptions) {
        self.irs = seq;
        self.rcv_nxt = seq + 1;
        self.rcv_edge = self.rcv_nxt;
        // Whatever window comes first is newer than none.
        self.snd_wl1 = SeqNumber(seq.0.wrapping_sub(1));
        if let Some(mss) = options.mss.filter(|&mss| mss > 0) {
            self.mss = mss.max(MIN_MSS);
        }
        // Scaling is on when both sides have offered it (RFC 7323, section 2.2).
        if let Some(shift) = options.window_scale {
            self.snd_shift = shift.min(MAX_SHIFT);
            self.rcv_shift = OUR_SHIFT;
        } else {
            self.snd_shift = 0;
            self.rcv_shift = 0;
        }
    }

    /// The window scale to offer.
    pub(super) const fn offered_shift() -> u8 {
        OUR_SHIFT
    }

    /// Takes the window of a segment, if the segment is not older than the last one that told
    /// (RFC 9293, section 3.10.7.4). `scaled` is false for SYNs. Whether it has changed.
    pub(super) fn take_window(
        &mut self,
        seq: SeqNumber,
        ack: SeqNumber,
        window: u16,
        scaled: bool,
    ) -> bool {
        let newer = self.snd_wl1.before(seq) || (self.snd_wl1 == seq && !ack.before(self.snd_wl2));
        // A guest that has gone back after a time-out numbers its ACKs lower than before. An update
        // that opens a closed window is believed from any segment: at worst a few bytes are sent
        // too early, where the alternative is to wait for ever.
        let opens = self.snd_wnd == 0 && window > 0 && !ack.before(self.snd_una);
        if !(newer || opens) {
            return false;
        }
        let shift = if scaled { self.snd_shift } else { 0 };
        let window = u32::from(window) << shift;
        let changed = window != self.snd_wnd;
        self.snd_wnd = window;
        self.max_window = self.max_window.max(window);
        self.snd_wl1 = seq;
        self.snd_wl2 = ack;
        changed
    }

    /// Bytes the guest may still send.
    pub(super) fn receive_window(&self) -> u32 {
        self.rcv_edge.since(self.rcv_nxt).max(0) as u32
    }

    /// Sequence numbers sent and not acknowledged.
    pub(super) fn in_flight(&self) -> u32 {
        self.snd_max.since(self.snd_una).max(0) as u32
    }

    /// The sequence number of a segment without payload: the next one, or the right edge of the
    /// guest's window where that lies before it. From behind the edge nothing is acceptable.
    pub(super) fn ack_seq(&self) -> SeqNumber {
        let edge = self.snd_una + self.snd_wnd;
        if edge.before(self.snd_max) {
            edge
        } else {
            self.snd_max
        }
    }

    /// How many bytes may be sent from `snd_nxt` on.
    pub(super) fn usable_window(&self) -> u32 {
        let limit = self.snd_wnd.min(self.flight_limit);
        (i64::from(limit) - i64::from(self.snd_nxt.since(self.snd_una))).max(0) as u32
    }

    /// Notes `free` bytes of room: moves the right edge, never to the left. Whether it moved.
    pub(super) fn open_window(&mut self, free: usize) -> bool {
        let largest = u32::from(u16::MAX) << self.rcv_shift;
        let free = u32::try_from(free).unwrap_or(u32::MAX).min(largest);
        let offered = self.rcv_nxt + (free >> self.rcv_shift << self.rcv_shift);
        let moved = self.rcv_edge.before(offered);
        if moved {
            self.rcv_edge = offered;
        }
        moved
    }

    /// The window field for the edge the guest knows. Rounds up, because rounding down would
    /// move the edge to the left.
    pub(super) fn window_field(&mut self) -> u16 {
        let step = (1u32 << self.rcv_shift) - 1;
        let units = (self.receive_window() + step) >> self.rcv_shift;
        let field = units.min(u32::from(u16::MAX)) as u16;
        let told = self.rcv_nxt + (u32::from(field) << self.rcv_shift);
        if self.rcv_edge.before(told) {
            self.rcv_edge = told;
        }
        field
    }

    /// The window field of a SYN-ACK, which is never scaled.
    pub(super) fn unscaled_window(&mut self, free: usize) -> u16 {
        let field = free.min(usize::from(u16::MAX)) as u16;
        let offered = self.rcv_nxt + u32::from(field);
        if self.rcv_edge.before(offered) {
            self.rcv_edge = offered;
        }
        field
    }

    /// Below this window the guest is told as soon as there is more room; `total` is the size of
    /// the send buffer.
    pub(super) fn low_window(&self, total: usize) -> u32 {
        let largest = u32::from(u16::MAX) << self.rcv_shift;
        u32::try_from(total / 4)
            .unwrap_or(u32::MAX)
            .min(largest / 2)
    }

    /// An ACK is due with the next batch.
    pub(super) fn want_ack(&mut self) {
        self.ack_due = true;
        self.again = true;
    }

    /// Starts the retransmission timer if it does not run.
    pub(super) fn start_timer(&mut self, now: Duration) {
        if self.retransmit_at == NEVER {
            self.retransmit_at = now.saturating_add(self.rtt.timeout());
        }
    }

    /// Whether both ends have had all they will get.
    pub(super) fn fin_acknowledged(&self) -> bool {
        self.fin.is_some_and(|fin| fin.before(self.snd_una))
    }

    /// The byte of the host's stream behind the first unconsumed one that `seq` stands for.
    pub(super) fn host_offset(&self, seq: SeqNumber) -> usize {
        (i64::from(self.unconsumed) + i64::from(seq.since(self.snd_una))).max(0) as usize
    }

    /// When this flow next needs to be looked at.
    pub(super) fn due(&self, config: &RelayConfig) -> Duration {
        let idle = match self.phase {
            Phase::Established => {
                let limit = if self.guest_fin || self.fin.is_some() {
                    config.half_closed
                } else {
                    config.established
                };
                self.heard
                    .saturating_add(limit)
                    .saturating_add(config.probe_interval * u32::from(self.probes))
            }
            _ => NEVER,
        };
        self.retransmit_at
            .min(self.expires_at)
            .min(self.retry_at)
            .min(idle)
    }
}

/// What the options of a SYN say.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SynOptions {
    pub(super) mss: Option<u16>,
    pub(super) window_scale: Option<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> Flow {
        let key = FlowKey::new(([10, 0, 0, 2], 1).into(), ([192, 0, 2, 1], 2).into());
        let mut flow = Flow::new(key, Phase::Established, SeqNumber(100), Duration::ZERO);
        flow.take_syn(
            SeqNumber(u32::MAX - 10),
            &SynOptions {
                mss: Some(1460),
                window_scale: Some(7),
            },
        );
        flow
    }

    #[test]
    fn the_right_edge_never_moves_left() {
        let mut flow = flow();
        let mut edge = flow.rcv_edge;
        for (free, taken) in [
            (5000, 0),
            (3000, 700),
            (0, 1),
            (255, 300),
            (100_000, 3),
            (17, 90),
        ] {
            flow.rcv_nxt = flow.rcv_nxt + taken;
            flow.open_window(free);
            let field = flow.window_field();
            assert!(!flow.rcv_edge.before(edge));
            let told = flow.rcv_nxt + (u32::from(field) << flow.rcv_shift);
            assert_eq!(told, flow.rcv_edge);
            edge = flow.rcv_edge;
        }
    }

    #[test]
    fn scaling_needs_both_sides_and_stops_at_14() {
        let mut flow = flow();
        assert_eq!((flow.snd_shift, flow.rcv_shift), (7, OUR_SHIFT));
        flow.take_syn(SeqNumber(0), &SynOptions::default());
        assert_eq!((flow.snd_shift, flow.rcv_shift), (0, 0));
        flow.open_window(1 << 20);
        assert_eq!(flow.window_field(), u16::MAX);
        flow.take_syn(
            SeqNumber(0),
            &SynOptions {
                mss: Some(1),
                window_scale: Some(200),
            },
        );
        assert_eq!((flow.snd_shift, flow.mss), (14, MIN_MSS));
    }

    #[test]
    fn an_old_segment_does_not_change_the_window() {
        let mut flow = flow();
        flow.snd_wl1 = SeqNumber(40);
        assert!(flow.take_window(SeqNumber(50), SeqNumber(100), 10, true));
        assert_eq!(flow.snd_wnd, 10 << 7);
        assert!(!flow.take_window(SeqNumber(49), SeqNumber(101), 99, true));
        assert!(!flow.take_window(SeqNumber(50), SeqNumber(99), 99, true));
        assert!(flow.take_window(SeqNumber(50), SeqNumber(100), 99, true));
        assert_eq!(flow.max_window, 99 << 7);
    }
}
