//! What this machine allows, and why not: the findings of `doctor`.
//!
//! Each probe tries the thing itself where that leaves no trace, and reads the kernel's switches
//! to name the one that forbids it.

use std::fs::{self, OpenOptions};
use std::io;
use std::process::{Command, Stdio};

use crate::sys;
use crate::tap::TUN_PATH;

/// One finding.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// Whether it works.
    pub works: bool,
    /// What was found; where it does not work, what to do about it.
    pub detail: String,
}

impl Finding {
    fn new(what: &'static str, works: bool, detail: impl Into<String>) -> Self {
        Self {
            what,
            works,
            detail: detail.into(),
        }
    }
}

/// Every finding, in the order in which they matter.
pub fn all() -> Vec<Finding> {
    vec![namespaces(), tun_device(), overlay(), unprivileged_ping()]
}

/// Whether this user can make a network namespace of its own, with mounts.
pub fn namespaces() -> Finding {
    let what = "user and network namespaces";
    let mut command = Command::new("/bin/true");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    sys::try_namespaces_before_exec(&mut command);
    match command.status() {
        // The namespaces were made; whether there is a /bin/true is not the question.
        Ok(_) => Finding::new(what, true, "allowed"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Finding::new(what, true, "allowed")
        }
        Err(error) => Finding::new(what, false, format!("{error}: {}", namespace_restriction())),
    }
}

/// Which switch forbids namespaces, and how to set it.
pub(crate) fn namespace_restriction() -> String {
    if read_number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        return "AppArmor forbids unprivileged user namespaces; as root: sysctl -w \
                kernel.apparmor_restrict_unprivileged_userns=0, or give the program a profile \
                with \"userns,\""
            .into();
    }
    if read_number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        return "as root: sysctl -w kernel.unprivileged_userns_clone=1".into();
    }
    for kind in ["user", "net", "mnt"] {
        if read_number(&format!("/proc/sys/user/max_{kind}_namespaces")) == Some(0) {
            return format!("as root: sysctl -w user.max_{kind}_namespaces=10000");
        }
    }
    "a security module or a container's seccomp profile forbids them; in a container, allow \
     unshare and mount, or run as root with CAP_SYS_ADMIN"
        .into()
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Whether TAP devices can be made, given the namespace for them.
pub fn tun_device() -> Finding {
    match OpenOptions::new().read(true).write(true).open(TUN_PATH) {
        Ok(_) => Finding::new(TUN_PATH, true, "can be opened"),
        Err(error) => {
            let remedy = match error.kind() {
                io::ErrorKind::PermissionDenied => "as root: chmod 0666 /dev/net/tun",
                _ => "as root: modprobe tun",
            };
            Finding::new(
                TUN_PATH,
                false,
                format!("{error}; namespaces get a virtual Ethernet pair instead ({remedy})"),
            )
        }
    }
}

/// Whether `/etc/resolv.conf` can be had where the host has none. Where it is there, mounting over
/// it is enough.
pub fn overlay() -> Finding {
    let what = "resolv.conf of a namespace";
    if fs::canonicalize("/etc/resolv.conf").is_ok() {
        return Finding::new(what, true, "mounted over the host's");
    }
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let there = known.lines().any(|line| line.ends_with("\toverlay"));
    let detail = if there {
        "there is no /etc/resolv.conf: by an overlay over /etc"
    } else {
        "there is no /etc/resolv.conf and no overlayfs; as root: touch /etc/resolv.conf, or \
         modprobe overlay"
    };
    Finding::new(what, there, detail)
}

/// Whether this user may send echo requests, which is how those of guests are relayed.
pub fn unprivileged_ping() -> Finding {
    let what = "echo requests to outside hosts";
    let path = "/proc/sys/net/ipv4/ping_group_range";
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut numbers = text.split_whitespace().map(str::parse::<u32>);
    let (Some(Ok(first)), Some(Ok(last))) = (numbers.next(), numbers.next()) else {
        return Finding::new(what, false, format!("{path} cannot be read"));
    };
    let works = sys::groups()
        .iter()
        .any(|group| (first..=last).contains(group));
    let detail = if works {
        format!("group range {first} to {last}")
    } else {
        "outside of net.ipv4.ping_group_range; as root: sysctl -w \
         net.ipv4.ping_group_range=\"0 2147483647\""
            .into()
    };
    Finding::new(what, works, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_says_what_and_why() {
        for finding in all() {
            assert!(
                !finding.what.is_empty() && !finding.detail.is_empty(),
                "{finding:?}"
            );
        }
        assert!(!namespace_restriction().is_empty());
    }
}
