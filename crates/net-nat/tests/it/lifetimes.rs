//! What is over is over, also where nobody has called `expire`.

use net_nat::DropReason;
use net_nat::config::Dependence;

use crate::lab::{BOTH, Lab, at, secs, udp};

#[test]
fn a_mapping_that_goes_while_it_is_called_admits_nobody() {
    for family in BOTH {
        let mut lab = Lab::with(family, |config| {
            config.udp.filtering = Dependence::EndpointIndependent;
            config.timeouts.port_hold = secs(0);
        });
        let (guest, server) = (at(family.inside(1), 1000), at(family.remote(1), 53));
        let outside = lab.map_udp(guest, server);
        // Over, but still in the table: the call itself clears it away, and the mapping with it.
        lab.wait(secs(400));
        let stranger = at(family.remote(2), 99);
        assert_eq!(lab.call_udp(stranger, outside), Err(DropReason::NoMapping));
        lab.validate();
        assert_eq!(lab.engine().usage().sessions, 0);
    }
}

#[test]
fn the_table_empties_as_it_fills_without_a_call_of_expire() {
    for family in BOTH {
        let mut lab = Lab::with(family, |config| {
            config.limits.sessions = 100;
            config.timeouts.port_hold = secs(0);
        });
        let server = at(family.remote(1), 53);
        for port in 0..1000 {
            // Ten a minute, each of which lives for five.
            lab.wait(secs(6));
            let done = lab.out(udp(at(family.inside(1), 2000 + port), server, b""));
            assert!(done.is_sent(), "{done:?}");
        }
        assert!(lab.engine().usage().sessions <= 52);
    }
}
