//! What the framework reports, and what becomes of it.

use net_backend::NetworkBackend;

use super::{shared, start};
use crate::fake::{Fake, Script};
use crate::key::{Dictionary, Key, Value};
use crate::{InterfaceId, VmnetConfig};

#[test]
fn everything_that_is_reported_is_there() {
    let (_fake, vmnet) = shared(Script::default());
    let info = vmnet.info();
    assert_eq!(info.mac, Some("0a:d6:36:c1:ea:f3".parse().unwrap()));
    assert_eq!((info.mtu, info.max_packet_size), (1500, 1514));
    assert_eq!(info.gateway, Some([192, 168, 105, 1].into()));
    assert_eq!(info.dhcp_end, Some([192, 168, 105, 254].into()));
    assert_eq!(info.subnet_mask, Some([255, 255, 255, 0].into()));
    assert_eq!(info.interface_id, Some(InterfaceId([7; 16])));
    assert_eq!(
        info.nat66_prefix,
        Some("fd2d:1b24:620:47::".parse().unwrap())
    );
    assert_eq!(info.read_max_packets, Some(256));
    assert_eq!(info.write_max_packets, Some(255));
    assert_eq!(vmnet.max_packet_size(), 1514);
    let capabilities = vmnet.capabilities();
    assert_eq!(capabilities.mac, info.mac);
    assert_eq!((capabilities.mtu, capabilities.max_frame), (1500, 1514));
    assert_eq!(capabilities.queue_pairs, 1);
}

/// The MTU is that of the reply, not what the packets leave room for.
#[test]
fn an_mtu_below_the_packets() {
    let script = Script {
        reply: crate::fake::reply(1400, 1514),
        ..Script::default()
    };
    let (_fake, vmnet) = shared(script);
    assert_eq!((vmnet.info().mtu, vmnet.capabilities().mtu), (1400, 1400));
    assert_eq!(vmnet.max_packet_size(), 1514);
}

#[test]
fn nothing_reported() {
    let script = Script {
        reply: Dictionary::default(),
        ..Script::default()
    };
    let (_fake, vmnet) = shared(script);
    let info = vmnet.info();
    assert_eq!((info.mtu, info.max_packet_size), (1500, 1514));
    assert!(info.mac.is_none() && info.gateway.is_none() && info.dhcp_end.is_none());
    assert!(info.subnet_mask.is_none() && info.nat66_prefix.is_none());
    assert!(info.interface_id.is_none());
    assert!(info.read_max_packets.is_none() && info.write_max_packets.is_none());
}

/// Values of the wrong kind, and texts that cannot be read, count as not reported.
#[test]
fn nonsense_reported() {
    let mut reply = Dictionary::default();
    for key in [
        Key::MacAddress,
        Key::StartAddress,
        Key::EndAddress,
        Key::SubnetMask,
    ] {
        reply.set(key, Value::Text("here".to_owned()));
    }
    reply.set(Key::Nat66Prefix, Value::Number(64));
    reply.set(Key::InterfaceId, Value::Text("me".to_owned()));
    reply.set(Key::Mtu, Value::Flag(true));
    reply.set(Key::MaxPacketSize, Value::Number(u64::MAX));
    reply.set(Key::ReadMaxPackets, Value::Number(u64::MAX));
    let script = Script {
        reply,
        ..Script::default()
    };
    let (_fake, vmnet) = shared(script);
    let info = vmnet.info();
    assert!(info.mac.is_none() && info.gateway.is_none() && info.interface_id.is_none());
    assert_eq!(
        (info.mtu, info.max_packet_size),
        (1500, net_backend::MAX_FRAME)
    );
}

/// The guest's own hardware address counts, not the one that macOS makes up.
#[test]
fn the_guests_own_address() {
    let mac = "52:54:00:12:34:56".parse().unwrap();
    let fake = Fake::new();
    let vmnet = start(&fake, VmnetConfig::shared().with_mac(mac)).unwrap();
    assert_eq!(vmnet.capabilities().mac, Some(mac));
}

#[test]
fn an_interface_says_what_it_is() {
    let (_fake, vmnet) = shared(Script::default());
    let text = format!("{vmnet:?}");
    assert!(
        text.contains("192.168.105.1") && text.contains("running: true"),
        "{text}"
    );
}
