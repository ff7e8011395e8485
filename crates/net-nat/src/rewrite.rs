//! Changing one end of a packet.

use net_wire::checksum::Delta;
use net_wire::ip_proto;

use crate::address::Endpoint;
use crate::family::Family;

/// Which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Destination,
}

/// The changes of the two checksums.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deltas {
    /// Of the addresses.
    pub(crate) l3: Delta,
    /// Of all that the transport checksum covers.
    pub(crate) l4: Delta,
}

impl Deltas {
    /// What the way back changes.
    #[inline(always)]
    pub(crate) fn inverse(self) -> Self {
        Self {
            l3: self.l3.inverse(),
            l4: self.l4.inverse(),
        }
    }
}

/// The changes that putting one endpoint in the place of another makes, of which `l3` is that of the
/// address.
#[inline(always)]
pub(crate) fn deltas<F: Family>(protocol: u8, l3: Delta, (old, new): (u16, u16)) -> Deltas {
    let port = Delta::new16(old, new);
    let l4 = match protocol {
        ip_proto::TCP | ip_proto::UDP => l3.plus(port),
        icmp if icmp == F::ICMP && F::ICMP_COVERS_ADDRESSES => l3.plus(port),
        icmp if icmp == F::ICMP => port,
        _ => Delta::ZERO,
    };
    Deltas { l3, l4 }
}

/// Writes `to` over one end of the packet, whose transport header begins at `l4`, and patches the
/// checksums. With `partial`, the transport checksum is the sum of the pseudo header only, to which
/// ports do not belong.
#[inline(always)]
pub(crate) fn rewrite<F: Family>(
    head: &mut [u8],
    l4: usize,
    protocol: u8,
    end: End,
    to: Endpoint<F::Addr>,
    deltas: Deltas,
    partial: bool,
) {
    let (addr_at, port_at) = match end {
        End::Source => (F::SRC, 0),
        End::Destination => (F::SRC + size_of::<F::Addr>(), 2),
    };
    F::put_addr(head, addr_at, to.addr);
    F::patch_header(head, deltas.l3);
    let Some(transport) = head.get_mut(l4..) else {
        return;
    };
    match protocol {
        ip_proto::TCP => {
            if let Some(header) = transport.first_chunk_mut::<18>() {
                put16(header, port_at, to.port);
                let sum = get16(header, 16);
                let sum = if partial {
                    deltas.l3.apply_partial(sum)
                } else {
                    deltas.l4.apply(sum)
                };
                put16(header, 16, sum);
            }
        }
        ip_proto::UDP => {
            if let Some(header) = transport.first_chunk_mut::<8>() {
                put16(header, port_at, to.port);
                let sum = get16(header, 6);
                let sum = if partial {
                    deltas.l3.apply_partial(sum)
                } else {
                    deltas.l4.apply_udp(sum)
                };
                put16(header, 6, sum);
            }
        }
        icmp if icmp == F::ICMP => {
            if let Some(header) = transport.first_chunk_mut::<8>() {
                put16(header, 4, to.port);
                let sum = get16(header, 2);
                let sum = if partial {
                    deltas.l3.apply_partial(sum)
                } else {
                    deltas.l4.apply(sum)
                };
                put16(header, 2, sum);
            }
        }
        _ => {}
    }
}

/// Writes an address alone: of a fragment without a transport header, or of a protocol without
/// ports.
pub(crate) fn rewrite_addr<F: Family>(head: &mut [u8], end: End, to: F::Addr, l3: Delta) {
    let at = match end {
        End::Source => F::SRC,
        End::Destination => F::SRC + size_of::<F::Addr>(),
    };
    F::put_addr(head, at, to);
    F::patch_header(head, l3);
}

#[inline(always)]
fn get16<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[inline(always)]
fn put16<const N: usize>(bytes: &mut [u8; N], at: usize, value: u16) {
    let [high, low] = value.to_be_bytes();
    bytes[at] = high;
    bytes[at + 1] = low;
}
