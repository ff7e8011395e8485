//! Fragments: translated without being put together, cut for a smaller MTU, numbered anew.
//!
//! Only the first fragment of a datagram has ports (RFC 3022, section 6.3; RFC 4787, REQ-14).
//! When it is translated, the table records what becomes of its datagram, and the other fragments
//! are translated by that record: their addresses, and for IPv4 the identification; never their
//! payload. A fragment that comes before the first is copied and held until the first comes.
//! Nothing is reassembled, so nothing here depends on the sum of the pieces; overlaps, which were
//! the downfall of many a reassembly, are the receiver's to judge (RFC 5722, RFC 8200 section 4.5),
//! except where they would reach into the header that the translation was decided by.
//!
//! | part | what it does |
//! |---|---|
//! | `piece` | what a header says of its fragment, and whether that can be (RFC 791, 1858, 3128) |
//! | `table`, `store` | records and held fragments: bounded, with a share for each owner |
//! | [`fragments_v4`], [`Fragments`] | cut an IPv4 packet for an MTU (RFC 791, section 3.2) |
//! | `id` | identifications for packets that leave under a shared address (RFC 6864) |

mod config;
mod coverage;
mod cut;
mod id;
mod key;
mod owners;
mod piece;
mod refusal;
mod slots;
mod store;
mod table;

pub use config::FragmentConfig;
pub use cut::{CutError, Fragments, MIN_MTU, fragments_v4};
pub(crate) use id::Ipv4Id;
pub(crate) use key::FragmentKey;
pub(crate) use piece::{Kind, Piece};
pub use refusal::{FragmentCounters, FragmentRefusal};
pub(crate) use table::{FragmentTable, Later};
