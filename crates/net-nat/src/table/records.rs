//! The records of the tables, all of whose bytes may be zero.
//!
//! They hold integers, addresses (bytes, by [`Address`], which is sealed), and enumerations that
//! have a variant with the value 0; none needs a drop.

use super::region::Zeroable;
use crate::address::{Address, Endpoint};
use crate::contacts::Contact;
use crate::mapping::Mapping;
use crate::ports::Port;
use crate::session::Session;

// SAFETY: an address and a port.
unsafe impl<A: Address> Zeroable for Endpoint<A> {}
// SAFETY: addresses, integers, and a `Track`, which has a variant 0 of its state.
unsafe impl<A: Address> Zeroable for Session<A> {}
// SAFETY: addresses and integers.
unsafe impl<A: Address> Zeroable for Mapping<A> {}
// SAFETY: an address and integers.
unsafe impl<A: Address> Zeroable for Contact<A> {}
// SAFETY: integers.
unsafe impl Zeroable for Port {}
