//! When advertisements are sent (RFC 4861, sections 6.2.4 to 6.2.6).
//!
//! Theory of operation: there is one time for the next advertisement to all nodes. A solicitation
//! brings it forward, to a random moment within half a second, but not to less than three seconds
//! after the last one: however many hosts ask, and however often, the link sees one every three
//! seconds. A host that asks within those three seconds is answered alone, if it has an address,
//! so that a machine that starts just after another one does not wait; each client of the caller
//! (a switch port) has at most one such answer pending.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Duration;

use super::{RaConfig, RaConfigError, Solicitation, SolicitationError, State, message};

/// RFC 4861, section 10: `MAX_RA_DELAY_TIME`, in milliseconds.
const MAX_DELAY_MS: u64 = 500;
/// `MIN_DELAY_BETWEEN_RAS`.
const MIN_DELAY_BETWEEN: Duration = Duration::from_secs(3);
/// `MAX_INITIAL_RTR_ADVERTISEMENTS`.
const INITIAL: u8 = 3;
/// `MAX_INITIAL_RTR_ADVERT_INTERVAL`.
const INITIAL_INTERVAL: Duration = Duration::from_secs(16);
/// Answers to single hosts that may be pending, over all clients.
const MAX_UNICAST: usize = 1024;

/// Where an advertisement goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// To [`super::ALL_NODES`].
    AllNodes,
    /// To one host that asked.
    Host {
        /// The caller's number of the client.
        client: u32,
        /// The host's address.
        address: Ipv6Addr,
    },
}

/// An advertisement to send now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertisement {
    /// Where to.
    pub to: Destination,
    /// The ICMPv6 message, as [`message`] makes it.
    pub message: Vec<u8>,
}

/// Counters of an [`Advertiser`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RaStats {
    /// Valid solicitations.
    pub solicitations: u64,
    /// Invalid ones, ignored.
    pub invalid: u64,
    /// Valid ones that an advertisement already on its way will answer.
    pub joined: u64,
    /// Advertisements to all nodes.
    pub to_all: u64,
    /// Advertisements to one host.
    pub to_one: u64,
}

/// Says when to send which advertisement.
#[derive(Debug, Clone)]
pub struct Advertiser {
    config: RaConfig,
    /// When the next one to all nodes is due; `None` while it is not a router.
    next: Option<Duration>,
    last: Option<Duration>,
    /// Advertisements after the start that follow each other faster.
    initial: u8,
    /// Answers to single hosts, by client.
    unicast: BTreeMap<u32, (Duration, Ipv6Addr)>,
    random: u64,
    stats: RaStats,
}

impl Advertiser {
    /// An advertiser that is silent until [`Self::start`]. `seed` spreads its delays; routers on one
    /// link should have different ones.
    ///
    /// # Errors
    /// What in `config` is out of range.
    pub fn new(config: RaConfig, seed: u64) -> Result<Self, RaConfigError> {
        config.validate()?;
        Ok(Self {
            config,
            next: None,
            last: None,
            initial: 0,
            unicast: BTreeMap::new(),
            random: seed,
            stats: RaStats::default(),
        })
    }

    /// What is advertised.
    pub fn config(&self) -> &RaConfig {
        &self.config
    }

    /// The counters.
    pub fn stats(&self) -> RaStats {
        self.stats
    }

    /// Begins to advertise.
    pub fn start(&mut self, now: Duration) {
        self.initial = INITIAL;
        self.next = Some(now.saturating_add(self.delay()).max(self.earliest()));
    }

    /// Ends it. The result is the last word: send it at once, so that hosts look for another
    /// router. `None` where nothing was ever advertised.
    #[must_use = "hosts keep a router that ends in silence"]
    pub fn stop(&mut self) -> Option<Advertisement> {
        self.unicast.clear();
        self.next.take()?;
        self.last?;
        self.stats.to_all += 1;
        Some(Advertisement {
            to: Destination::AllNodes,
            message: message(&self.config, State::Ceasing),
        })
    }

    /// Becomes a default router for `lifetime`, or none with zero, and tells everybody soon.
    ///
    /// # Errors
    /// [`RaConfigError::RouterLifetime`]; the old one stays then.
    pub fn set_router_lifetime(
        &mut self,
        lifetime: Duration,
        now: Duration,
    ) -> Result<(), RaConfigError> {
        let old = std::mem::replace(&mut self.config.router_lifetime, lifetime);
        if let Err(error) = self.config.validate() {
            self.config.router_lifetime = old;
            return Err(error);
        }
        if old != lifetime {
            self.announce(now);
        }
        Ok(())
    }

    /// Advertises soon, within the limits: a host may have come that does not ask.
    pub fn announce(&mut self, now: Duration) {
        let due = now.saturating_add(self.delay()).max(self.earliest());
        self.next = self.next.map(|next| next.min(due));
    }

    /// Takes a solicitation: an ICMPv6 message from its type on, with a right checksum, that
    /// `client` sent from `source`. `client` is any number that stands for who is to be held to
    /// its share, such as a switch port; `hop_limit` is that of the IPv6 header.
    ///
    /// # Errors
    /// Why it was ignored.
    pub fn solicited(
        &mut self,
        client: u32,
        source: Ipv6Addr,
        hop_limit: u8,
        message: &[u8],
        now: Duration,
    ) -> Result<Solicitation, SolicitationError> {
        let solicitation = Solicitation::parse(source, hop_limit, message)
            .inspect_err(|_| self.stats.invalid += 1)?;
        self.stats.solicitations += 1;
        let Some(next) = self.next else {
            return Ok(solicitation);
        };
        let due = now.saturating_add(self.delay());
        let earliest = self.earliest();
        let pending = self.unicast.get(&client).map(|(_, address)| *address);
        if next <= due || pending == Some(source) {
            self.stats.joined += 1;
        } else if due >= earliest {
            self.next = Some(due);
        } else if pending.is_none() && !source.is_unspecified() && self.unicast.len() < MAX_UNICAST
        {
            self.unicast.insert(client, (due, source));
        } else {
            self.next = Some(next.min(earliest));
        }
        Ok(solicitation)
    }

    /// Forgets the answer that waits for a client who is gone.
    pub fn forget(&mut self, client: u32) {
        self.unicast.remove(&client);
    }

    /// When [`Self::poll`] has something to send.
    pub fn next_deadline(&self) -> Option<Duration> {
        let single = self.unicast.values().map(|(due, _)| *due).min();
        self.next.into_iter().chain(single).min()
    }

    /// The next advertisement that is due at `now`; call it until it returns `None`.
    pub fn poll(&mut self, now: Duration) -> Option<Advertisement> {
        let to = if self.next? <= now {
            self.last = Some(now);
            self.next = Some(now.saturating_add(self.interval()));
            // Who waits for an answer of its own has got this one.
            self.unicast.clear();
            self.stats.to_all += 1;
            Destination::AllNodes
        } else {
            let (&client, _) = self.unicast.iter().find(|(_, (due, _))| *due <= now)?;
            let (_, address) = self.unicast.remove(&client)?;
            self.stats.to_one += 1;
            Destination::Host { client, address }
        };
        Some(Advertisement {
            to,
            message: message(&self.config, State::Advertising),
        })
    }

    /// When the link may see the next advertisement to all.
    fn earliest(&self) -> Duration {
        self.last
            .map_or(Duration::ZERO, |last| last + MIN_DELAY_BETWEEN)
    }

    /// Until the next unsolicited advertisement: anywhere between least and most, so that routers do
    /// not fall into step.
    fn interval(&mut self) -> Duration {
        let (least, most) = (self.config.min_interval, self.config.max_interval);
        let spread = (most - least).as_millis() as u64;
        let interval = least + Duration::from_millis(self.random() % (spread + 1));
        if self.initial == 0 {
            return interval;
        }
        self.initial -= 1;
        interval.min(INITIAL_INTERVAL)
    }

    fn delay(&mut self) -> Duration {
        Duration::from_millis(self.random() % (MAX_DELAY_MS + 1))
    }

    /// SplitMix64: spreads delays, hides nothing.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.random;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
}
