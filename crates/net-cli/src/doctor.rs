//! `arcbox-net doctor`: what this machine can and cannot do, and why.

use std::process::ExitCode;

use crate::output::say;

/// One thing looked at: what it is for, and whether it is there.
struct Finding {
    what: &'static str,
    result: Result<String, String>,
    /// Whether user-mode networking is impossible without it.
    needed: bool,
}

/// Prints every finding; success if user-mode networking works here.
pub(crate) fn doctor() -> ExitCode {
    say(format_args!(
        "arcbox-net {} on {} {}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    ));
    let mut works = true;
    for finding in findings() {
        let (mark, details) = match &finding.result {
            Ok(details) => ("yes", details),
            Err(details) => ("no", details),
        };
        works &= finding.result.is_ok() || !finding.needed;
        say(format_args!("  {mark:<4} {:<40} {details}", finding.what));
    }
    say(format_args!(
        "{}",
        match works {
            true => "User-mode networking works here.",
            false => "User-mode networking does not work here; see the lines marked `no`.",
        }
    ));
    if works {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn findings() -> Vec<Finding> {
    let mut all = Vec::new();
    let mut add = |what, needed, result| {
        all.push(Finding {
            what,
            result,
            needed,
        })
    };
    add(
        "sockets for QEMU, vfkit, libkrun, bess",
        true,
        std::os::unix::net::UnixStream::pair()
            .map(|_| "Unix sockets".to_owned())
            .map_err(|err| err.to_string()),
    );
    #[cfg(target_os = "linux")]
    {
        for (what, result) in crate::namespace::probes() {
            add(what, false, result);
        }
        add(
            "engine kernel: bridge, TAP, nftables",
            false,
            net_manager::kernel_can(net_manager::NetworkMode::Nat)
                .map(|()| "`up` takes it unless told otherwise".to_owned())
                .map_err(|why| format!("`up` takes engine user: {why}")),
        );
        add(
            "the serving process is confined",
            false,
            crate::keeper::probe_confinement(),
        );
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        add(
            "SO_PEEK_OFF for TCP (Linux 6.9)",
            false,
            peek_offset(release.trim()),
        );
    }
    #[cfg(target_os = "macos")]
    add("vmnet.framework (--vmnet)", false, crate::vmnet::probe());
    add(
        "ping outside hosts (unprivileged ICMP)",
        false,
        net_manager::probe_ping_sockets()
            .map(|()| "ICMP datagram sockets".to_owned())
            .map_err(|why| why.to_string()),
    );
    all
}

/// Kernels from 6.9 on peek into a TCP stream at an offset; older ones copy more.
#[cfg(target_os = "linux")]
fn peek_offset(release: &str) -> Result<String, String> {
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (6, 9) {
        Ok(format!("kernel {release}"))
    } else {
        Err(format!("kernel {release}: downloads cost more copying"))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::peek_offset;

    #[test]
    fn kernel_releases_compare_as_numbers() {
        for (release, new) in [
            ("6.9.0", true),
            ("6.18.44-x", true),
            ("6.8.12", false),
            ("5.15.0-91-generic", false),
            ("7.0-rc1", true),
            ("", false),
        ] {
            assert_eq!(peek_offset(release).is_ok(), new, "{release}");
        }
    }
}
