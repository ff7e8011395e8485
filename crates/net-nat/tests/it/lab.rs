//! An engine on a bench: packets in, packets out, time at will.
//!
//! Every packet goes to two engines of one configuration, to the one by `translate` and to the other
//! by `translate_batch`; they must agree on every byte. Whatever comes out of them must have the
//! checksums that somebody who knows nothing of the translation would compute.

pub(crate) mod build;
pub(crate) mod parse;
pub(crate) mod sum;
pub(crate) mod world;

use std::net::SocketAddr;
use std::time::Duration;

use net_nat::{
    Direction, DropReason, Endpoint, Forward, ForwardError, NatConfig, NatEngine, Output,
    SessionView, Side, Verdict,
};

pub(crate) use build::{
    ACK, ECHO, ECHO_REPLY, FIN, Ip, PSH, RST, SYN, Tcp, echo, fragments, icmp, icmp_error, raw,
    tcp, udp,
};
pub(crate) use parse::{Seen, see};
pub(crate) use world::{BOTH, Family, V4, V6, at, secs};

/// What became of a packet.
#[derive(Debug, Clone)]
#[must_use]
pub(crate) struct Done {
    pub(crate) verdict: Verdict,
    /// The packet as the engine left it.
    pub(crate) packet: Vec<u8>,
}

impl Done {
    /// It was translated, to either side.
    #[track_caller]
    pub(crate) fn sent(self) -> Seen {
        match self.verdict {
            Verdict::Translated(_) => see(&self.packet),
            other => panic!("{other:?} instead of a translated packet"),
        }
    }

    /// It was translated and goes to this side.
    #[track_caller]
    pub(crate) fn sent_to(self, side: Side) -> Seen {
        assert_eq!(self.verdict, Verdict::Translated(side));
        see(&self.packet)
    }

    /// It goes no further, and nobody hears of it.
    #[track_caller]
    pub(crate) fn dropped(self) -> DropReason {
        match self.verdict {
            Verdict::Drop(reason) => reason,
            other => panic!("{other:?} instead of a drop"),
        }
    }

    /// It was left alone.
    #[track_caller]
    pub(crate) fn passed(self) {
        assert_eq!(self.verdict, Verdict::Pass);
    }

    pub(crate) fn is_sent(&self) -> bool {
        matches!(self.verdict, Verdict::Translated(_))
    }
}

/// Two engines of one configuration, and a clock.
pub(crate) struct Lab {
    one: NatEngine,
    batch: NatEngine,
    now: Duration,
}

impl Lab {
    /// Both engines with this configuration.
    #[track_caller]
    pub(crate) fn new(config: NatConfig) -> Self {
        Self {
            one: NatEngine::new(config.clone()).unwrap(),
            batch: NatEngine::new(config).unwrap(),
            now: Duration::from_secs(1000),
        }
    }

    /// The usual network of a family, with changes.
    pub(crate) fn with(family: Family, change: impl FnOnce(&mut NatConfig)) -> Self {
        let mut config = family.config();
        change(&mut config);
        Self::new(config)
    }

    /// The usual network of a family.
    pub(crate) fn of(family: Family) -> Self {
        Self::with(family, |_| {})
    }

    /// Both families at once.
    pub(crate) fn dual(change: impl FnOnce(&mut NatConfig)) -> Self {
        let mut config = V4.config();
        config.ipv6 = V6.config().ipv6;
        change(&mut config);
        Self::new(config)
    }

    /// A packet from the inside.
    #[track_caller]
    pub(crate) fn out(&mut self, packet: impl AsRef<[u8]>) -> Done {
        self.send(packet.as_ref(), Direction::Outbound)
    }

    /// A packet from the outside.
    #[track_caller]
    pub(crate) fn inn(&mut self, packet: impl AsRef<[u8]>) -> Done {
        self.send(packet.as_ref(), Direction::Inbound)
    }

    #[track_caller]
    pub(crate) fn send(&mut self, packet: &[u8], direction: Direction) -> Done {
        let (mut one, mut many) = (packet.to_vec(), [packet.to_vec()]);
        let verdict = self.one.translate(&mut one, direction, self.now);
        let mut verdicts = [Verdict::Pass];
        self.batch
            .translate_batch(&mut many, direction, self.now, &mut verdicts);
        assert_eq!(
            verdict, verdicts[0],
            "one packet and a batch are treated differently"
        );
        assert_eq!(one, many[0], "one packet and a batch come out differently");
        match verdict {
            Verdict::Translated(_) | Verdict::Fragment(_) => {
                if sum::check(packet).is_ok() {
                    sum::check(&one).unwrap();
                }
                assert_eq!(one.len(), packet.len(), "translation keeps the length");
            }
            Verdict::Pass | Verdict::Hold | Verdict::Shard(_) => {
                assert_eq!(one, packet, "{verdict:?} leaves the packet alone");
            }
            _ => {}
        }
        Done {
            verdict,
            packet: one,
        }
    }

    /// Lets time pass; nothing else happens.
    pub(crate) fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    /// Lets time pass second by second, with a call of `expire` in each, as a caller would.
    pub(crate) fn live(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = (self.now + secs(1)).min(end);
            self.expire();
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.now
    }

    /// Ends what is over; returns how many records were looked at.
    pub(crate) fn expire(&mut self) -> usize {
        let now = self.now;
        self.both(|engine| engine.expire(now))
    }

    /// Does something to both engines; the answers must be equal.
    #[track_caller]
    pub(crate) fn both<R: PartialEq + std::fmt::Debug>(
        &mut self,
        mut act: impl FnMut(&mut NatEngine) -> R,
    ) -> R {
        let one = act(&mut self.one);
        assert_eq!(one, act(&mut self.batch));
        one
    }

    /// To ask it what it knows.
    pub(crate) fn engine(&self) -> &NatEngine {
        &self.one
    }

    /// The packets that the engine made or kept, with their checksums verified.
    #[track_caller]
    pub(crate) fn outputs(&mut self) -> Vec<Output> {
        let outputs: Vec<_> = std::iter::from_fn(|| self.one.next_output()).collect();
        let others: Vec<_> = std::iter::from_fn(|| self.batch.next_output()).collect();
        assert_eq!(
            outputs, others,
            "one packet and a batch put out different things"
        );
        for output in &outputs {
            sum::check(&output.packet).unwrap();
        }
        outputs
    }

    /// The one packet that the engine made or kept.
    #[track_caller]
    pub(crate) fn output(&mut self) -> Output {
        let mut outputs = self.outputs();
        assert_eq!(outputs.len(), 1, "{outputs:?}");
        outputs.remove(0)
    }

    /// The outside endpoint that stands for `from` when it sends UDP to `to`.
    #[track_caller]
    pub(crate) fn map_udp(&mut self, from: SocketAddr, to: SocketAddr) -> SocketAddr {
        let seen = self.out(udp(from, to, b"hello")).sent();
        assert_eq!(seen.dst(), to);
        seen.src()
    }

    /// Whether UDP from `from` to the outside endpoint `to` gets in; if so, to whom.
    #[track_caller]
    pub(crate) fn call_udp(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Result<SocketAddr, DropReason> {
        let done = self.inn(udp(from, to, b"answer"));
        match done.verdict {
            Verdict::Translated(Side::Inside) => {
                let seen = see(&done.packet);
                assert_eq!(seen.src(), from);
                Ok(seen.dst())
            }
            Verdict::Drop(reason) => Err(reason),
            other => panic!("{other:?}"),
        }
    }

    /// Publishes `inside` at `outside`.
    pub(crate) fn forward(
        &mut self,
        protocol: u8,
        outside: SocketAddr,
        inside: SocketAddr,
    ) -> Result<(), ForwardError> {
        self.both(|engine| {
            engine.add_forward(Forward {
                protocol,
                outside: Endpoint::new(outside.ip(), outside.port()),
                inside: Endpoint::new(inside.ip(), inside.port()),
            })
        })
    }

    /// Takes it back.
    pub(crate) fn unforward(
        &mut self,
        protocol: u8,
        outside: SocketAddr,
    ) -> Result<(), ForwardError> {
        let end = Endpoint::new(outside.ip(), outside.port());
        self.both(|engine| engine.remove_forward(protocol, end))
    }

    /// The session of this protocol with these inside and remote ends.
    pub(crate) fn session(
        &self,
        protocol: u8,
        inside: SocketAddr,
        remote: SocketAddr,
    ) -> Option<SessionView> {
        let end = |e: Endpoint<std::net::IpAddr>| SocketAddr::new(e.addr, e.port);
        self.one
            .sessions()
            .find(|s| s.protocol == protocol && end(s.inside) == inside && end(s.remote) == remote)
    }

    /// How many packets were dropped for this reason.
    pub(crate) fn drops(&self, reason: DropReason) -> u64 {
        self.one.counters().dropped(reason)
    }

    /// All tables agree with each other.
    #[track_caller]
    pub(crate) fn validate(&self) {
        self.one.validate().unwrap();
        self.batch.validate().unwrap();
        assert_eq!(self.one.usage(), self.batch.usage());
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.validate();
        }
    }
}
