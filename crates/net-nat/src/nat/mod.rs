//! The tables of one address family, and what is done with them.
//!
//! | file | what happens there |
//! |---|---|
//! | `fast` | the packets nearly all packets are: TCP and UDP of a session that exists |
//! | `lookup` | where that session is |
//! | `outbound`, `inbound` | all others, by direction |
//! | `slow` | what those two share: reading any packet, translating one by its session |
//! | `map`, `open`, `close` | mappings and sessions come and go |
//! | `icmp`, `fragments` | errors, and packets in pieces |
//! | `unsolicited` | SYNs from the outside that nobody asked for |
//! | `forwards` | mappings made by order |
//! | `validate` | whether all tables agree, for tests |

mod close;
pub(crate) mod common;
pub(crate) mod fast;
mod forwards;
mod fragments;
mod icmp;
mod inbound;
pub(crate) mod lookup;
mod map;
mod open;
mod outbound;
mod slow;
pub(crate) mod snapshot;
mod unsolicited;
mod validate;
mod view;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::cache::Cache;
use crate::config::{ConfigError, Dependence, FamilyConfig};
use crate::contacts::Contacts;
use crate::external::Externals;
use crate::family::Family;
use crate::fragment::FragmentTable;
use crate::hosts::Hosts;
use crate::mapping::Mappings;
use crate::prefix::Prefix;
use crate::session::Session;
use crate::steering::FamilySteering;
use crate::table::{Index, NONE, Slab};
use crate::wheel::Wheel;

use common::Common;
use fragments::Translation;
use lookup::{Coming, Scratch};
use open::Pending;
use unsolicited::Unsolicited;

/// Packets that a batch works on at once.
pub(crate) const BATCH: usize = 64;

/// The tables of one family.
pub(crate) struct Nat<F: Family> {
    sessions: Slab<Session<F::Addr>>,
    /// Sessions by what the inside sends.
    index: Index,
    /// By what the outside sends, those that their mapping's port does not tell: of mappings with
    /// several sessions, and of protocols without ports.
    shared: Index,
    wheel: Wheel,
    mappings: Mappings<F::Addr>,
    /// Mappings without sessions, until their ports may be used again.
    resting: Wheel,
    externals: Externals<F::Addr>,
    hosts: Hosts<F::Addr>,
    /// Where a filter depends on the address.
    contacts: Option<Contacts<F::Addr>>,
    fragments: FragmentTable<F::Addr, Translation<F::Addr>>,
    unsolicited: Unsolicited<F::Addr>,
    /// The last second in which all that was over has been ended.
    looked_at: u32,
    steering: FamilySteering<F::Addr>,
    inside: Vec<Prefix<F::Addr>>,
    cache: Cache,
    /// Within a batch, its packets without a session that have got no further.
    coming: VecDeque<Coming<F::Addr>>,
    /// Taken away while a batch is at work.
    scratch: Option<Box<[Scratch; BATCH]>>,
    /// Within a batch, what its new sessions have still to be entered in.
    pending: Vec<Pending>,
    in_batch: bool,
}

impl<F: Family> Nat<F> {
    /// Empty tables; the configuration has been checked.
    pub(crate) fn new(
        family: &FamilyConfig<F::Addr>,
        common: &Common,
    ) -> Result<Self, ConfigError> {
        let config = &common.config;
        let limits = &config.limits;
        let sessions = limits.sessions;
        let mappings = match limits.mappings {
            0 => sessions,
            mappings => mappings,
        };
        let protocols = [config.udp, config.tcp, config.icmp];
        let dependent = protocols
            .iter()
            .any(|p| p.mapping != Dependence::EndpointIndependent);
        let by_address = protocols
            .iter()
            .any(|p| p.filtering == Dependence::AddressDependent);
        let memory = |entries| move || ConfigError::OutOfMemory(entries);
        Ok(Self {
            sessions: Slab::new(sessions).ok_or_else(memory(sessions))?,
            index: Index::new(sessions).ok_or_else(memory(sessions))?,
            shared: Index::new(sessions).ok_or_else(memory(sessions))?,
            wheel: Wheel::new(common.tick),
            mappings: Mappings::new(mappings, dependent).ok_or_else(memory(mappings))?,
            resting: Wheel::new(common.tick),
            externals: Externals::new(family, config.shard, config.port_parity, &config.seed),
            hosts: Hosts::new(limits.hosts, common.keys).ok_or_else(memory(limits.hosts))?,
            contacts: if by_address {
                Some(Contacts::new(sessions).ok_or_else(memory(sessions))?)
            } else {
                None
            },
            fragments: FragmentTable::new(limits.fragments, &config.seed),
            unsolicited: Unsolicited::new(limits.unsolicited),
            looked_at: NONE,
            steering: FamilySteering::new(Some(family), config.shard, common.keys, &config.seed),
            inside: family.inside.clone(),
            cache: Cache::new(),
            coming: VecDeque::with_capacity(BATCH),
            scratch: Some(Box::new([Scratch::EMPTY; BATCH])),
            pending: Vec::with_capacity(BATCH),
            in_batch: false,
        })
    }

    /// Whether an address is one of the guests'.
    fn is_inside(&self, addr: F::Addr) -> bool {
        self.inside.iter().any(|prefix| prefix.contains(addr))
    }
}
