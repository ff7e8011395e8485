//! The floors: who may depend on whom, and where `unsafe` may stand.
//!
//! The table below is the one of `docs/ARCHITECTURE.md`. A crate depends only on crates of lower
//! floors; below floor 4 it names no platform crate; and its `lib.rs` carries the lint level its
//! row promises. Dependencies of tests follow the same direction, but may name any outside crate.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{Result, cmd};

/// What a crate's row says about `unsafe`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unsafe {
    /// None: the crate root has `#![forbid(unsafe_code)]`.
    Forbid,
    /// In named modules only: the crate root has `#![deny(unsafe_code)]` (or forbids it), so
    /// that each module that needs it says so.
    Modules,
    /// Part of the crate's job; each block still carries its safety comment by lint.
    Yes,
}

/// One row of the floor table.
struct Row {
    floor: u8,
    name: &'static str,
    code: Unsafe,
    /// Builds without the standard library.
    no_std: bool,
}

const fn row(floor: u8, name: &'static str, code: Unsafe) -> Row {
    Row {
        floor,
        name,
        code,
        no_std: false,
    }
}

const fn core(floor: u8, name: &'static str, code: Unsafe) -> Row {
    Row {
        floor,
        name,
        code,
        no_std: true,
    }
}

const TABLE: &[Row] = &[
    core(1, "net-wire", Unsafe::Modules),
    core(2, "net-datapath", Unsafe::Yes),
    row(2, "net-dhcp", Unsafe::Forbid),
    row(2, "net-dns", Unsafe::Forbid),
    core(3, "net-nat", Unsafe::Modules),
    row(3, "net-switch", Unsafe::Forbid),
    row(3, "net-gateway", Unsafe::Forbid),
    row(3, "net-backend", Unsafe::Forbid),
    row(4, "net-backend-socket", Unsafe::Modules),
    row(4, "net-backend-linux", Unsafe::Modules),
    row(4, "net-backend-vmnet", Unsafe::Modules),
    row(4, "net-virtio", Unsafe::Modules),
    row(4, "net-usernet", Unsafe::Modules),
    row(5, "net-manager", Unsafe::Forbid),
    row(6, "arcbox-net", Unsafe::Forbid),
    row(6, "net-cli", Unsafe::Forbid),
];

/// Tools beside the house: they may use any floor, and no floor may use them.
const TOOLS: &[&str] = &["xtask", "net-benches"];

/// The first floor that may name a platform.
const PLATFORM_FLOOR: u8 = 4;

/// Crates that are an operating system's, an event loop's or a clock's.
const PLATFORM: &[&str] = &[
    "async-io",
    "async-std",
    "caps",
    "getrandom",
    "io-uring",
    "kvm-ioctls",
    "landlock",
    "libc",
    "linux-raw-sys",
    "mio",
    "netlink-packet-route",
    "netlink-sys",
    "nftables",
    "nix",
    "polling",
    "rand",
    "rtnetlink",
    "rustix",
    "seccompiler",
    "signal-hook",
    "smol",
    "socket2",
    "tokio",
    "tun",
    "tun-tap",
    "vhost",
    "virtio-queue",
    "vm-memory",
    "vmm-sys-util",
    "vmnet",
    "windows-sys",
];

/// Checks the workspace and prints its floors.
pub(crate) fn run() -> Result<()> {
    let text = cmd::output(&mut cmd::cargo([
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
        "--locked",
    ]))?;
    let metadata: Value =
        serde_json::from_str(&text).map_err(|e| format!("cargo metadata: {e}"))?;
    let packages = read_packages(&metadata)?;

    let mut faults = edges(&packages);
    for package in &packages {
        if let Some(row) = TABLE.iter().find(|r| r.name == package.name) {
            faults.extend(root_attributes(row, &package.root)?);
        }
    }
    for floor in 1..=6 {
        let names: Vec<&str> = TABLE
            .iter()
            .filter(|r| r.floor == floor)
            .map(|r| r.name)
            .collect();
        println!("floor {floor}  {}", names.join(", "));
    }
    if faults.is_empty() {
        println!(
            "layers: {} crates, every edge goes down",
            packages.len() - TOOLS.len()
        );
        return Ok(());
    }
    for fault in &faults {
        eprintln!("layers: {fault}");
    }
    Err(format!("{} faults against the floor table", faults.len()))
}

/// A member of the workspace, as far as the floors are concerned.
struct Package {
    name: String,
    /// The file of its library, or of its program where it has no library.
    root: PathBuf,
    /// Name and kind of each direct dependency.
    dependencies: Vec<(String, Kind)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Linked into the crate, or run by its build script.
    Normal,
    /// For its tests, examples and benchmarks.
    Dev,
}

fn read_packages(metadata: &Value) -> Result<Vec<Package>> {
    let list = metadata["packages"]
        .as_array()
        .ok_or("cargo metadata names no packages")?;
    list.iter().map(read_package).collect()
}

fn read_package(value: &Value) -> Result<Package> {
    let name = value["name"]
        .as_str()
        .ok_or("a package without a name")?
        .to_owned();
    let targets = value["targets"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let of_kind = |wanted: &str| {
        targets.iter().find(|t| {
            t["kind"]
                .as_array()
                .is_some_and(|kinds| kinds.iter().any(|k| k == wanted))
        })
    };
    let root = of_kind("lib")
        .or_else(|| of_kind("bin"))
        .and_then(|t| t["src_path"].as_str())
        .map(PathBuf::from)
        .unwrap_or_default();
    let mut dependencies = Vec::new();
    for dependency in value["dependencies"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
    {
        let to = dependency["name"]
            .as_str()
            .ok_or("a dependency without a name")?;
        let kind = if dependency["kind"] == "dev" {
            Kind::Dev
        } else {
            Kind::Normal
        };
        dependencies.push((to.to_owned(), kind));
    }
    Ok(Package {
        name,
        root,
        dependencies,
    })
}

/// Every way in which the packages break the table.
fn edges(packages: &[Package]) -> Vec<String> {
    let floors: BTreeMap<&str, u8> = TABLE.iter().map(|r| (r.name, r.floor)).collect();
    let mut faults = Vec::new();
    for name in floors.keys() {
        if !packages.iter().any(|p| p.name == *name) {
            faults.push(format!(
                "{name} stands in the table but not in the workspace"
            ));
        }
    }
    for package in packages {
        let name = package.name.as_str();
        if TOOLS.contains(&name) {
            continue;
        }
        let Some(&floor) = floors.get(name) else {
            faults.push(format!("{name} has no row in the floor table"));
            continue;
        };
        for (to, kind) in &package.dependencies {
            faults.extend(edge(name, floor, to, *kind, &floors));
        }
    }
    faults
}

/// What is wrong with one edge, if anything.
fn edge(
    name: &str,
    floor: u8,
    to: &str,
    kind: Kind,
    floors: &BTreeMap<&str, u8>,
) -> Option<String> {
    if TOOLS.contains(&to) {
        return Some(format!(
            "{name} depends on {to}, which is a tool beside the house"
        ));
    }
    // A crate's tests may ask the crate itself for a feature.
    if kind == Kind::Dev && to == name {
        return None;
    }
    if let Some(&other) = floors.get(to) {
        let what = if kind == Kind::Dev { "tests of " } else { "" };
        return (other >= floor).then(|| {
            format!("{what}{name} (floor {floor}) may not depend on {to} (floor {other})")
        });
    }
    (kind == Kind::Normal && floor < PLATFORM_FLOOR && PLATFORM.contains(&to)).then(|| {
        format!("{name} (floor {floor}) names the platform crate {to}; platforms begin at floor 4")
    })
}

/// Compares the attributes at a crate's root with its row.
fn root_attributes(row: &Row, root: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(root).map_err(|e| format!("{}: {e}", root.display()))?;
    Ok(attribute_faults(row, &text))
}

fn attribute_faults(row: &Row, text: &str) -> Vec<String> {
    let has = |attribute: &str| text.lines().any(|line| line.trim() == attribute);
    let forbids = has("#![forbid(unsafe_code)]");
    let denies = has("#![deny(unsafe_code)]");
    let mut faults = Vec::new();
    if row.code == Unsafe::Forbid && !forbids {
        faults.push(format!(
            "{} lacks #![forbid(unsafe_code)] at its root",
            row.name
        ));
    }
    if row.code == Unsafe::Modules && !forbids && !denies {
        faults.push(format!(
            "{} has neither #![forbid(unsafe_code)] nor #![deny(unsafe_code)] at its root",
            row.name
        ));
    }
    let no_std = text.lines().any(|line| {
        let line = line.trim();
        line == "#![no_std]" || (line.starts_with("#![cfg_attr(") && line.ends_with("no_std)]"))
    });
    if row.no_std && !no_std {
        faults.push(format!("{} is not no_std at its root", row.name));
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A workspace with every crate of the table and no edges but the given ones.
    fn workspace(extra: &[(&str, &str, Option<&str>)]) -> Vec<Package> {
        let mut packages: Vec<Value> = TABLE
            .iter()
            .map(|r| json!({ "name": r.name, "targets": [], "dependencies": [] }))
            .collect();
        for tool in TOOLS {
            packages.push(json!({ "name": tool, "targets": [], "dependencies": [
                { "name": "arcbox-net", "kind": null }
            ] }));
        }
        for (from, to, kind) in extra {
            if !packages.iter().any(|p| p["name"] == *from) {
                packages.push(json!({ "name": from, "targets": [], "dependencies": [] }));
            }
            let package = packages.iter_mut().find(|p| p["name"] == *from).unwrap();
            let edges = package["dependencies"].as_array_mut().unwrap();
            edges.push(json!({ "name": to, "kind": kind }));
        }
        read_packages(&json!({ "packages": packages })).unwrap()
    }

    fn faults(extra: &[(&str, &str, Option<&str>)]) -> Vec<String> {
        edges(&workspace(extra))
    }

    #[test]
    fn edges_that_go_down_are_fine() {
        let down = [
            ("net-datapath", "net-wire", None),
            ("net-manager", "net-usernet", None),
            ("net-cli", "net-manager", None),
            ("net-gateway", "net-dns", Some("dev")),
            ("net-usernet", "libc", None),
            ("net-nat", "hashbrown", None),
        ];
        assert_eq!(faults(&down), [""; 0]);
    }

    #[test]
    fn upward_and_level_edges_are_not() {
        for (from, to) in [
            ("net-wire", "net-datapath"),
            ("net-dhcp", "net-dns"),
            ("net-cli", "arcbox-net"),
            ("net-switch", "net-manager"),
        ] {
            for kind in [None, Some("dev"), Some("build")] {
                let found = faults(&[(from, to, kind)]);
                assert_eq!(found.len(), 1, "{from} -> {to} {kind:?}: {found:?}");
                assert!(
                    found[0].contains(from) && found[0].contains(to),
                    "{found:?}"
                );
            }
        }
    }

    #[test]
    fn platforms_begin_at_floor_four() {
        for platform in PLATFORM {
            for low in ["net-wire", "net-dns", "net-backend"] {
                assert_eq!(
                    faults(&[(low, platform, None)]).len(),
                    1,
                    "{low} -> {platform}"
                );
                assert_eq!(faults(&[(low, platform, Some("build"))]).len(), 1);
                assert!(faults(&[(low, platform, Some("dev"))]).is_empty());
            }
            assert!(faults(&[("net-usernet", platform, None)]).is_empty());
        }
    }

    #[test]
    fn table_and_workspace_agree() {
        assert_eq!(faults(&[("net-new", "net-wire", None)]).len(), 1);
        let mut fewer = workspace(&[]);
        fewer.retain(|p| p.name != "net-virtio");
        assert_eq!(edges(&fewer).len(), 1);
        assert_eq!(faults(&[("net-wire", "xtask", Some("dev"))]).len(), 1);
    }

    #[test]
    fn the_root_says_what_the_row_promises() {
        let forbid = row(2, "net-dns", Unsafe::Forbid);
        assert!(attribute_faults(&forbid, "//! x\n#![forbid(unsafe_code)]\n").is_empty());
        assert_eq!(
            attribute_faults(&forbid, "// #![forbid(unsafe_code)]\n").len(),
            1
        );
        assert_eq!(
            attribute_faults(&forbid, "#![deny(unsafe_code)]\n").len(),
            1
        );
        let modules = core(1, "net-wire", Unsafe::Modules);
        assert_eq!(attribute_faults(&modules, "").len(), 2);
        let root = "#![cfg_attr(not(any(test, feature = \"std\")), no_std)]\n#![deny(unsafe_code)]";
        assert!(attribute_faults(&modules, root).is_empty());
        assert!(attribute_faults(&core(2, "net-datapath", Unsafe::Yes), "#![no_std]").is_empty());
    }

    #[test]
    fn targets_and_dependencies_are_read_from_metadata() {
        let packages = read_packages(&json!({ "packages": [{
            "name": "net-cli",
            "targets": [
                { "kind": ["custom-build"], "src_path": "/w/build.rs" },
                { "kind": ["bin"], "src_path": "/w/src/main.rs" },
            ],
            "dependencies": [
                { "name": "libc", "kind": null, "target": "cfg(unix)" },
                { "name": "tempfile", "kind": "dev" },
            ],
        }] }))
        .unwrap();
        assert_eq!(packages[0].root, Path::new("/w/src/main.rs"));
        assert!(packages[0].dependencies[0].1 == Kind::Normal);
        assert!(packages[0].dependencies[1].1 == Kind::Dev);
        assert!(read_packages(&json!({})).is_err());
    }
}
