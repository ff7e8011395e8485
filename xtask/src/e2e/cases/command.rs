//! `arcbox-net run`, `demo`, `doctor` and bad input: no virtual machine, no privileges.

use std::time::Duration;

use crate::Result;
use crate::e2e::body::{Body, sha256};
use crate::e2e::proc::Proc;
use crate::e2e::serve::{DIGEST_PORT, WHO_PORT, dns};
use crate::e2e::world::{HOST, OUTSIDE, World};
use crate::e2e::{Case, Checks, Context, ensure};

const GROUP: &str = "e2e run";

pub(in crate::e2e) const CASES: &[Case] = &[
    Case::new(GROUP, "bad_input", bad_input),
    Case::new(GROUP, "doctor", doctor),
    Case::new(GROUP, "ordinary_user", ordinary_user),
    Case::new(GROUP, "capture", capture),
    Case::new(GROUP, "exit_status", exit_status),
    Case::new(GROUP, "names", names),
    Case::new(GROUP, "echo_outside", echo_outside),
    Case::new(GROUP, "transfers", transfers),
    Case::new(GROUP, "refused_at_once", refused_at_once),
    Case::new(GROUP, "published_ports", published_ports),
    Case::new(GROUP, "host_loopback", host_loopback),
    Case::new(GROUP, "demo", demo),
];

/// How many bytes a transfer has.
pub(in crate::e2e) const TRANSFER: u64 = 64 << 20;

/// Time for `run` to come up and a small command to end.
const SHORT: Duration = Duration::from_secs(20);
/// Time for a transfer, on a machine that does other things too.
const LONG: Duration = Duration::from_secs(120);

/// Runs a script on a network of its own; any status but 0 is an error.
fn script(world: &World, options: &[&str], script: &str, limit: Duration) -> Result<String> {
    let mut args = vec!["run"];
    args.extend(options);
    args.extend(["--", "sh", "-c", script]);
    let done = world.arcbox(&args, limit)?;
    ensure(done.status == 0, || {
        format!(
            "`run -- {script}` ended with {}:\n{}",
            done.status, done.output
        )
    })?;
    Ok(done.output)
}

fn ordinary_user(context: &Context, checks: &mut Checks) {
    let world = &context.world;
    checks.step("address and ping of the gateway", || {
        let out = script(
            world,
            &[],
            "id -u; ip addr; ping -c1 gateway.internal",
            SHORT,
        )?;
        let eth0 = out.split("eth0").nth(1).unwrap_or_default();
        ensure(eth0.contains("inet "), || {
            format!("eth0 has no address:\n{out}")
        })?;
        ensure(
            out.contains("1 received") || out.contains("1 packets received"),
            || out.clone(),
        )
    });
    checks.step(
        "default route and resolver before the command starts",
        || {
            let out = script(world, &[], "ip route; cat /etc/resolv.conf", SHORT)?;
            ensure(
                out.contains("default via") && out.contains("nameserver"),
                || out.clone(),
            )
        },
    );
    checks.step("options of the network", || {
        let options = [
            "--subnet",
            "10.77.0.0/24",
            "--mtu",
            "1400",
            "--domain",
            "lab.test",
        ];
        let out = script(world, &options, "ip addr; cat /etc/resolv.conf", SHORT)?;
        for part in ["10.77.0.", "mtu 1400", "lab.test"] {
            ensure(out.contains(part), || format!("no {part:?} in:\n{out}"))?;
        }
        Ok(())
    });
}

fn capture(context: &Context, checks: &mut Checks) {
    checks.step("every frame, both ways", || {
        let path = context.world.dir.join("frames.pcap");
        let shown = path.display().to_string();
        script(
            &context.world,
            &["--pcap", &shown],
            "ping -4 -c1 gateway.internal",
            SHORT,
        )?;
        let bytes = std::fs::read(&path).map_err(|e| format!("{shown}: {e}"))?;
        // Microseconds or nanoseconds, in the order of the machine's bytes.
        let magic = bytes
            .get(..4)
            .and_then(|b| b.try_into().ok())
            .map(u32::from_ne_bytes);
        ensure(matches!(magic, Some(0xa1b2_c3d4 | 0xa1b2_3c4d)), || {
            format!("magic {magic:x?}")
        })?;
        // Ethernet, IPv4, ICMP echo request and reply: type and code behind a plain header.
        for kind in [8u8, 0] {
            let echo = bytes
                .windows(36)
                .any(|w| w[12..15] == [8, 0, 0x45] && w[23] == 1 && w[34..36] == [kind, 0]);
            ensure(echo, || {
                format!("no echo of type {kind} in {} bytes", bytes.len())
            })?;
        }
        Ok(())
    });
}

fn exit_status(context: &Context, checks: &mut Checks) {
    for (text, wanted) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)] {
        checks.step(text, || {
            let done = context
                .world
                .arcbox(["run", "--", "sh", "-c", text], SHORT)?;
            ensure(done.status == wanted, || {
                format!("ended with {}: {}", done.status, done.output)
            })
        });
    }
    checks.step("a command that is not there", || {
        let done = context
            .world
            .arcbox(["run", "--", "/nonexistent/program"], SHORT)?;
        ensure(matches!(done.status, 126 | 127), || format!("{done:?}"))
    });
}

fn names(context: &Context, checks: &mut Checks) {
    let world = &context.world;
    let helper = world.helper_command();
    let ask = |name: &str, kind: &str, tcp: &str| {
        let server = "$(sed -n 's/^nameserver //p' /etc/resolv.conf | head -n1)";
        script(
            world,
            &[],
            &format!("{helper} dig {server} {name} {kind} {tcp}"),
            SHORT,
        )
    };
    let zone = dns::ZONE;
    let cases = [
        ("an outside name", zone, "A", "", format!("a={OUTSIDE}")),
        (
            "an outside name over TCP",
            zone,
            "A",
            "tcp",
            format!("a={OUTSIDE}"),
        ),
        (
            "no such name",
            "none.outside.test",
            "A",
            "",
            "rcode=3 tc=false answers=0".into(),
        ),
        (
            "no such type",
            zone,
            "AAAA",
            "",
            "rcode=0 tc=false answers=0".into(),
        ),
        (
            "a long answer is truncated",
            "big.outside.test",
            "TXT",
            "",
            "rcode=0 tc=true".into(),
        ),
        (
            "and whole over TCP",
            "big.outside.test",
            "TXT",
            "tcp",
            "tc=false answers=40".into(),
        ),
        (
            "the gateway's name",
            "gateway.internal",
            "A",
            "",
            "answers=1".into(),
        ),
        (
            "the gateway has no AAAA",
            "gateway.internal",
            "AAAA",
            "",
            "rcode=0".into(),
        ),
    ];
    for (step, name, kind, tcp, wanted) in cases {
        checks.step(step, || {
            let out = ask(name, kind, tcp)?;
            ensure(out.contains(&wanted), || format!("no {wanted:?} in: {out}"))
        });
    }
    checks.step("through the system's resolver", || {
        let out = script(world, &[], &format!("getent ahostsv4 {zone}"), SHORT)?;
        ensure(out.contains(OUTSIDE), || out.clone())
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

fn echo_outside(context: &Context, checks: &mut Checks) {
    checks.step("ping outside", || {
        let text = format!("ping -c2 -i0.2 -W2 {OUTSIDE}");
        script(&context.world, &[], &text, SHORT).map(|_| ())
    });
    checks.step("a host that does not answer is not answered for", || {
        let text = "ping -c1 -W1 203.0.113.77 && echo answered";
        let done = context
            .world
            .arcbox(["run", "--", "sh", "-c", text], SHORT)?;
        ensure(
            done.status != 0 && !done.output.contains("answered"),
            || format!("{done:?}"),
        )
    });
}

fn transfers(context: &Context, checks: &mut Checks) {
    let world = &context.world;
    let Some((digest, _)) = checks.step("digest of the body", || sha256(Body::new(TRANSFER)))
    else {
        return;
    };
    checks.step("download of 64 MiB", || {
        let url = World::body_url(TRANSFER);
        let out = script(
            world,
            &[],
            &format!("busybox wget -q -O - {url} | sha256sum"),
            LONG,
        )?;
        ensure(out.contains(&digest), || {
            format!("wanted {digest}, the guest has {out}")
        })
    });
    let helper = world.helper_command();
    checks.step("upload of 64 MiB, ended by a half-close", || {
        let text = format!("{helper} body {TRANSFER} | busybox nc {OUTSIDE} {DIGEST_PORT}");
        let out = script(world, &[], &text, LONG)?;
        ensure(out.contains(&digest), || {
            format!("wanted {digest}, the server has {out}")
        })
    });
    checks.step("eight downloads at once", || {
        let url = World::body_url(TRANSFER / 8);
        let (wanted, _) = sha256(Body::new(TRANSFER / 8))?;
        let one = format!("(busybox wget -q -O - {url} | sha256sum) &");
        let out = script(world, &[], &format!("{} wait", one.repeat(8)), LONG)?;
        let good = out.matches(&wanted).count();
        ensure(good == 8, || format!("{good} of 8 are whole:\n{out}"))
    });
}

fn refused_at_once(context: &Context, checks: &mut Checks) {
    let helper = context.world.helper_command();
    for (step, address, words) in [
        ("a closed port", format!("{OUTSIDE}:4"), &["refused"][..]),
        (
            "no route",
            "198.51.100.1:80".into(),
            &["unreachable", "No route", "refused"],
        ),
    ] {
        checks.step(step, || {
            let text = format!("{helper} tcp-ask {address}");
            let done = context
                .world
                .arcbox(["run", "--", "sh", "-c", &text], SHORT)?;
            let said = words.iter().any(|w| done.output.contains(w));
            // The helper gives up after five seconds: a refusal comes long before that.
            let at_once = done.took < Duration::from_secs(4);
            ensure(done.status != 0 && said && at_once, || format!("{done:?}"))
        });
    }
    checks.step("a closed UDP port", || {
        let text = format!("{helper} udp-ask {OUTSIDE}:4 hello");
        let done = context
            .world
            .arcbox(["run", "--", "sh", "-c", &text], SHORT)?;
        ensure(done.output.contains("refused"), || format!("{done:?}"))
    });
}

fn published_ports(context: &Context, checks: &mut Checks) {
    let world = &context.world;
    let helper = world.helper_command();
    let (tcp, udp) = (format!("{HOST}:8081:80"), format!("{HOST}:8082:5000/udp"));
    let text =
        format!("{helper} udp-who 0.0.0.0:5000 & {helper} tcp-who 0.0.0.0:80 & sleep 60; wait");
    let started = checks.step("servers in the guest", || {
        let mut run =
            world.start_arcbox(&["run", "-p", &tcp, "-p", &udp, "--", "sh", "-c", &text])?;
        run.wait_until(SHORT, |out| out.matches("ready").count() == 2)?;
        Ok(run)
    });
    let Some(_run) = started else { return };
    checks.step("TCP from outside, with the client's address", || {
        let out = world.ask_from_outside(&["tcp-ask", &format!("{HOST}:8081")])?;
        ensure(out.trim() == format!("you are {OUTSIDE}"), || out.clone())
    });
    checks.step("UDP from outside, with the client's address", || {
        let out = world.ask_from_outside(&["udp-ask", &format!("{HOST}:8082"), "hello"])?;
        ensure(
            out.trim() == format!("you are {OUTSIDE}, you said hello"),
            || out.clone(),
        )
    });
}

fn host_loopback(context: &Context, checks: &mut Checks) {
    let world = &context.world;
    let started = checks.step("a server on the host's loopback", || {
        let mut command = world.host.ordinary(&world.helper);
        command.args(["e2e-serve", "tcp-who", "127.0.0.1:7070"]);
        let mut server = Proc::spawn(&mut command, &world.log("loopback"))?;
        server.wait_until(SHORT, |out| out.contains("ready"))?;
        Ok(server)
    });
    let Some(_server) = started else { return };
    let helper = world.helper_command();
    let gateway = "$(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p')";
    let text = format!("{helper} tcp-ask {gateway}:7070");
    checks.step("closed unless asked for", || {
        let done = world.arcbox(["run", "--", "sh", "-c", &text], SHORT)?;
        ensure(done.status != 0 && !done.output.contains("you are"), || {
            format!("{done:?}")
        })
    });
    checks.step("127.0.0.1 of the host is not the guest's to name", || {
        let text = format!("{helper} tcp-ask 127.0.0.1:7070");
        let done = world.arcbox(["run", "--", "sh", "-c", &text], SHORT)?;
        ensure(!done.output.contains("you are"), || format!("{done:?}"))
    });
    checks.step("open with --host-loopback", || {
        let out = script(world, &["--host-loopback"], &text, SHORT)?;
        ensure(out.contains("you are"), || out.clone())
    });
    checks.step("which the guest's own flows outside do not need", || {
        let out = script(
            world,
            &[],
            &format!("{helper} tcp-ask {OUTSIDE}:{WHO_PORT}"),
            SHORT,
        )?;
        ensure(out.contains(&format!("you are {HOST}")), || out.clone())
    });
}

fn demo(context: &Context, checks: &mut Checks) {
    checks.step("every line holds", || {
        let done = context.world.arcbox(["demo"], LONG)?;
        ensure(done.status == 0, || {
            format!("ended with {}:\n{}", done.status, done.output)
        })?;
        for vmm in ["qemu", "cloud-hypervisor", "firecracker", "krun"] {
            let shown = done.output.to_lowercase().replace(' ', "-").contains(vmm);
            ensure(shown, || {
                format!("no command for {vmm} in:\n{}", done.output)
            })?;
        }
        Ok(())
    });
}

fn doctor(context: &Context, checks: &mut Checks) {
    checks.step("says what this machine can do", || {
        let done = context.world.arcbox(["doctor"], SHORT)?;
        ensure(done.status == 0 && done.output.lines().count() > 2, || {
            format!("{done:?}")
        })
    });
}

fn bad_input(context: &Context, checks: &mut Checks) {
    let world = &context.world;
    let there = world.dir.join("already-there");
    let path = there.display().to_string();
    let long = world.dir.join("x".repeat(200)).display().to_string();
    let taken = checks.step("a port that is taken", || {
        std::fs::write(&there, "").map_err(|e| format!("{path}: {e}"))?;
        let mut command = world.host.ordinary(&world.helper);
        command.args(["e2e-serve", "tcp-who", &format!("{HOST}:7001")]);
        let mut server = Proc::spawn(&mut command, &world.log("taken"))?;
        server.wait_until(SHORT, |out| out.contains("ready"))?;
        Ok(server)
    });
    let Some(_taken) = taken else { return };
    let publish = format!("{HOST}:7001:80");
    let free = world.dir.join("free").display().to_string();
    let cases: [(&str, &[&str], &str); 11] = [
        ("no such command", &["frobnicate"], "frobnicate"),
        (
            "an unknown option",
            &["run", "--frobnicate", "--", "true"],
            "--frobnicate",
        ),
        ("nothing to run", &["run", "--"], ""),
        (
            "a subnet too small",
            &["run", "--subnet", "10.0.0.0/31", "--", "true"],
            "10.0.0.0/31",
        ),
        (
            "no subnet",
            &["run", "--subnet", "ten", "--", "true"],
            "ten",
        ),
        (
            "an MTU too small",
            &["run", "--mtu", "10", "--", "true"],
            "10",
        ),
        ("no port", &["run", "-p", "99999:80", "--", "true"], "99999"),
        (
            "which port is taken",
            &["run", "-p", &publish, "--", "true"],
            "203.0.113.1:7001",
        ),
        (
            "nothing is ready without its port",
            &["up", "--vfkit", &free, "-p", &publish],
            "203.0.113.1:7001",
        ),
        (
            "a socket path that exists",
            &["up", "--qemu-stream", &path],
            &path,
        ),
        (
            "a socket path too long",
            &["up", "--qemu-stream", &long],
            "long",
        ),
    ];
    for (step, args, word) in cases {
        checks.step(step, || {
            let done = world.arcbox(args, SHORT)?;
            let one_line = done.output.trim_end().lines().count() == 1;
            let said = done.output.contains(word);
            ensure(done.status == 2 && one_line && said, || {
                format!(
                    "status {}, wanted 2 and one line with {word:?}:\n{}",
                    done.status, done.output
                )
            })
        });
    }
}
