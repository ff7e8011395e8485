//! Published ports: forwards of the translator, added and removed while it works.

use std::net::{IpAddr, SocketAddr};

use net_nat::{Direction, Endpoint, ForwardError};
use net_usernet::{Forward, Protocol, PublishError};
use net_wire::ip_proto;

use super::PacketUplink;
use crate::error::ManagerError;

/// Ports that are tried when any will do: the dynamic ones (RFC 6335, section 6).
const DYNAMIC: std::ops::RangeInclusive<u16> = 49_152..=65_535;

/// A forward of the translator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::worker) struct Published {
    protocol: u8,
    outside: Endpoint<IpAddr>,
}

impl PacketUplink {
    /// Makes a port of the outside address lead to a guest, which sees its clients' own addresses.
    ///
    /// # Errors
    /// [`ManagerError::NotOutside`] for any other address of the host, [`ManagerError::NoAddress6`]
    /// where none of the guest is known, [`ManagerError::Publish`] where the port is taken.
    pub(in crate::worker) fn publish(
        &mut self,
        forward: &Forward,
    ) -> Result<(Published, SocketAddr), ManagerError> {
        let Forward {
            protocol,
            bind,
            guest,
        } = *forward;
        let outside = match (bind.ip(), self.config.outside6) {
            (IpAddr::V6(_), Some(outside)) => IpAddr::V6(outside.ip()),
            _ => IpAddr::V4(self.config.outside.ip()),
        };
        let is_any = bind.ip().is_unspecified() && bind.is_ipv6() == outside.is_ipv6();
        if bind.ip() != outside && !is_any {
            return Err(ManagerError::NotOutside { bind, outside });
        }
        match guest.ip() {
            IpAddr::V4(guest) if outside.is_ipv6() => {
                return Err(ManagerError::NoAddress6 { bind, guest });
            }
            ip if ip == IpAddr::V4(self.gateway) => return Err(bad_guest(forward)),
            _ => {}
        }
        let number = match protocol {
            Protocol::Tcp => ip_proto::TCP,
            Protocol::Udp => ip_proto::UDP,
        };
        let candidates = match bind.port() {
            0 => DYNAMIC,
            port => port..=port,
        };
        for port in candidates {
            let added = self.nat.add_forward(net_nat::Forward {
                protocol: number,
                outside: Endpoint::new(outside, port),
                inside: Endpoint::new(guest.ip(), guest.port()),
            });
            match added {
                Ok(()) => {
                    let published = Published {
                        protocol: number,
                        outside: Endpoint::new(outside, port),
                    };
                    return Ok((published, SocketAddr::new(outside, port)));
                }
                Err(ForwardError::PortInUse) => {}
                Err(ForwardError::NotInside | ForwardError::Family | ForwardError::Ports) => {
                    return Err(bad_guest(forward));
                }
                Err(err) => return Err(ManagerError::Translator(err.to_string())),
            }
        }
        Err(PublishError::PortTaken { protocol, bind }.into())
    }

    /// Takes a published port back, and what came in by it ends: a client's packet is then one that
    /// nobody asked for. A guest that has something left to say opens the connection again, because its
    /// mapping rests for a while and goes on with the same outside port (RFC 4787, REQ-1).
    pub(in crate::worker) fn unpublish(&mut self, published: Published) {
        let Published { protocol, outside } = published;
        if let Err(err) = self.nat.remove_forward(protocol, outside) {
            log::error!("published port {}: {err}", outside.port);
        }
        self.nat.close_sessions(|session| {
            session.opened_by == Direction::Inbound
                && session.protocol == protocol
                && session.outside == outside
        });
    }
}

fn bad_guest(forward: &Forward) -> ManagerError {
    let Forward {
        protocol,
        bind,
        guest,
    } = *forward;
    PublishError::BadGuest {
        protocol,
        bind,
        guest,
    }
    .into()
}
