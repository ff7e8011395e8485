//! The kernel that the virtual machines boot: Debian's cloud kernel, unpacked and not installed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Result, apt, cmd};

/// What depends on the current cloud kernel.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// The modules a guest needs for its NIC, each after what it depends on. Everything else (packet
/// sockets, IPv6, the serial port) is built into that kernel.
const MODULES: &[&str] = &[
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
];

/// A kernel image and the modules to load, in order.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// The bootable image.
    pub(crate) image: PathBuf,
    /// The files of the modules.
    pub(crate) modules: Vec<PathBuf>,
}

/// Where everything that the end-to-end tests keep between runs lives.
pub(crate) fn cache() -> PathBuf {
    cmd::target_dir().join("e2e")
}

/// The kernel, fetched by `apt-get download` and unpacked by `dpkg -x` when it is not there yet.
///
/// # Errors
/// Says what is missing: apt, the package, or a file in it.
pub(crate) fn fetch() -> Result<Kernel> {
    let unpacked = cache().join("kernel");
    if let Ok(kernel) = look(&unpacked) {
        return Ok(kernel);
    }
    if !cmd::exists("apt-get") {
        return Err("the guest's kernel is Debian's, and this machine has no apt-get".into());
    }
    apt::refresh_lists(&[META_PACKAGE])?;
    let depends = cmd::output(cmd::at_root("apt-cache").args(["depends", META_PACKAGE]))?;
    let package = depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
        .ok_or_else(|| format!("apt knows no kernel behind {META_PACKAGE}"))?;

    let downloads = cache().join("download");
    let fail = |e: std::io::Error| format!("{}: {e}", downloads.display());
    let _ = fs::remove_dir_all(&downloads);
    fs::create_dir_all(&downloads).map_err(fail)?;
    let mut download = cmd::at_root("apt-get");
    cmd::run(
        download
            .args(["download", "-q", package])
            .current_dir(&downloads),
    )?;
    let archive = fs::read_dir(&downloads)
        .map_err(fail)?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .find(|path| path.extension().is_some_and(|x| x == "deb"))
        .ok_or("apt-get download left no package behind")?;
    let _ = fs::remove_dir_all(&unpacked);
    cmd::run(cmd::at_root("dpkg").arg("-x").args([&archive, &unpacked]))?;
    let _ = fs::remove_dir_all(&downloads);
    look(&unpacked)
}

/// Finds the image and the modules in an unpacked package.
fn look(unpacked: &Path) -> Result<Kernel> {
    let image = only(&unpacked.join("boot"), "vmlinuz-")?;
    // Debian 13 moved it from /lib to /usr/lib.
    let tree = only(&unpacked.join("lib/modules"), "")
        .or_else(|_| only(&unpacked.join("usr/lib/modules"), ""))?;
    let modules = MODULES
        .iter()
        .map(|name| module(&tree.join("kernel").join(name)));
    Ok(Kernel {
        image,
        modules: modules.collect::<Result<_>>()?,
    })
}

/// The entry of a directory whose name starts so.
fn only(directory: &Path, start: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    entries
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .find(|p| {
            p.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with(start))
        })
        .ok_or_else(|| format!("{} has no {start}*", directory.display()))
}

/// The module's file, decompressed where the distribution compresses it.
fn module(stem: &Path) -> Result<PathBuf> {
    let plain = stem.with_extension("ko");
    if plain.is_file() {
        return Ok(plain);
    }
    let packed = stem.with_extension("ko.xz");
    if packed.is_file() {
        cmd::run(cmd::at_root("xz").args(["-d", "-k"]).arg(&packed))?;
        return Ok(plain);
    }
    Err(format!(
        "{} is not in the kernel's package",
        plain.display()
    ))
}
