//! The tests themselves, by what plays the guest.

pub(super) mod another_kernel;
pub(super) mod command;
pub(super) mod control;
pub(super) mod daemon;
pub(super) mod ipv6;
pub(super) mod kernel;
pub(super) mod migration;
pub(super) mod tap;
pub(super) mod vhost_user;
pub(super) mod vm;

use super::Case;

/// Every test, in the order in which they run: quick ones first.
pub(super) fn all() -> impl Iterator<Item = &'static Case> {
    command::CASES
        .iter()
        .chain(daemon::CASES)
        .chain(control::CASES)
        .chain(ipv6::CASES)
        .chain(kernel::CASES)
        .chain(vm::CASES)
        .chain(tap::CASES)
        .chain(vhost_user::CASES)
        .chain(migration::CASES)
        .chain(another_kernel::CASES)
}
