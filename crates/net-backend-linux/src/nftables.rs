//! One table of nftables rules for each network, and nobody else's.
//!
//! | part | what it does |
//! |---|---|
//! | [`Table`] | what a network's rules are to do: how far guests reach, what is published |
//! | [`Nft`] | the program `nft`: puts a table in the kernel, takes it away, lists ours |
//!
//! A network `NAME` has the table `inet arcbox-NAME` and, where its guests are kept from one another,
//! `bridge arcbox-NAME`. A change replaces both as a whole, in one transaction of the kernel: there
//! is no moment with half of the rules, and connections that exist go on.
//!
//! **What our rules cannot do:** an `accept` ends the evaluation of one table, a `drop` that of all.
//! Where another table drops what passes through the host (Docker sets the policy of `ip filter
//! FORWARD` to drop), our guests do not reach the outside until that table is told;
//! [`Nft::forward_obstacles`] finds such tables. Rules made by `iptables-legacy` cannot be seen by
//! `nft` at all.
//!
//! Where the module `br_netfilter` is loaded, a guest that asks for a port that is published to itself
//! is led there within the bridge, which gives no frame back to the port it came from: it is answered
//! only if that port is a hairpin ([`PortOptions`](crate::netlink::PortOptions)). Others are.
//!
//! Rules are written as the JSON of `libnftables-json(5)`, with the types of the crate `nftables`.
//! The program is started here and not by that crate, which lets the program's error messages go to
//! the terminal instead of into the error.

mod rules;
mod table;

use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use nftables::batch::Batch;
use nftables::schema::{self, NfListObject, NfObject, Nftables};
use nftables::types::{NfChainPolicy, NfFamily, NfHook};

use crate::{LinuxError, Result, sys};

pub use table::{Forward, Isolation, Protocol, Reach, Table};

/// What every table of ours begins with.
const PREFIX: &str = "arcbox-";

/// Where `nft` is on systems whose users do not have the directory in their path.
const BEYOND_PATH: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// The program `nft`.
#[derive(Clone, Debug)]
pub struct Nft {
    program: PathBuf,
    /// Open in the program while it runs.
    lock: Option<Arc<OwnedFd>>,
}

impl Nft {
    /// Finds the program, and has the kernel check every kind of rule that this module makes. Nothing
    /// is changed.
    ///
    /// # Errors
    /// [`LinuxError::Nftables`] with what is missing and what to do: the program, the kernel's part,
    /// privileges; a host with `iptables` alone is told so.
    pub fn probe() -> Result<Self> {
        let nft = Self {
            program: find("nft")
                .ok_or_else(|| LinuxError::Nftables(no_program(find("iptables"))))?,
            lock: None,
        };
        let text = encode(Table::sample().batch(false))?;
        nft.run(&["--check", "-j", "-f", "-"], Some(&text))
            .map_err(|error| match error {
                LinuxError::Nftables(why) => LinuxError::Nftables(explain(&why)),
                other => other,
            })?;
        Ok(nft)
    }

    /// Leaves `lock` open in the program whenever it runs. It may outlive this process for a moment,
    /// and finish what it was told: a lock of `flock(2)` is then held until it has.
    #[must_use]
    pub fn holding(self, lock: Arc<OwnedFd>) -> Self {
        Self {
            lock: Some(lock),
            ..self
        }
    }

    /// Puts a network's rules in the kernel, in place of those it had: all or, on error, none.
    ///
    /// # Errors
    /// [`LinuxError::Invalid`] for a table that makes no sense; [`LinuxError::Nftables`] with the
    /// program's message.
    pub fn apply(&self, table: &Table) -> Result<()> {
        table.validate()?;
        // A kernel without rules for bridges refuses even to forget some: only where there are any.
        let forget_bridge =
            table.isolation.is_none() && self.tables(NfFamily::Bridge)?.contains(&table.network);
        let text = encode(table.batch(forget_bridge))?;
        self.run(&["-j", "-f", "-"], Some(&text)).map(drop)
    }

    /// Takes a network's rules away, if there are any.
    ///
    /// # Errors
    /// [`LinuxError::Nftables`] with the program's message.
    pub fn delete(&self, network: &str) -> Result<()> {
        let mut batch = Batch::new();
        for family in [NfFamily::INet, NfFamily::Bridge] {
            if self.tables(family)?.iter().any(|name| name == network) {
                batch.delete(NfListObject::Table(rules::table(family, network)));
            }
        }
        let text = encode(batch)?;
        self.run(&["-j", "-f", "-"], Some(&text)).map(drop)
    }

    /// Whether the kernel has rules of this network.
    ///
    /// # Errors
    /// [`LinuxError::Nftables`] with the program's message.
    pub fn exists(&self, network: &str) -> Result<bool> {
        Ok(self.networks()?.iter().any(|name| name == network))
    }

    /// The names of all networks that have rules in the kernel, sorted.
    ///
    /// # Errors
    /// [`LinuxError::Nftables`] with the program's message.
    pub fn networks(&self) -> Result<Vec<String>> {
        let mut names = self.tables(NfFamily::INet)?;
        names.extend(self.tables(NfFamily::Bridge)?);
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// What in other tables drops packets on their way through the host unless a rule there accepts
    /// them; one line for each, with what to do about it.
    ///
    /// # Errors
    /// [`LinuxError::Nftables`] with the program's message.
    pub fn forward_obstacles(&self, bridge: &str) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for object in self.list(&["-j", "list", "chains"])? {
            let NfListObject::Chain(chain) = object else {
                continue;
            };
            let routed = matches!(chain.family, NfFamily::IP | NfFamily::IP6 | NfFamily::INet);
            if routed
                && chain.hook == Some(NfHook::Forward)
                && chain.policy == Some(NfChainPolicy::Drop)
                && !chain.table.starts_with(PREFIX)
            {
                found.push(obstacle(&chain, bridge));
            }
        }
        if std::fs::read_to_string("/proc/net/ip_tables_names").is_ok_and(|names| !names.is_empty())
        {
            found.push(
                "rules of iptables-legacy are loaded, which nft cannot see: iptables-legacy -S FORWARD"
                    .into(),
            );
        }
        Ok(found)
    }

    /// The networks that have a table of a family.
    fn tables(&self, family: NfFamily) -> Result<Vec<String>> {
        let objects = self.list(&["-j", "list", "tables"])?;
        let names = objects.into_iter().filter_map(|object| match object {
            NfListObject::Table(table) if table.family == family => {
                table.name.strip_prefix(PREFIX).map(str::to_owned)
            }
            _ => None,
        });
        Ok(names.collect())
    }

    fn list(&self, arguments: &[&str]) -> Result<Vec<NfListObject<'static>>> {
        let text = self.run(arguments, None)?;
        let answer: Nftables<'static> = serde_json::from_str(&text).map_err(|error| {
            LinuxError::Nftables(format!("nft's answer is not understood: {error}"))
        })?;
        let objects = answer.objects.into_owned().into_iter();
        let listed = objects.filter_map(|object| match object {
            NfObject::ListObject(object) => Some(object),
            NfObject::CmdObject(_) => None,
        });
        Ok(listed.collect())
    }

    /// Runs the program; the error is the first line of its complaint.
    fn run(&self, arguments: &[&str], input: Option<&str>) -> Result<String> {
        let failed = |error: std::io::Error| {
            LinuxError::Nftables(format!("cannot run {}: {error}", self.program.display()))
        };
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(input.map_or_else(Stdio::null, |_| Stdio::piped()))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(lock) = &self.lock {
            sys::inherit(&mut command, lock.as_fd());
        }
        let mut child = command.spawn().map_err(failed)?;
        // The program reads everything before it writes; a pipe that breaks is told by its status.
        if let (Some(mut pipe), Some(text)) = (child.stdin.take(), input) {
            let _ = pipe.write_all(text.as_bytes());
        }
        let output = child.wait_with_output().map_err(failed)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        let first = complaint.lines().find(|line| !line.trim().is_empty());
        Err(LinuxError::Nftables(match first {
            Some(line) => line.trim_start_matches("Error: ").to_owned(),
            None => format!("nft ended with {}", output.status),
        }))
    }
}

fn encode(batch: Batch<'_>) -> Result<String> {
    serde_json::to_string(&batch.to_nftables())
        .map_err(|error| LinuxError::Nftables(format!("cannot write the rules: {error}")))
}

/// The program of this name, in the path or where administrators have it.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .collect();
    directories.extend(BEYOND_PATH.map(PathBuf::from));
    let candidates = directories.iter().map(|directory| directory.join(name));
    candidates.into_iter().find(|file| is_program(file))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

fn no_program(iptables: Option<PathBuf>) -> String {
    match iptables {
        None => "the program nft is not installed (Debian, Fedora, Arch: package nftables)".into(),
        Some(iptables) => format!(
            "this host has {} but not nft, which does not mix with anybody's iptables rules \
             (Debian, Fedora, Arch: package nftables)",
            iptables.display()
        ),
    }
}

/// What to do about a refusal of the check.
fn explain(complaint: &str) -> String {
    let remedy = if complaint.contains("not permitted") || complaint.contains("must be root") {
        "needs CAP_NET_ADMIN: run as root, or in a network namespace of your own"
    } else if complaint.contains("No such file") {
        "a part of the kernel's nf_tables is missing: modprobe nf_tables nft_nat nft_masq nft_fib_inet"
    } else if complaint.contains("not supported") {
        "this kernel has no nf_tables, or no NAT in family inet (Linux 5.2)"
    } else {
        return complaint.to_owned();
    };
    format!("{complaint} ({remedy})")
}

fn obstacle(chain: &schema::Chain<'_>, bridge: &str) -> String {
    let family = match chain.family {
        NfFamily::IP => "ip",
        NfFamily::IP6 => "ip6",
        _ => "inet",
    };
    let (table, name) = (&chain.table, &chain.name);
    // Docker keeps one chain for the rules of others, and never flushes it.
    let target = match (family, &name[..]) {
        ("ip" | "ip6", "FORWARD") => "DOCKER-USER, where Docker made it, or FORWARD",
        _ => &name[..],
    };
    format!(
        "chain {name} of table {family} {table} drops what passes through this host; let the network \
         through with accepting rules for iifname and oifname {bridge} at the head of {target}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_a_remedy() {
        let text = no_program(Some("/usr/sbin/iptables".into()));
        assert!(text.contains("/usr/sbin/iptables but not nft"), "{text}");
        assert!(no_program(None).contains("package nftables"));
        for (complaint, remedy) in [
            (
                "Operation not permitted (you must be root)",
                "CAP_NET_ADMIN",
            ),
            (
                "Could not process rule: No such file or directory",
                "modprobe",
            ),
            (
                "Could not process rule: Operation not supported",
                "Linux 5.2",
            ),
        ] {
            assert!(explain(complaint).contains(remedy), "{complaint}");
        }
        assert_eq!(explain("syntax error"), "syntax error");
    }

    #[test]
    fn programs_are_files_that_may_be_run() {
        assert!(find("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(find("no-such-program-anywhere"), None);
        assert!(!is_program(Path::new("/etc/passwd")) && !is_program(Path::new("/etc")));
    }

    #[test]
    fn a_policy_that_drops_is_named_with_its_remedy() {
        let chain = schema::Chain {
            family: NfFamily::IP,
            table: "filter".into(),
            name: "FORWARD".into(),
            ..schema::Chain::default()
        };
        let text = obstacle(&chain, "ab-net");
        for word in ["ip filter", "FORWARD", "DOCKER-USER", "ab-net"] {
            assert!(text.contains(word), "{text}");
        }
    }
}
