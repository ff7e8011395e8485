//! The cases.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

use net_backend::Offloads;
use net_backend_linux::LinuxError;
use net_backend_linux::netns::{
    Attachment, DeviceName, NamespaceChild, NamespaceSpec, Target, spawn,
};
use net_wire::MacAddr;

use crate::confine::Scratch;
use crate::gateway::{GATEWAY, GUEST, Gateway};
use crate::runner::{Case, Skip};

/// A name and what it runs.
type Named = (&'static str, fn() -> Case);

/// Every case: those of this crate, then the conformance suite over each back end.
pub(crate) fn all() -> Vec<(String, Box<dyn Fn() -> Case>)> {
    let own = ALL
        .iter()
        .map(|(name, case)| -> (String, Box<dyn Fn() -> Case>) {
            ((*name).to_owned(), Box::new(case))
        });
    let suite =
        crate::conformance::names().map(|(kind, case)| -> (String, Box<dyn Fn() -> Case>) {
            let run = move || alone_with(&["conformance", kind, case]);
            (format!("{kind}::{case}"), Box::new(run))
        });
    own.chain(suite).collect()
}

const ALL: &[Named] = &[
    ("a_command_finds_its_network", a_command_finds_its_network),
    ("resolv_conf_in_every_state", resolv_conf_in_every_state),
    ("without_privileges_too", without_privileges_too),
    ("without_a_tap_device_too", without_a_tap_device_too),
    ("frames_go_round", frames_go_round),
    ("super_frames_go_in", super_frames_go_in),
    (
        "super_frames_come_out_where_asked_for",
        super_frames_come_out_where_asked_for,
    ),
    (
        "an_existing_namespace_gets_an_interface",
        an_existing_namespace_gets_an_interface,
    ),
    (
        "an_interface_that_is_deleted_is_told",
        an_interface_that_is_deleted_is_told,
    ),
    (
        "a_helper_ends_with_its_handle",
        a_helper_ends_with_its_handle,
    ),
    ("signals_and_statuses_pass", signals_and_statuses_pass),
    ("refusals_say_why", refusals_say_why),
    ("devices_of_every_kind", devices_of_every_kind),
    ("links_are_what_was_asked_for", || alone("links")),
    ("addresses_and_routes_move_and_return", || alone("moving")),
    ("vlans_of_a_bridge", || alone("vlans")),
    ("a_device_stays_for_its_user", || alone("persistent")),
    ("tables_come_and_go_and_touch_no_other", || alone("rules")),
    ("kernel_nat_lets_pass_what_it_should", || alone("nat")),
    ("host_only_keeps_guests_in", || alone("host-only")),
    ("isolated_guests_reach_the_host_alone", || {
        alone("isolation")
    }),
    ("settings_are_put_back_with_what_they_changed", || {
        alone("sysctls")
    }),
    ("hosts_believe_our_advertisements", || {
        alone("advertisements")
    }),
    ("a_confined_process_does_its_job_alone", confined),
    ("half_a_process_is_not_confined", || {
        alone("confine-threads")
    }),
    ("what_is_forbidden_can_be_fatal", || alone("confine-killed")),
    ("flows_keep_to_their_queue", || alone("flows")),
    ("a_device_is_for_its_owner_and_group", || alone("owners")),
];

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

fn spec() -> NamespaceSpec {
    NamespaceSpec {
        mac: Some(MAC),
        mtu: 1480,
        addresses: vec![
            ipnetwork::IpNetwork::new(GUEST.into(), 24).unwrap(),
            "fd77::2/64".parse().unwrap(),
        ],
        gateways: vec![GATEWAY.into(), "fd77::1".parse().unwrap()],
        resolv_conf: Some("nameserver 10.77.0.1\nsearch test.internal\n".into()),
        ..NamespaceSpec::default()
    }
}

fn this_program() -> String {
    std::env::current_exe()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

/// This program as helper, to become itself inside with `arguments`.
fn inside(arguments: &[&str]) -> Command {
    let mut command = Command::new(this_program());
    command
        .args([&this_program()[..], "inside"])
        .args(arguments);
    piped(command)
}

fn attach(command: Command, spec: &NamespaceSpec) -> (Gateway, NamespaceChild, DeviceName) {
    let Attachment {
        backend,
        child,
        device,
        ..
    } = spawn(command, spec).unwrap_or_else(|error| panic!("{error}"));
    (Gateway { backend }, child.expect("a helper"), device)
}

/// Everything the command printed, after its end.
fn output(child: &mut NamespaceChild) -> String {
    let mut text = String::new();
    child
        .streams()
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}: {text}");
    text
}

/// Runs one part of [`inside`](crate::inside) in a namespace of its own, where it says by its exit
/// status, or by a line `skip: REASON`, what it found.
fn alone(part: &str) -> Case {
    alone_with(&[part])
}

fn alone_with(arguments: &[&str]) -> Case {
    let takes_a_device = match arguments {
        ["persistent" | "flows" | "owners" | "confine", ..] => true,
        ["conformance", kind, ..] => *kind != "packet",
        _ => false,
    };
    if takes_a_device && !can_open_tun() {
        return Err(Skip("needs root: /dev/net/tun cannot be opened".into()));
    }
    let spec = NamespaceSpec {
        gateways: Vec::new(),
        ..spec()
    };
    let (_gateway, mut child, _) = attach(inside(arguments), &spec);
    child.go().unwrap();
    let text = output(&mut child);
    match text.lines().find_map(|line| line.strip_prefix("skip: ")) {
        Some(reason) => Err(Skip(reason.to_owned())),
        None => Ok(()),
    }
}

fn confined() -> Case {
    let scratch = Scratch::new();
    alone_with(&["confine", scratch.0.to_str().unwrap()])
}

fn look_around(command: Command) -> (String, DeviceName) {
    let (mut gateway, mut child, device) = attach(command, &spec());
    child.go().unwrap();
    gateway.serve(|gateway, datagram| {
        assert_eq!(
            (&datagram.payload[..], datagram.guest_mac),
            (&b"question"[..], MAC)
        );
        assert!(datagram.checksum_is_right);
        gateway.send_udp(&datagram, b"forty-two", 0, false);
        true
    });
    let text = output(&mut child);
    for want in [
        "link eth0 mac 02:00:00:00:00:02 mtu 1480 up true",
        "link lo mac 00:00:00:00:00:00 mtu 65536 up true",
        "resolv.conf \"nameserver 10.77.0.1\\nsearch test.internal\\n\"",
        "answer forty-two",
    ] {
        assert!(
            text.lines().any(|line| line == want),
            "no {want:?} in\n{text}"
        );
    }
    assert_eq!(text.matches("link ").count(), 2, "{text}");
    let inside = "/etc/resolv.conf of the host";
    let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert!(!host.contains("test.internal"), "{inside} was changed");
    (text, device)
}

fn a_command_finds_its_network() -> Case {
    let (text, _) = look_around(inside(&["look"]));
    // In a user namespace the kernel may refuse a fresh /sys.
    let fresh = text.contains("sys [\"eth0\", \"lo\"]\n");
    assert!(fresh || !is_root(), "{text}");
    Ok(())
}

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .unwrap_or_default()
        .lines()
        .any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"))
}

/// Whatever the host's `/etc/resolv.conf` is, the command finds its own.
fn resolv_conf_in_every_state() -> Case {
    if !is_root() {
        return Err(Skip("needs root: to give the helper another /etc".into()));
    }
    if !can_start("unshare") || !can_start("setpriv") {
        return Err(Skip("there is no unshare or setpriv".into()));
    }
    let directory = std::env::temp_dir().join(format!("arcbox-net-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let elsewhere = format!(
        "mount -t tmpfs none {0} && echo old > {0}/r && ln -s {0}/r /etc/resolv.conf",
        directory.display()
    );
    let states = [
        &elsewhere,
        "true",
        "ln -s /no/such/resolv.conf /etc/resolv.conf",
        "mkdir /etc/d && echo old > /etc/d/r && ln -s d/r /etc/resolv.conf",
    ];
    for state in states {
        for prefix in [&[][..], &UNPRIVILEGED] {
            let script = format!("mount -t tmpfs none /etc && {state} && exec \"$0\" \"$@\"");
            let helper = with_prefix(prefix, inside(&["look"]));
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
            command.arg(helper.get_program()).args(helper.get_args());
            look_around(piped(command));
        }
    }
    std::fs::remove_dir(&directory).unwrap();
    Ok(())
}

/// Root without the privileges of namespaces and networks, as in a container. (CAP_SETFCAP stays:
/// without it the kernel maps no root into a user namespace, since Linux 5.12.)
const UNPRIVILEGED: [&str; 3] = ["setpriv", "--bounding-set=-sys_admin,-net_admin", "--"];

fn with_prefix(prefix: &[&str], helper: Command) -> Command {
    let Some((program, arguments)) = prefix.split_first() else {
        return helper;
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .arg(helper.get_program())
        .args(helper.get_args());
    piped(command)
}

fn piped(mut command: Command) -> Command {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

fn can_start(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok()
}

/// Without privileges the helper makes a user namespace.
fn without_privileges_too() -> Case {
    if !is_root() {
        return a_command_finds_its_network();
    }
    if !can_start("setpriv") {
        return Err(Skip("there is no setpriv".into()));
    }
    let (text, _) = look_around(with_prefix(&UNPRIVILEGED, inside(&["look"])));
    assert!(
        text.contains("ping Some(\"0\")"),
        "group 0 alone is mapped: {text}"
    );
    Ok(())
}

/// A user who may not open `/dev/net/tun` gets a virtual Ethernet pair.
fn without_a_tap_device_too() -> Case {
    if !is_root() {
        return Err(Skip("needs root: to become another user".into()));
    }
    let mut probe = Command::new(this_program());
    probe
        .arg("--list")
        .stdout(Stdio::null())
        .uid(65534)
        .gid(65534);
    if !probe.status().is_ok_and(|status| status.success()) {
        return Err(Skip("another user may not read this program".into()));
    }
    let mut command = inside(&["look"]);
    command.uid(65534).gid(65534);
    let open = std::fs::metadata("/dev/net/tun").is_ok_and(|data| {
        std::os::unix::fs::PermissionsExt::mode(&data.permissions()) & 0o006 == 0o006
    });
    let (_, device) = look_around(command);
    let want = if open {
        DeviceName::Tap
    } else {
        DeviceName::PacketSocket
    };
    assert_eq!(device, want);

    // The pair goes with the command's namespace; a TAP device would keep that alive.
    if device == DeviceName::PacketSocket {
        let mut command = inside(&["exit", "0"]);
        command.uid(65534).gid(65534);
        let (mut gateway, mut child, _) = attach(command, &spec());
        child.go().unwrap();
        output(&mut child);
        gateway.serve_until_gone();
    }

    let mut command = inside(&["rounds"]);
    command.uid(65534).gid(65534);
    rounds(command);

    // Whichever it was, the same user gets super-frames through it.
    let mut command = inside(&["count"]);
    command.uid(65534).gid(65534);
    count(command);
    Ok(())
}

/// Partial checksums and a super-frame of three datagrams, as the guest's sockets see them.
fn count(command: Command) {
    let (mut gateway, mut child, _) = attach(command, &spec());
    let have = gateway.backend.capabilities().offloads;
    let agreed = gateway.backend.set_offloads(Offloads::ALL).unwrap();
    assert_eq!(agreed, have);
    child.go().unwrap();
    let payload: Vec<u8> = (0..2500u32).map(|i| (i / 1000) as u8 + 1).collect();
    let uso = have.contains(Offloads::TX_USO);
    gateway.serve(|gateway, datagram| {
        gateway.send_udp(&datagram, &payload[..700], 0, true);
        if uso {
            gateway.send_udp(&datagram, &payload, 1000, true);
        } else {
            payload
                .chunks(1000)
                .for_each(|part| gateway.send_udp(&datagram, part, 0, true));
        }
        gateway.send_udp(&datagram, b"!", 0, true);
        true
    });
    assert_eq!(output(&mut child).trim(), "700/1 1000/1 1000/2 500/3");
}

/// A flood that nobody reads costs frames and nothing else.
fn rounds(command: Command) {
    let (mut gateway, mut child, _) = attach(command, &spec());
    child.go().unwrap();
    // The flood waits for the gateway's address, then goes out at once; wait for its end.
    gateway.serve(|_, datagram| datagram.payload == b"flood");
    let mut line = [0; 8];
    child
        .streams()
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut line)
        .unwrap();
    assert_eq!(&line, b"flooded\n");
    let (mut flood, mut round) = (1, 0u32);
    gateway.serve(|gateway, datagram| {
        if datagram.payload == b"flood" {
            flood += 1;
            return false;
        }
        assert!(datagram.checksum_is_right);
        let payload = datagram.payload.clone();
        gateway.send_udp(&datagram, &payload, 0, false);
        // A question that was asked again is no new one.
        if payload[..4] == round.to_be_bytes() {
            round += 1;
        } else {
            assert_eq!(payload[..4], (round - 1).to_be_bytes());
        }
        round == 400
    });
    assert!((1..=1000).contains(&flood), "{flood}");
    output(&mut child);
}

fn frames_go_round() -> Case {
    rounds(inside(&["rounds"]));
    Ok(())
}

fn super_frames_go_in() -> Case {
    count(inside(&["count"]));
    Ok(())
}

fn super_frames_come_out_where_asked_for() -> Case {
    for want in [Offloads::NONE, Offloads::ALL] {
        let (mut gateway, mut child, device) = attach(inside(&["burst", "1000"]), &spec());
        let agreed = gateway.backend.set_offloads(want).unwrap();
        child.go().unwrap();
        let (mut bytes, mut frames) = (Vec::new(), 0);
        gateway.serve(|gateway, datagram| {
            assert!(datagram.checksum_is_right);
            bytes.extend_from_slice(&datagram.payload);
            frames += 1;
            if agreed.is_empty() {
                assert_eq!(
                    datagram.header.flags & net_datapath::VirtioNetHdr::NEEDS_CSUM,
                    0
                );
            }
            if datagram.header.is_gso() {
                assert_eq!(
                    (datagram.header.gso_size, datagram.header.csum_start),
                    (1000, 34)
                );
            }
            if bytes.len() == 2500 {
                gateway.send_udp(&datagram, b"bye", 0, false);
            }
            bytes.len() == 2500
        });
        assert!(
            bytes
                .iter()
                .enumerate()
                .all(|(i, byte)| *byte == (i % 251) as u8)
        );
        let super_frame = agreed.contains(Offloads::RX_USO);
        assert_eq!(
            frames,
            if super_frame { 1 } else { 3 },
            "{agreed} by {device}"
        );
        output(&mut child);
    }
    Ok(())
}

fn an_existing_namespace_gets_an_interface() -> Case {
    let mut command = inside(&["wait"]);
    command.stdin(Stdio::piped());
    let (gateway, mut child, _) = attach(command, &spec());
    child.go().unwrap();
    let pid = child.id();
    let second = NamespaceSpec {
        target: Target::Pid(pid),
        interface: "eth1".into(),
        addresses: vec!["10.78.0.2/24".parse().unwrap()],
        gateways: Vec::new(),
        resolv_conf: None,
        mac: None,
        ..spec()
    };
    let joined = spawn(inside(&[]), &second).unwrap_or_else(|error| panic!("{error}"));
    assert!(joined.child.is_none());

    // The same name again is in use, and nothing is left behind by the attempt.
    let error = spawn(inside(&[]), &second).unwrap_err();
    assert!(
        matches!(
            &error,
            LinuxError::Host {
                errno: libc::EBUSY | libc::EEXIST,
                ..
            }
        ),
        "{error}"
    );

    drop(child.streams().stdin.take());
    let text = output(&mut child);
    for want in ["link eth0 up true", "link eth1 up true"] {
        assert!(
            text.lines().any(|line| line == want),
            "no {want:?} in\n{text}"
        );
    }
    drop((gateway, joined));
    Ok(())
}

fn an_interface_that_is_deleted_is_told() -> Case {
    let (mut gateway, mut child, _) = attach(inside(&["unplug"]), &spec());
    child.go().unwrap();
    output(&mut child);
    gateway.serve_until_gone();
    assert_eq!(gateway.backend.statistics().disconnects, 1);
    Ok(())
}

/// A helper that is never let go ends with its handle, not by itself.
fn a_helper_ends_with_its_handle() -> Case {
    let (_gateway, child, _) = attach(inside(&["exit", "0"]), &spec());
    let process = std::path::PathBuf::from(format!("/proc/{}", child.id()));
    assert!(process.exists());
    drop(child);
    assert!(!process.exists());
    Ok(())
}

fn signals_and_statuses_pass() -> Case {
    let (_gateway, mut child, _) = attach(inside(&["exit", "7"]), &spec());
    child.go().unwrap();
    assert!(child.go().is_err(), "once");
    assert_eq!(child.wait().unwrap().code(), Some(7));

    let mut command = inside(&["wait"]);
    command.stdin(Stdio::piped());
    let (_gateway, mut child, _) = attach(command, &spec());
    child.go().unwrap();
    assert_eq!(child.try_wait().unwrap(), None);
    assert!(child.pidfd().is_some());
    child.signal(libc::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
    assert!(
        child.signal(libc::SIGTERM).is_err(),
        "its number may be another's by now"
    );
    Ok(())
}

fn refusals_say_why() -> Case {
    let refused = |target: &str| {
        let spec = NamespaceSpec {
            target: target.parse().unwrap(),
            ..spec()
        };
        spawn(inside(&[]), &spec).unwrap_err().to_string()
    };
    let text = refused("no-such-namespace-77");
    assert!(
        text.contains("no-such-namespace-77") && text.contains("ip netns"),
        "{text}"
    );
    assert_eq!(refused("4194999"), "there is no process 4194999");

    // A program that is no helper.
    for program in ["/bin/true", "/bin/false"] {
        let mut command = Command::new(OsStr::new(program));
        command.stdin(Stdio::null());
        let error = spawn(command, &spec()).unwrap_err();
        assert!(matches!(error, LinuxError::Helper(_)), "{error}");
    }
    let error = spawn(Command::new("/no/such/program"), &spec()).unwrap_err();
    assert_eq!(error.errno(), Some(libc::ENOENT));
    let bad = NamespaceSpec {
        interface: "a/b".into(),
        ..spec()
    };
    assert!(matches!(
        spawn(inside(&[]), &bad),
        Err(LinuxError::Invalid(_))
    ));
    Ok(())
}

fn can_open_tun() -> bool {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true);
    options.open("/dev/net/tun").is_ok()
}

fn devices_of_every_kind() -> Case {
    if !can_open_tun() {
        return Err(Skip("needs root: /dev/net/tun cannot be opened".into()));
    }
    let (_gateway, mut child, _) = attach(inside(&["devices"]), &spec());
    child.go().unwrap();
    assert_eq!(output(&mut child).trim(), "devices are as they should be");
    Ok(())
}
