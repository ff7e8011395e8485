//! Counters: one per message sent, one per reason to refuse.

use thiserror::Error;

/// Why a message got no answer. All are the sender's doing, save the last: a pool that is full
/// although every port keeps to its share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Not a DHCPv4 message, or one that lacks what its type requires.
    #[error("malformed message")]
    Malformed,
    /// A reply where only requests belong: another server, or a guest that plays one.
    #[error("not a request")]
    NotRequest,
    /// No option 53, or a type no server answers.
    #[error("unknown message type")]
    MessageType,
    /// `chaddr` is not a unicast address, or not the source of the frame.
    #[error("hardware address is not the sender's")]
    HardwareAddress,
    /// Client identifier longer than 255 bytes.
    #[error("client identifier too long")]
    ClientId,
    /// Forwarded by a relay from another network.
    #[error("relayed from another network")]
    Relay,
    /// Meant for another server.
    #[error("for another server")]
    OtherServer,
    /// RELEASE or DECLINE of an address that this client does not hold on this port.
    #[error("not the holder of the address")]
    NotHolder,
    /// INFORM from an address of another network.
    #[error("address of another network")]
    WrongNetwork,
    /// A client without a record, where the configuration says to stay silent.
    #[error("unknown client")]
    UnknownClient,
    /// The port already holds as many addresses as one port may.
    #[error("port holds its share of addresses")]
    PortQuota,
    /// No address is left.
    #[error("address pool exhausted")]
    PoolExhausted,
}

impl Refusal {
    /// Every reason, in the order of [`Stats::refusals`].
    pub const ALL: [Self; 12] = [
        Self::Malformed,
        Self::NotRequest,
        Self::MessageType,
        Self::HardwareAddress,
        Self::ClientId,
        Self::Relay,
        Self::OtherServer,
        Self::NotHolder,
        Self::WrongNetwork,
        Self::UnknownClient,
        Self::PortQuota,
        Self::PoolExhausted,
    ];
}

/// What a server has done since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Messages handed in.
    pub received: u64,
    /// OFFERs sent.
    pub offers: u64,
    /// ACKs of leases sent, first ones and renewals.
    pub acks: u64,
    /// ACKs of INFORM sent.
    pub informs: u64,
    /// NAKs sent.
    pub naks: u64,
    /// Leases given back.
    pub releases: u64,
    /// Addresses declined and quarantined.
    pub declines: u64,
    /// Leases that ran out.
    pub expiries: u64,
    /// Offers that nobody took up in time, or that gave way to a newer one of the same port.
    pub offers_lapsed: u64,
    /// Leases of ports long gone whose address was needed, the pool being full.
    pub reclaims: u64,
    /// Host names not granted because another guest has them or no guest may.
    pub name_conflicts: u64,
    /// Options left out because the reply would have exceeded what the client takes.
    pub options_left_out: u64,
    /// Events nobody fetched in time, see [`Server::poll_event`](super::Server::poll_event).
    pub events_lost: u64,
    refusals: [u64; Refusal::ALL.len()],
}

impl Stats {
    /// How often a message was refused for this reason.
    pub fn refused(&self, why: Refusal) -> u64 {
        self.refusals.get(why as usize).copied().unwrap_or(0)
    }

    /// Every reason with its count.
    pub fn refusals(&self) -> impl Iterator<Item = (Refusal, u64)> + '_ {
        Refusal::ALL.into_iter().map(|why| (why, self.refused(why)))
    }

    pub(super) fn count(&mut self, why: Refusal) {
        if let Some(counter) = self.refusals.get_mut(why as usize) {
            *counter += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter() {
        for (i, why) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, i);
            let mut stats = Stats::default();
            stats.count(why);
            let counted: Vec<_> = stats.refusals().filter(|&(_, n)| n > 0).collect();
            assert_eq!(counted, [(why, 1)]);
        }
    }
}
