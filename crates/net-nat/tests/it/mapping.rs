//! Which outside endpoint stands for an inside one (RFC 4787, section 4).

use crate::lab::{BOTH, Lab, at, udp};

#[test]
fn rfc4787_req1_endpoint_independent_mapping() {
    for family in BOTH {
        let mut lab = Lab::of(family);
        let me = at(family.inside(2), 5000);
        let first = lab.map_udp(me, at(family.remote(1), 53));
        for n in 1..50 {
            assert_eq!(lab.map_udp(me, at(family.remote(n), 1000 + n)), first);
            assert_eq!(lab.map_udp(me, at(family.remote(1), 2000 + n)), first);
        }
        assert_eq!(first.ip(), family.outside(1));
        let answer = udp(at(family.remote(7), 1007), first, b"x");
        assert_eq!(lab.inn(answer).sent().dst(), me);
    }
}
