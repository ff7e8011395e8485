//! DHCPv4: any bytes to the server, to the client and to the lease file reader.
//!
//! The input is one message as it would follow the UDP header, so that a captured packet is a
//! good seed. It is also cut into several messages, to drive the server through histories.
#![no_main]

use std::net::Ipv4Addr;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use net_dhcp::client::{Client, ClientConfig, Output};
use net_dhcp::v4::codec::Message;
use net_dhcp::{Owner, Reservation, Server, ServerConfig, Snapshot};

/// A small network: the table fills, and addresses are contended for.
fn server() -> Server {
    let mut config = ServerConfig::new(Ipv4Addr::new(10, 0, 2, 1), 28);
    config.max_per_port = 4;
    config.check_source_mac = false;
    config.domain = Some("internal".into());
    config.search = vec!["internal".into(), "example.org".into()];
    config.mtu = Some(1500);
    let mut server = Server::new(config).expect("a valid configuration");
    let reservation = Reservation::new(Owner::Name("web".into()), Ipv4Addr::new(10, 0, 2, 9));
    server.reserve(reservation).expect("a free address");
    server
}

fn feed(server: &mut Server, port: u32, bytes: &[u8], now: Duration) {
    if let Some(reply) = server.handle(port, [2, 0, 0, 0, 0, 1], bytes, now) {
        assert!((300..=1472).contains(&reply.payload.len()));
        let request = Message::parse(bytes).expect("only messages are answered");
        let answer = Message::parse(&reply.payload).expect("replies are well formed");
        assert_eq!(answer.header.xid, request.header.xid);
        assert_eq!(answer.header.chaddr, request.header.chaddr);
    }
    server.assert_consistent();
}

fuzz_target!(|data: &[u8]| {
    let mut server = server();
    feed(&mut server, 0, data, Duration::ZERO);

    // Histories: each piece brings its own options behind a header that passes.
    if let Some((header, rest)) = data.split_first_chunk::<240>() {
        for (i, options) in rest.chunks(24).take(64).enumerate() {
            let mut message = *header;
            let salt = options.first().copied().unwrap_or(0);
            message[33] = salt & 3;
            let bytes = [&message[..], options].concat();
            feed(
                &mut server,
                u32::from(salt & 1),
                &bytes,
                Duration::from_secs(i as u64 * 20),
            );
            if salt == 0xfe {
                server.port_closed(0);
            }
        }
    }
    let snapshot = server.snapshot(Duration::from_secs(9999));
    assert_eq!(
        Snapshot::from_bytes(&snapshot.to_bytes()).as_ref(),
        Ok(&snapshot)
    );

    if let Ok(snapshot) = Snapshot::from_bytes(data) {
        server.restore(&snapshot, Duration::ZERO, Duration::from_secs(9999));
        server.assert_consistent();
    }

    let mac = [2, 0, 0, 0, 0, 1];
    let mut client = Client::new(ClientConfig::new(mac), 1);
    if let Some(Output::Send(discover)) = client.poll(Duration::ZERO) {
        let mut reply = data.to_vec();
        // The right transaction and hardware address, which no fuzzer finds by chance.
        if let (Some(to), Some(from)) = (reply.get_mut(4..8), discover.payload.get(4..8)) {
            to.copy_from_slice(from);
        }
        if let Some(to) = reply.get_mut(28..34) {
            to.copy_from_slice(&mac);
        }
        for message_type in [2, 5, 6] {
            // Option 53 comes first in most messages.
            if let Some([53, 1, kind]) = reply.get_mut(240..243) {
                *kind = message_type;
            }
            if let Some(op) = reply.first_mut() {
                *op = 2;
            }
            client.handle(&reply, Duration::from_secs(1));
            client.poll(Duration::from_secs(1));
        }
    }
});
