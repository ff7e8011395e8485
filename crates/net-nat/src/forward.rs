//! Published ports.

use core::net::IpAddr;

use crate::address::Endpoint;

/// An inside endpoint that anybody outside may call at an outside one.
///
/// Outbound packets of the inside endpoint leave from the outside one too, unless an earlier forward
/// or mapping has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Forward {
    /// IP protocol number: TCP, UDP, or another whole protocol (with ports 0).
    pub protocol: u8,
    /// Where it is published: an outside address of the engine.
    pub outside: Endpoint<IpAddr>,
    /// The guest's end.
    pub inside: Endpoint<IpAddr>,
}

/// Why a forward was not added or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// The two ends are of different families, or of one that is not translated.
    #[error("the two ends are not of one translated address family")]
    Family,
    /// The protocol has no ports, but one was given, or the other way round.
    #[error("the ports do not fit the protocol")]
    Ports,
    /// The protocol is one the engine does not translate, or ICMP, which has no services.
    #[error("the protocol is not translated, or has no services")]
    Protocol,
    /// The outside address is not one of the engine's.
    #[error("the outside address is not one of the translator's")]
    NotOurs,
    /// The inside address is in no inside network.
    #[error("the inside address is in no inside network")]
    NotInside,
    /// The outside port has a forward or a live mapping.
    #[error("the outside port is in use")]
    PortInUse,
    /// There is no room for another mapping or host.
    #[error("the table of mappings or hosts is full")]
    TableFull,
    /// There is no such forward.
    #[error("there is no such forward")]
    NotThere,
}
