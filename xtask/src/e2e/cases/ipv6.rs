//! IPv6, with a namespace of root's as the guest: its kernel configures itself, and everything that
//! IPv4 does is done over IPv6.

use std::time::Duration;

use crate::Result;
use crate::e2e::body::{Body, sha256};
use crate::e2e::cases::command::TRANSFER;
use crate::e2e::proc::{self, Proc};
use crate::e2e::serve::{DIGEST_PORT, HTTP_PORT, dns};
use crate::e2e::world::{HOST6, Namespace, OUTSIDE, OUTSIDE6, World};
use crate::e2e::{Case, Checks, Context, ensure};

const GROUP: &str = "e2e ipv6";

pub(in crate::e2e) const CASES: &[Case] = &[
    Case::new(GROUP, "ipv6", ipv6),
    Case::new(GROUP, "ipv6_kernel", in_kernel),
    Case::new(GROUP, "ipv6_off", off),
];

/// Time for the network to come up and a small command to end.
const SHORT: Duration = Duration::from_secs(20);
/// Time for a transfer, on a machine that does other things too.
const LONG: Duration = Duration::from_secs(120);

/// A namespace on a network.
struct Guest<'a> {
    world: &'a World,
    namespace: Namespace,
    up: Proc,
}

impl<'a> Guest<'a> {
    fn start(
        world: &'a World,
        engine: &str,
        options: &[&str],
        checks: &mut Checks,
    ) -> Option<Self> {
        let log = world.log("up-ipv6");
        checks.log(&log);
        checks.step("the network is up", || {
            let namespace = world.namespace(false)?;
            let mut command = world.host.command(&world.program);
            let state = world.dir.join(format!("state-{}", namespace.pid()));
            command
                .args(["up", "--engine", engine, "--state-dir"])
                .arg(state);
            command.args(options);
            command.args(["--netns", &namespace.pid()]);
            let mut up = Proc::spawn(&mut command, &log)?;
            up.wait_until(SHORT, |out| out.contains(&namespace.pid()))?;
            Ok(Self {
                world,
                namespace,
                up,
            })
        })
    }

    /// Runs a script in the guest; `$gw` is the gateway's address.
    fn run(&self, script: &str, limit: Duration) -> Result<String> {
        let prefix =
            "ip -6 route show dev eth0 | sed -n 's/^\\(fd[^ ]*::\\)\\/64 .*/\\1/p' | head -n1";
        let whole = format!("gw=$({prefix})1; {script}");
        let mut command = self.namespace.command("sh");
        let done = proc::run(
            command.args(["-c", &whole]),
            &self.world.log("inside"),
            limit,
        )?;
        ensure(done.status == 0, || {
            format!("`{script}` ended with {}: {}", done.status, done.output)
        })?;
        Ok(done.output)
    }

    /// Runs it until what it prints is as wanted.
    fn until(&self, script: &str, wanted: &str) -> Result<()> {
        let text = format!(
            "for i in $(seq 100); do {script} | grep -q '{wanted}' && exit 0; sleep 0.2; done; \
             {script}; exit 1"
        );
        self.run(&text, Duration::from_secs(30)).map(|_| ())
    }
}

fn ipv6(context: &Context, checks: &mut Checks) {
    let world = &context.world;
    let tcp = format!("[{HOST6}]:8091:80");
    let udp = format!("[{HOST6}]:8092:5000/udp");
    let Some(guest) = Guest::start(world, "user", &["-p", &tcp, "-p", &udp], checks) else {
        return;
    };
    checks.step("an address is there from the start", || {
        let out = guest.run("ip -6 addr show dev eth0 scope global", SHORT)?;
        ensure(out.contains("inet6 fd"), || out.clone())
    });
    checks.step("without it, the kernel forms one by itself", || {
        // All that it had is gone, and it asks for a router again.
        let off = "/proc/sys/net/ipv6/conf/eth0/disable_ipv6";
        guest.run(&format!("echo 1 > {off}; echo 0 > {off}"), SHORT)?;
        guest.until(
            "ip -6 addr show dev eth0 scope global dynamic -tentative",
            "inet6 fd.*/64",
        )
    });
    checks.step("and has a route, by way of a link-local router", || {
        guest.until(
            "ip -6 route show default",
            "default via fe80.* dev eth0 proto ra",
        )
    });
    checks.step("and the MTU", || {
        let out = guest.run("cat /proc/sys/net/ipv6/conf/eth0/mtu", SHORT)?;
        ensure(out.trim() == "1500", || out.clone())
    });
    checks.step("the gateway's two addresses answer", || {
        guest.run(
            "router=$(ip -6 route show default | sed 's/.*via \\([^ ]*\\) .*/\\1/' | head -n1); \
             ping -6 -c2 -i0.2 -W2 $gw && ping -6 -c2 -i0.2 -W2 $router%eth0",
            SHORT,
        )
    });
    names(&guest, checks);
    checks.step("ping outside", || {
        guest.run(&format!("ping -6 -c2 -i0.2 -W2 {OUTSIDE6}"), SHORT)
    });
    checks.step("the gateway is a hop on the way", || {
        let out = guest.run(&format!("ping -6 -t1 -c1 -W2 {OUTSIDE6} || true"), SHORT)?;
        ensure(out.contains("Time exceeded"), || out.clone())
    });
    transfers(&guest, checks);
    refused(&guest, checks);
    published(&guest, checks);
    checks.step("guests are told when the way out is gone", || {
        let route = |what: &str| {
            let mut command = world.host.command("ip");
            let text = format!("-6 route {what} default via {OUTSIDE6}");
            let done = proc::run(command.args(text.split(' ')), &world.log("route"), SHORT)?;
            ensure(done.status == 0, || done.output.clone())
        };
        route("del")?;
        // The host's routes are looked at while there is something to do.
        let told = guest.until(
            "ping -6 -c1 -W1 $gw > /dev/null; ip -6 route show default | grep -c via",
            "^0$",
        );
        route("add")?;
        told
    });
    ends(guest, checks);
}

/// The host is the router; what it advertises comes from a process without privileges, which has to
/// derive the same prefix as the one that has given the bridge its addresses.
fn in_kernel(context: &Context, checks: &mut Checks) {
    let world = &context.world;
    let tcp = format!("[{HOST6}]:8091:80");
    let udp = format!("[{HOST6}]:8092:5000/udp");
    let Some(guest) = Guest::start(world, "kernel", &["-p", &tcp, "-p", &udp], checks) else {
        return;
    };
    checks.step("a route, by way of the bridge", || {
        guest.until(
            "ip -6 route show default",
            "default via fe80::ad:.* dev eth0 proto ra",
        )
    });
    checks.step("the host and the gateway answer", || {
        guest.run(
            "ping -6 -c2 -i0.2 -W2 $gw && ping -6 -c2 -i0.2 -W2 ${gw%1}2",
            SHORT,
        )
    });
    let helper = guest.world.helper_command();
    checks.step("the gateway's name server, over IPv6", || {
        let text = format!("{helper} dig ${{gw%1}}2 {} A", dns::ZONE);
        let out = guest.run(&text, SHORT)?;
        ensure(out.contains(&format!("a={OUTSIDE}")), || out.clone())
    });
    checks.step("ping outside", || {
        guest.run(&format!("ping -6 -c2 -i0.2 -W2 {OUTSIDE6}"), SHORT)
    });
    transfers(&guest, checks);
    published(&guest, checks);
    ends(guest, checks);
}

fn ends(guest: Guest<'_>, checks: &mut Checks) {
    let Guest { mut up, .. } = guest;
    checks.step("ends on SIGTERM", || {
        up.signal("TERM");
        let status = up.wait(Duration::from_secs(5))?;
        ensure(status == 0, || format!("status {status}: {}", up.output()))
    });
}

fn names(guest: &Guest<'_>, checks: &mut Checks) {
    let helper = guest.world.helper_command();
    for (step, question, wanted) in [
        (
            "a name, asked over IPv6",
            format!("{} A", dns::ZONE),
            format!("a={OUTSIDE}"),
        ),
        (
            "and over a connection",
            "big.outside.test TXT tcp".into(),
            "tc=false answers=40".into(),
        ),
        (
            "the gateway's name has an AAAA",
            "gateway.internal AAAA".into(),
            "rcode=0 tc=false answers=1".into(),
        ),
        (
            "and so has the guest's",
            "guest1.internal AAAA".into(),
            "rcode=0 tc=false answers=1".into(),
        ),
    ] {
        checks.step(step, || {
            let out = guest.run(&format!("{helper} dig $gw {question}"), SHORT)?;
            ensure(out.contains(&wanted), || format!("no {wanted:?} in: {out}"))
        });
    }
    checks.step("a datagram outside and back", || {
        let text = format!("{helper} dig {OUTSIDE6} {} A", dns::ZONE);
        let out = guest.run(&text, SHORT)?;
        ensure(out.contains(&format!("a={OUTSIDE}")), || out.clone())
    });
}

fn transfers(guest: &Guest<'_>, checks: &mut Checks) {
    let Some((digest, _)) = checks.step("digest of the body", || sha256(Body::new(TRANSFER)))
    else {
        return;
    };
    checks.step("download of 64 MiB", || {
        let url = format!("http://[{OUTSIDE6}]:{HTTP_PORT}/body/{TRANSFER}");
        let out = guest.run(&format!("busybox wget -q -O - '{url}' | sha256sum"), LONG)?;
        ensure(out.contains(&digest), || {
            format!("wanted {digest}, the guest has {out}")
        })
    });
    let helper = guest.world.helper_command();
    checks.step("upload of 64 MiB, ended by a half-close", || {
        let text = format!("{helper} body {TRANSFER} | busybox nc {OUTSIDE6} {DIGEST_PORT}");
        let out = guest.run(&text, LONG)?;
        ensure(out.contains(&digest), || {
            format!("wanted {digest}, the server has {out}")
        })
    });
}

fn refused(guest: &Guest<'_>, checks: &mut Checks) {
    let helper = guest.world.helper_command();
    for (step, ask, words) in [
        (
            "a closed port",
            format!("tcp-ask [{OUTSIDE6}]:4"),
            &["refused"][..],
        ),
        (
            "a closed UDP port",
            format!("udp-ask [{OUTSIDE6}]:4 hello"),
            &["refused"],
        ),
        (
            "the cloud's metadata is out of reach",
            "tcp-ask [fd00:ec2::254]:80".into(),
            // "Administratively prohibited" is a permission to a socket.
            &["ermission", "unreachable", "No route"],
        ),
    ] {
        checks.step(step, || {
            let out = guest.run(&format!("{helper} {ask} 2>&1 || true"), SHORT)?;
            ensure(words.iter().any(|word| out.contains(word)), || out.clone())
        });
    }
}

fn published(guest: &Guest<'_>, checks: &mut Checks) {
    let world = guest.world;
    let helper = world.helper_command();
    let text = format!("{helper} udp-who [::]:5000 & {helper} tcp-who [::]:80 & wait");
    let started = checks.step("servers in the guest", || {
        let mut command = guest.namespace.command("sh");
        let mut servers = Proc::spawn(command.args(["-c", &text]), &world.log("servers"))?;
        servers.wait_until(SHORT, |out| out.matches("ready").count() == 2)?;
        Ok(servers)
    });
    let Some(_servers) = started else { return };
    checks.step("TCP from outside, with the client's address", || {
        let out = world.ask_from_outside(&["tcp-ask", &format!("[{HOST6}]:8091")])?;
        ensure(out.trim() == format!("you are {OUTSIDE6}"), || out.clone())
    });
    checks.step("UDP from outside, with the client's address", || {
        let at = format!("[{HOST6}]:8092");
        let out = world.ask_from_outside(&["udp-ask", &at, "hello"])?;
        let wanted = format!("you are {OUTSIDE6}, you said hello");
        ensure(out.trim() == wanted, || out.clone())
    });
}

fn off(context: &Context, checks: &mut Checks) {
    let options = ["--subnet6", "off"];
    let Some(guest) = Guest::start(&context.world, "user", &options, checks) else {
        return;
    };
    checks.step("no address and no router", || {
        std::thread::sleep(Duration::from_secs(2));
        let out = guest.run(
            "ip -6 addr show scope global; ip -6 route show default",
            SHORT,
        )?;
        ensure(out.trim().is_empty(), || out.clone())
    });
    checks.step("IPv4 is as ever", || {
        guest
            .run(&format!("ping -c1 -W2 {OUTSIDE}"), SHORT)
            .map(|_| ())
    });
}
