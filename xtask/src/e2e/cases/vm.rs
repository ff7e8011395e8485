//! Linux guests under QEMU, over each kind of socket.

use std::path::Path;
use std::time::Duration;

use super::command::TRANSFER;
use super::daemon::{Daemon, ticks_over};
use crate::Result;
use crate::e2e::body::{Body, sha256};
use crate::e2e::serve::{DIGEST_PORT, dns};
use crate::e2e::vm::{Vm, field};
use crate::e2e::world::{HOST, OUTSIDE, World};
use crate::e2e::{Case, Checks, Context, ensure};

const GROUP: &str = "e2e vm";

pub(in crate::e2e) const CASES: &[Case] = &[
    Case::new(GROUP, "vm_stream", |c, k| session(c, k, "--qemu-stream")),
    Case::new(GROUP, "vm_dgram", |c, k| session(c, k, "--qemu-dgram")),
    // QEMU's datagrams are what vfkit sends behind its greeting.
    Case::new(GROUP, "vm_vfkit", |c, k| session(c, k, "--vfkit")),
    Case::new(GROUP, "vm_two_guests", two_guests),
    Case::new(GROUP, "vm_killed_in_mid_flow", killed_in_mid_flow),
    Case::new(GROUP, "vm_under_qemu_command", under_qemu_command),
];

/// Time for something small, on a guest in software emulation.
const SHORT: Duration = Duration::from_secs(20);
/// Time for 64 MiB likewise.
const LONG: Duration = Duration::from_secs(180);

/// What QEMU's `-netdev` says for a socket of this kind.
fn netdev(kind: &str, path: &Path) -> String {
    let path = path.display();
    match kind {
        "--qemu-dgram" | "--vfkit" => format!(
            "dgram,id=n0,local.type=unix,local.path={path}.guest,remote.type=unix,remote.path={path}"
        ),
        _ => format!("stream,id=n0,addr.type=unix,addr.path={path}"),
    }
}

/// Everything one guest does on one network.
fn session(context: &Context, checks: &mut Checks, kind: &str) {
    let world = &context.world;
    let image = match context.image() {
        Ok(image) => image,
        Err(why) => return checks.skip(why),
    };
    let publish = format!("{HOST}:8090:80");
    let started = checks.step("the network is up", || {
        Daemon::start(world, &["-p", &publish], &[kind])
    });
    let Some(mut daemon) = started else { return };
    checks.log(&daemon.log);
    let net = netdev(kind, &daemon.paths[0]);
    let booted = checks.step("boot", || {
        Vm::boot(image, &world.dir, kind.trim_start_matches('-'), 1, &net)
    });
    let Some(mut vm) = booted else { return };
    let Some(lease) = checks.step("lease", || whole_lease(&mut vm)) else {
        return;
    };
    let router = field(&lease, "router").unwrap_or_default();
    checks.step("ping the gateway", || {
        vm.check(&format!("ping -c3 -W2 {router}"), SHORT)
    });
    names(&mut vm, checks, world);
    checks.step("ping outside", || {
        vm.check(&format!("ping -c2 -W2 {OUTSIDE}"), SHORT)
    });
    refused(&mut vm, checks);
    transfers(&mut vm, checks);
    published(&mut vm, checks, world, HOST);
    checks.step("an idle guest costs no measurable CPU", || {
        std::thread::sleep(Duration::from_secs(1));
        let used = ticks_over(&daemon.proc)?;
        ensure(used <= 1, || format!("{used} ticks in 5 s"))
    });
    checks.step("the network is still up", || {
        ensure(daemon.proc.alive(), || {
            format!("it ended: {}", daemon.proc.output())
        })
    });
}

/// Asks for a lease and checks that it has everything a guest needs.
fn whole_lease(vm: &mut Vm) -> Result<String> {
    let lease = vm.lease("alpha")?;
    for wanted in ["ip", "mask", "router", "dns", "domain", "lease", "server"] {
        ensure(field(&lease, wanted).is_some(), || {
            format!("no {wanted} in: {lease}")
        })?;
    }
    ensure(field(&lease, "mtu") == Some("1500"), || {
        format!("MTU in: {lease}")
    })?;
    Ok(lease)
}

fn names(vm: &mut Vm, checks: &mut Checks, world: &World) {
    checks.step("gateway.internal", || {
        vm.check("nslookup gateway.internal", SHORT)
    });
    checks.step("an outside name", || {
        let out = vm.check(&format!("nslookup {}", dns::ZONE), SHORT)?;
        ensure(out.contains(OUTSIDE), || out.clone())
    });
    checks.step("no such name", || {
        let answer = vm.run("nslookup none.outside.test", SHORT)?;
        ensure(answer.output.contains("NXDOMAIN"), || format!("{answer:?}"))
    });
    checks.step("local names never go upstream", || {
        let log = world.server_log();
        let leaked = log
            .lines()
            .find(|l| l.starts_with("dns ") && l.contains(".internal"));
        leaked.map_or(Ok(()), |line| {
            Err(format!("the server outside was asked: {line}"))
        })
    });
}

fn refused(vm: &mut Vm, checks: &mut Checks) {
    checks.step("a closed port refuses at once", || {
        let answer = vm.run(&format!("timeout 3 nc {OUTSIDE} 4"), SHORT)?;
        ensure(answer.output.contains("refused"), || format!("{answer:?}"))
    });
}

pub(super) fn transfers(vm: &mut Vm, checks: &mut Checks) {
    let Some((digest, _)) = checks.step("digest of the body", || sha256(Body::new(TRANSFER)))
    else {
        return;
    };
    checks.step("download of 64 MiB", || {
        let url = World::body_url(TRANSFER);
        let out = vm.check(
            &format!("wget -q -O /tmp/body {url} && sha256sum /tmp/body"),
            LONG,
        )?;
        ensure(out.contains(&digest), || {
            format!("wanted {digest}, the guest has {out}")
        })
    });
    checks.step("upload of 64 MiB, ended by a half-close", || {
        let out = vm.check(&format!("nc {OUTSIDE} {DIGEST_PORT} < /tmp/body"), LONG)?;
        ensure(out.contains(&digest), || {
            format!("wanted {digest}, the server has {out}")
        })
    });
}

/// A server in the guest, asked at the port 8090 of `address` of the host, which leads to it.
pub(super) fn published(vm: &mut Vm, checks: &mut Checks, world: &World, address: &str) {
    checks.step("a server in the guest", || serve(vm));
    checks.step("a published port, with the client's address", || {
        call(world, address)
    });
}

/// Starts a server in the guest that says who calls.
pub(super) fn serve(vm: &mut Vm) -> Result<()> {
    // The server passes the client's address on to its scripts.
    let start = "mkdir -p /tmp/www/cgi-bin && cd /tmp/www/cgi-bin && \
        printf '#!/bin/sh\\necho; echo you are $REMOTE_ADDR\\n' > who && chmod 755 who && \
        httpd -p 80 -h /tmp/www";
    vm.check(start, SHORT).map(drop)
}

/// Calls it from outside, by a published port.
pub(super) fn call(world: &World, address: &str) -> Result<()> {
    let at = format!("{address}:8090");
    let out = world.ask_from_outside(&["http-get", &at, "/cgi-bin/who"])?;
    // A guest may see a client over IPv6 with its IPv4 address mapped.
    let line = out
        .lines()
        .last()
        .unwrap_or_default()
        .replace("[::ffff:", "")
        .replace(']', "");
    ensure(line.trim() == format!("you are {OUTSIDE}"), || out.clone())
}

/// A guest on each kind of socket, on one network.
fn two_guests(context: &Context, checks: &mut Checks) {
    let world = &context.world;
    let image = match context.image() {
        Ok(image) => image,
        Err(why) => return checks.skip(why),
    };
    let kinds = ["--qemu-stream", "--qemu-dgram"];
    let started = checks.step("the network is up", || Daemon::start(world, &[], &kinds));
    let Some(daemon) = started else { return };
    checks.log(&daemon.log);
    let mut boot = |name: &str, number: u8| {
        let index = usize::from(number) - 1;
        checks.step(&format!("{name} boots and has a lease"), || {
            let net = netdev(kinds[index], &daemon.paths[index]);
            let mut vm = Vm::boot(image, &world.dir, name, number, &net)?;
            let lease = vm.lease(name)?;
            let ip = field(&lease, "ip").ok_or_else(|| lease.clone())?.to_owned();
            let domain = field(&lease, "domain").unwrap_or_default().to_owned();
            Ok((vm, ip, domain))
        })
    };
    let Some((mut alpha, alpha_ip, domain)) = boot("alpha", 1) else {
        return;
    };
    let Some((mut beta, beta_ip, _)) = boot("beta", 2) else {
        return;
    };
    checks.step("two addresses", || {
        ensure(alpha_ip != beta_ip, || alpha_ip.clone())
    });
    checks.step("by address, both ways", || {
        alpha.check(&format!("ping -c2 -W2 {beta_ip}"), SHORT)?;
        beta.check(&format!("ping -c2 -W2 {alpha_ip}"), SHORT)
    });
    checks.step("by name", || {
        let out = alpha.check(&format!("nslookup beta.{domain}"), SHORT)?;
        ensure(out.contains(&beta_ip), || format!("no {beta_ip} in: {out}"))
    });
    checks.step("16 MiB from one to the other", || {
        // Its input stays open: at the end of it nc would half-close, and the other end leave.
        beta.check("sleep 600 | nc -l -p 7000 > /tmp/got & sleep 1", SHORT)?;
        let out = alpha.check(
            &format!(
                "head -c 16777216 /dev/urandom > /tmp/sent; sha256sum < /tmp/sent; \
                 nc {beta_ip} 7000 < /tmp/sent"
            ),
            LONG,
        )?;
        let sent = out.split_whitespace().next().unwrap_or("none").to_owned();
        let got = beta.check("sleep 1; sha256sum < /tmp/got", SHORT)?;
        ensure(got.contains(&sent), || format!("sent {sent}, got {got}"))
    });
}

/// A virtual machine that is killed while bytes flow, with another beside it, and comes back.
fn killed_in_mid_flow(context: &Context, checks: &mut Checks) {
    let world = &context.world;
    let image = match context.image() {
        Ok(image) => image,
        Err(why) => return checks.skip(why),
    };
    let kinds = ["--qemu-stream", "--qemu-stream"];
    let started = checks.step("the network is up", || Daemon::start(world, &[], &kinds));
    let Some(mut daemon) = started else { return };
    checks.log(&daemon.log);
    let paths = daemon.paths.clone();
    let boot = |name: &str, number: u8, at: usize| {
        let mut vm = Vm::boot(
            image,
            &world.dir,
            name,
            number,
            &netdev(kinds[at], &paths[at]),
        )?;
        let lease = vm.lease(name)?;
        Ok((vm, lease))
    };
    let Some((mut witness, lease)) = checks.step("a witness", || boot("witness", 3, 1)) else {
        return;
    };
    let router = field(&lease, "router").unwrap_or_default().to_owned();
    let Some((mut victim, lease)) = checks.step("a victim", || boot("victim", 4, 0)) else {
        return;
    };
    let victim_ip = field(&lease, "ip").unwrap_or_default().to_owned();
    checks.step(
        "killed while it downloads and the witness sends to it",
        || {
            let url = World::body_url(1 << 40);
            victim.check(
                &format!("wget -q -O /dev/null {url} & sleep 600 | nc -l -p 7000 >/dev/null &"),
                SHORT,
            )?;
            witness.check(
                &format!("sleep 1; (nc {victim_ip} 7000 </dev/zero >/dev/null 2>&1 &) ; sleep 1"),
                SHORT,
            )?;
            victim.kill();
            Ok(())
        },
    );
    checks.step("the network survives", || {
        std::thread::sleep(Duration::from_secs(1));
        ensure(daemon.proc.alive(), || {
            format!("it ended: {}", daemon.proc.output())
        })?;
        witness.check(
            &format!("ping -c2 -W2 {router} && ping -c2 -W2 {OUTSIDE}"),
            SHORT,
        )
    });
    checks.step(
        "the same machine comes back and downloads 8 MiB whole",
        || {
            let (mut again, lease) = boot("victim", 4, 0)?;
            ensure(field(&lease, "ip") == Some(&*victim_ip), || {
                format!("{victim_ip} became {lease}")
            })?;
            let url = World::body_url(8 << 20);
            let (digest, _) = sha256(Body::new(8 << 20))?;
            let out = again.check(&format!("wget -q -O - {url} | sha256sum"), LONG)?;
            ensure(out.contains(&digest), || {
                format!("wanted {digest}, the guest has {out}")
            })
        },
    );
}

/// `arcbox-net qemu -- QEMU ...`: the network and the machine in one command.
fn under_qemu_command(context: &Context, checks: &mut Checks) {
    let world = &context.world;
    let image = match context.image() {
        Ok(image) => image,
        Err(why) => return checks.skip(why),
    };
    let booted = checks.step("boot", || {
        let mut command = world.host.ordinary(&world.program);
        command.args(["qemu", "--"]);
        Vm::boot_with(image, &world.dir, "under-qemu", command, &[])
    });
    let Some(mut vm) = booted else { return };
    let Some(lease) = checks.step("lease", || whole_lease(&mut vm)) else {
        return;
    };
    let router = field(&lease, "router").unwrap_or_default();
    checks.step("ping the gateway", || {
        vm.check(&format!("ping -c2 -W2 {router}"), SHORT)
    });
    checks.step("download of 8 MiB", || {
        let (digest, _) = sha256(Body::new(8 << 20))?;
        let url = World::body_url(8 << 20);
        let out = vm.check(&format!("wget -q -O - {url} | sha256sum"), LONG)?;
        ensure(out.contains(&digest), || {
            format!("wanted {digest}, the guest has {out}")
        })
    });
}
