//! Everything that a network may change on its host, to be compared before and after.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use net_backend_linux::netlink::Netlink;

/// Interfaces with addresses and routes, rules, and settings.
#[derive(Debug, PartialEq)]
pub(super) struct Snapshot(BTreeMap<String, String>);

impl Snapshot {
    pub(super) fn take(netlink: &Netlink) -> Self {
        let mut all = BTreeMap::new();
        let links = netlink.links().unwrap();
        for link in &links {
            let bridge = links.iter().find(|it| Some(it.index) == link.controller);
            let mut routes: Vec<_> = netlink.routes(link.index).unwrap();
            routes.sort_by_key(|route| format!("{route:?}"));
            let mut addresses = netlink.addresses(link.index).unwrap();
            // What was advertised lasts until it is advertised again.
            for address in &mut addresses {
                address.lifetime = address.lifetime.map(|_| (0, 0));
            }
            addresses.sort_by_key(|address| address.network);
            let text = format!(
                "{} {:?} {} {} {:?} {:?} {:?}\n{:?}\n{routes:?}",
                link.index,
                link.mac,
                link.mtu,
                link.up,
                bridge.map(|bridge| &bridge.name),
                link.kind,
                link.alias,
                addresses,
            );
            all.insert(format!("link {}", link.name), text);
        }
        let rules = Command::new("nft").args(["list", "ruleset"]).output();
        let rules = rules.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        all.insert("rules".to_owned(), rules.unwrap_or_default());
        settings(Path::new("/proc/sys/net"), &mut all);
        Self(all)
    }

    /// What is different, one line each.
    pub(super) fn difference(&self, other: &Self) -> String {
        let keys = self.0.keys().chain(other.0.keys());
        let mut lines: Vec<String> = keys
            .filter(|key| self.0.get(*key) != other.0.get(*key))
            .map(|key| {
                let of = |it: &Self| it.0.get(key).cloned().unwrap_or_else(|| "nothing".into());
                format!("{key}:\n  before {}\n  after  {}", of(self), of(other))
            })
            .collect();
        lines.sort();
        lines.dedup();
        lines.join("\n")
    }

    #[track_caller]
    pub(super) fn assert_same(&self, netlink: &Netlink) {
        let difference = self.difference(&Self::take(netlink));
        assert!(difference.is_empty(), "{difference}");
    }
}

/// Every setting below a directory that can be read, but for one that counts connections.
fn settings(directory: &Path, all: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            settings(&path, all);
        } else if !path.ends_with("nf_conntrack_count")
            && let Ok(text) = fs::read_to_string(&path)
        {
            all.insert(path.display().to_string(), text.trim().to_owned());
        }
    }
}
