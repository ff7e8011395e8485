//! Which addresses a network has, and that it shares none with the host.

use super::{config, create, host, networks, publish6};
use crate::config::{NetworkConfig, NetworkMode};
use crate::kernel::ops::KernelOps;

#[test]
fn a_subnet_that_the_host_is_in_is_refused() {
    let (fake, root) = (host(), tempfile::tempdir().unwrap());
    for subnet in ["192.0.2.0/25", "192.0.0.0/16", "192.0.2.8/29"] {
        let config = NetworkConfig {
            subnet: subnet.parse().unwrap(),
            ..config("blue", NetworkMode::Nat)
        };
        let error = create(&fake, &config, root.path()).unwrap_err().to_string();
        assert!(error.contains("eth0"), "{subnet}: {error}");
    }
    let blue = create(&fake, &config("blue", NetworkMode::Nat), root.path()).unwrap();
    let error = create(&fake, &config("red", NetworkMode::HostOnly), root.path()).unwrap_err();
    assert!(error.to_string().contains("ab-blue"), "{error}");
    drop(blue);
    assert!(networks(root.path()).is_empty());
}

/// A prefix that the host is in already is refused, as a subnet is.
#[test]
fn a_prefix_that_the_host_is_in_is_refused() {
    let (fake, root) = (host(), tempfile::tempdir().unwrap());
    let mut asked = config("blue", NetworkMode::Nat);
    asked.subnet6 = Some("2001:db8::/64".parse().unwrap());
    let error = create(&fake, &asked, root.path()).unwrap_err().to_string();
    assert!(
        error.contains("2001:db8::") && error.contains("eth0"),
        "{error}"
    );
    for bad in ["fd00::/48", "fe80::/64"] {
        asked.subnet6 = Some(bad.parse().unwrap());
        assert!(create(&fake, &asked, root.path()).is_err(), "{bad}");
    }
}

/// A host without IPv6 has networks without it, which say why.
#[test]
fn no_ipv6_without_the_hosts() {
    let (fake, root) = (host(), tempfile::tempdir().unwrap());
    fake.change_world(|world| {
        let path = "net/ipv6/conf/default/disable_ipv6";
        world.settings.insert(path.into(), "1".into());
    });
    let before = fake.world();
    let network = create(&fake, &config("blue", NetworkMode::Nat), root.path()).unwrap();
    assert_eq!(network.no_ipv6(), Some("a test forbids it"));
    let world = fake.world();
    assert_eq!(world.settings["net/ipv6/conf/all/forwarding"], "0");
    assert!(world.addresses("ab-blue").iter().all(|it| it.is_ipv4()));
    assert_eq!(world.rules["blue"].subnet6, None);
    let error = network.forward(&publish6()).unwrap_err().to_string();
    assert!(error.contains("a test forbids it"), "{error}");
    network.destroy().unwrap();
    assert_eq!(fake.world(), before);
    let off = NetworkConfig {
        ipv6: false,
        ..config("blue", NetworkMode::HostOnly)
    };
    let network = create(&host(), &off, root.path()).unwrap();
    assert!(network.no_ipv6().unwrap().contains("switched off"));
}
