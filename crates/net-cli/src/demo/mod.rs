//! `arcbox-net demo`: every part at work, line by line, without root and without an outside
//! network.

mod guest;
mod servers;

use std::io::{self, BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use net_manager::{NetworkConfig, NetworkManager, Protocol, PublishedPort, mac_for};

pub(crate) use self::guest::guest;
use self::guest::{LISTENING, PUBLISHED_PORT};
use crate::output::say;

/// How to attach what people run, for the end of the demo.
const ATTACH: &str = "\
Attach a virtual machine to a network of its own:

  QEMU              arcbox-net qemu -- qemu-system-x86_64 ...
    or, by socket   arcbox-net up --qemu-stream /tmp/vm.sock
                    qemu-system-x86_64 ... -netdev stream,id=n0,addr.type=unix,addr.path=/tmp/vm.sock \\
                                           -device virtio-net-pci,netdev=n0
  libkrun, vfkit    arcbox-net up --vfkit /tmp/vm.sock
                    vfkit ... --device virtio-net,unixSocketPath=/tmp/vm.sock
                    krunkit ... --device virtio-net,unixSocketPath=/tmp/vm.sock
  Cloud Hypervisor  arcbox-net run -- sh -c 'ATTACH_TAP; exec cloud-hypervisor ... --net tap=vm0'
  Firecracker       arcbox-net run -- sh -c 'ATTACH_TAP; exec firecracker --config-file vm.json'
                    ATTACH_TAP: ip addr flush dev eth0; ip link add br0 type bridge;
                                ip tuntap add vm0 mode tap; ip link set eth0 master br0;
                                ip link set vm0 master br0; ip link set br0 up; ip link set vm0 up
  a command         arcbox-net run -- sh -c 'ip addr; ping -c1 gateway.internal'
";

/// Runs the demo; success only if every line held.
pub(crate) fn demo() -> ExitCode {
    match show() {
        Ok(true) => {
            say(format_args!("\nEvery line held.\n\n{ATTACH}"));
            ExitCode::SUCCESS
        }
        Ok(false) => {
            say(format_args!(
                "\nNot every line held; `arcbox-net doctor` says what this machine can do."
            ));
            ExitCode::FAILURE
        }
        Err(why) => {
            eprintln!("arcbox-net: {why}");
            ExitCode::FAILURE
        }
    }
}

fn show() -> Result<bool, String> {
    if let Err(why) = crate::namespace::probe() {
        return Err(format!(
            "the demo needs a network namespace, and this machine refuses one: {why}"
        ));
    }
    let servers = servers::start().map_err(|err| format!("cannot listen on 127.0.0.1: {err}"))?;
    let mut config = NetworkConfig::default();
    config.name = "demo".to_owned();
    config.host_loopback = true;
    config.dns = vec![servers.dns];
    config.publish = vec![PublishedPort {
        protocol: Protocol::Tcp,
        bind: (Ipv4Addr::LOCALHOST, 0).into(),
        guest: None,
        guest_port: PUBLISHED_PORT,
    }];
    let (subnet, mtu) = (config.subnet, config.mtu);
    let manager = NetworkManager::new(config);
    manager.start().map_err(|err| err.to_string())?;
    line(
        true,
        "network",
        &format!("NAT {subnet}, MTU {mtu}, no privileges"),
    );

    let mac = mac_for("demo", "guest1");
    let arguments = [
        mac.to_string(),
        servers.http.to_string(),
        servers.bulk.to_string(),
    ];
    let mut guest = crate::namespace::spawn_demo_guest(&manager, mac, &arguments, Stdio::piped())?;
    line(
        true,
        "guest",
        "a Linux network stack in a namespace of its own, on a TAP",
    );

    let published = manager.published().first().map(|port| port.address);
    let output = guest
        .streams()
        .stdout
        .take()
        .ok_or("the guest has no output")?;
    let mut held = true;
    let mut reached = Ok(String::new());
    for text in BufReader::new(output).lines() {
        let text = text.map_err(|err| format!("the guest: {err}"))?;
        if text == LISTENING {
            reached = reach(published);
            continue;
        }
        let mut parts = text.splitn(3, '\t');
        let (verdict, what) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let details = parts.next().unwrap_or("");
        held &= verdict == "ok";
        line(verdict == "ok", what, details);
    }
    match reached {
        Ok(said) => line(true, "seen from outside", &said),
        Err(why) => {
            held = false;
            line(false, "seen from outside", &why);
        }
    }
    let status = guest.wait().map_err(|err| format!("the guest: {err}"))?;
    manager.stop();
    Ok(held && status.success())
}

/// Connects to the published port as anybody on the host could.
fn reach(published: Option<SocketAddr>) -> Result<String, String> {
    let address = published.ok_or("no port was published")?;
    let fetch = || -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    match fetch() {
        Ok(text) if text == "hello from the guest" => Ok(format!("{address} says `{text}`")),
        Ok(text) => Err(format!("{address} says `{text}`")),
        Err(err) => Err(format!("{address}: {err}")),
    }
}

fn line(ok: bool, what: &str, details: &str) {
    let mark = if ok { "ok" } else { "FAIL" };
    say(format_args!("  {mark:<5} {what:<18} {details}"));
}
