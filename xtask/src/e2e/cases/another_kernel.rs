//! What takes a kernel that this machine need not have, on Debian's: the tests of `net-backend-linux`
//! and `net-manager` on a real kernel, and the program, as root of a virtual machine.

use std::path::Path;
use std::time::Duration;

use crate::e2e::vm::{Image, Vm};
use crate::e2e::{Case, Checks, Context, ensure};
use crate::{Result, cmd};

pub(in crate::e2e) const CASES: &[Case] = &[Case::new("e2e vm", "vm_as_a_host", host)];

/// What networks in the kernel are made of, VLANs and macvtaps among it.
const MODULES: &[&str] = &[
    "bridge",
    "8021q",
    "veth",
    "tun",
    "macvtap",
    "dummy",
    "nf_tables",
    "nft_chain_nat",
    "nft_masq",
    "nft_nat",
    "nft_ct",
    "nft_fib_inet",
    "nft_reject_inet",
    "nft_meta_bridge",
    "nf_conntrack_netlink",
    "sch_ingress",
    "cls_u32",
    "act_mirred",
];

/// The tests, with the crate they are of. Those that kill the manager two hundred times take too long
/// in software emulation.
const TESTS: &[(&str, &[&str])] = &[
    ("net-backend-linux", &["vlans_of_a_bridge"]),
    (
        "net-manager",
        &[
            "kernel_vlans",
            "kernel_macvtap",
            "kernel_bridge",
            "kernel_nat",
            "kernel_host_only",
            "kernel_served_tap",
        ],
    ),
];

/// Time for one test in software emulation.
const LONG: Duration = Duration::from_secs(150);

fn host(context: &Context, checks: &mut Checks) {
    let nft = match (Image::obstacle(), cmd::find("nft"), cmd::find("strip")) {
        (None, Some(nft), Some(_)) => nft,
        (why, _, _) => return checks.skip(why.unwrap_or_else(|| "needs nft and strip".into())),
    };
    let Some(tests) = checks.step("the tests are built", || context.tests()) else {
        return;
    };
    let booted = checks.step("boot", || {
        let mut programs: Vec<(&str, &Path)> =
            vec![("nft", &nft), ("arcbox-net", &context.world.program)];
        programs.extend(tests.iter().map(|(name, path)| (&**name, path.as_path())));
        let image = Image::with("host.cpio", MODULES, &programs)?;
        Vm::boot_host(&image, &context.world.dir, "host")
    });
    let Some(mut vm) = booted else { return };
    checks.step("what every distribution has", || {
        // nft reads its rules from there.
        vm.check(
            "ln -s /proc/self/fd/0 /dev/stdin && mkdir /run && touch /etc/resolv.conf",
            LONG,
        )
    });
    for (program, names) in TESTS {
        for name in *names {
            checks.step(name, || test(&mut vm, program, name));
        }
    }
    checks.step("the program attaches by VLAN and by macvtap", || {
        program(&mut vm)
    });
}

/// One test; that it cannot run here is a failure here.
fn test(vm: &mut Vm, program: &str, name: &str) -> Result<()> {
    let out = vm.check(&format!("{program} --exact {name}"), LONG)?;
    ensure(out.contains("1 passed; 0 failed; 0 ignored"), || {
        out.clone()
    })
}

fn program(vm: &mut Vm) -> Result<()> {
    let script = "ip link add e0 type dummy && ip link set e0 up && \
        (arcbox-net up --name v --mode bridge --attach tap:vm0,vlan=7 --attach macvtap:e0 \
        >/tmp/up 2>&1 &) ; for i in $(seq 100); do grep -qs ready.macvtap /tmp/up && break; \
        sleep 0.1; done; cat /tmp/up; \
        device=$(sed -n 's/.*\\(.dev.tap[0-9]*\\).*/\\1/p' /tmp/up); test -c $device && \
        cat /sys/class/net/ab-v/bridge/vlan_filtering && arcbox-net status && arcbox-net stop && \
        for i in $(seq 100); do pidof arcbox-net >/dev/null || break; sleep 0.1; done; \
        ! ip link show vm0 && ! ip link show ab-v";
    let out = vm.check(script, LONG)?;
    ensure(out.contains("\n1\n"), || out.clone())
}
