//! Classless static routes (RFC 3442).

use std::net::Ipv4Addr;

use crate::v4::prefix_mask;

/// The most routes [`decode_routes`] returns; a server that sends more is not to be believed.
const MAX_ROUTES: usize = 64;

/// One route of option 121.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Destination network; bits past the prefix are ignored.
    pub destination: Ipv4Addr,
    /// 0 (default route) to 32.
    pub prefix_len: u8,
    /// Next hop; 0.0.0.0 means "on this link".
    pub gateway: Ipv4Addr,
}

/// The value of option 121. A prefix length past 32 counts as 32.
pub fn encode_routes(routes: &[Route]) -> Vec<u8> {
    let mut out = Vec::with_capacity(routes.len() * 9);
    for route in routes {
        let len = route.prefix_len.min(32);
        out.push(len);
        let network = (u32::from(route.destination) & prefix_mask(len)).to_be_bytes();
        // Only the significant bytes of the destination are sent.
        out.extend(network.iter().take(usize::from(len).div_ceil(8)));
        out.extend_from_slice(&route.gateway.octets());
    }
    out
}

/// Reads option 121; `None` if any entry is malformed, because a part of a routing table may be
/// worse than none. At most 64 routes are returned.
pub fn decode_routes(mut value: &[u8]) -> Option<Vec<Route>> {
    let mut routes = Vec::new();
    while let Some((&prefix_len, rest)) = value.split_first() {
        if prefix_len > 32 {
            return None;
        }
        let (significant, rest) = rest.split_at_checked(usize::from(prefix_len).div_ceil(8))?;
        let (&gateway, rest) = rest.split_first_chunk::<4>()?;
        let mut octets = [0u8; 4];
        for (to, from) in octets.iter_mut().zip(significant) {
            *to = *from;
        }
        if routes.len() < MAX_ROUTES {
            let network = u32::from_be_bytes(octets) & prefix_mask(prefix_len);
            routes.push(Route {
                destination: Ipv4Addr::from(network),
                prefix_len,
                gateway: Ipv4Addr::from(gateway),
            });
        }
        value = rest;
    }
    Some(routes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(d: [u8; 4], prefix_len: u8, g: [u8; 4]) -> Route {
        Route {
            destination: d.into(),
            prefix_len,
            gateway: g.into(),
        }
    }

    #[test]
    fn rfc3442_examples() {
        // The table of RFC 3442, page 5.
        for (d, len, wire) in [
            ([0, 0, 0, 0], 0, &[0u8][..]),
            ([10, 0, 0, 0], 8, &[8, 10]),
            ([10, 0, 0, 0], 24, &[24, 10, 0, 0]),
            ([10, 17, 0, 0], 16, &[16, 10, 17]),
            ([10, 27, 129, 0], 24, &[24, 10, 27, 129]),
            ([10, 229, 0, 128], 25, &[25, 10, 229, 0, 128]),
            ([10, 198, 122, 47], 32, &[32, 10, 198, 122, 47]),
        ] {
            let r = route(d, len, [192, 0, 2, 1]);
            let encoded = encode_routes(&[r]);
            assert_eq!(encoded, [wire, &[192, 0, 2, 1]].concat());
            assert_eq!(decode_routes(&encoded), Some(vec![r]));
        }
    }

    #[test]
    fn malformed_routes_are_refused_whole() {
        let good = encode_routes(&[route([10, 0, 0, 0], 8, [1, 2, 3, 4])]);
        for cut in 1..good.len() {
            assert_eq!(decode_routes(&good[..cut]), None);
        }
        assert_eq!(decode_routes(&[33, 1, 2, 3, 4, 5, 6, 7, 8, 9]), None);
        assert_eq!(decode_routes(&[0u8; 5 * 200]).unwrap().len(), MAX_ROUTES);
    }
}
