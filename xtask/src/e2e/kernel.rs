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
    /// The directory of all modules.
    tree: PathBuf,
}

impl Kernel {
    /// The files of the modules of these names and of all that they depend on, in the order in which
    /// they can be loaded, behind those that every guest has.
    ///
    /// # Errors
    /// Where one is not in the package.
    pub(crate) fn with(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let mut all = Vec::new();
        files(&self.tree, &mut all)?;
        let mut loaded = self.modules.clone();
        for name in names {
            add(name, &all, &mut loaded)?;
        }
        Ok(loaded)
    }
}

/// Every file below a directory.
fn files(directory: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let fail = |e: std::io::Error| format!("{}: {e}", directory.display());
    for entry in fs::read_dir(directory).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.is_dir() {
            files(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

/// A module's name, which writes `-` and `_` alike.
fn module_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy();
    let name = name.split_once(".ko")?.0;
    Some(name.replace('-', "_"))
}

/// Adds a module behind what it depends on.
fn add(name: &str, all: &[PathBuf], loaded: &mut Vec<PathBuf>) -> Result<()> {
    let is_it = |path: &&PathBuf| module_name(path).is_some_and(|it| it == name.replace('-', "_"));
    if loaded.iter().any(|path| is_it(&path)) {
        return Ok(());
    }
    let found = all.iter().find(is_it);
    let found = found.ok_or_else(|| format!("the kernel's package has no module {name}"))?;
    let stem = found.to_string_lossy();
    let stem = stem.split_once(".ko").map_or(&*stem, |(stem, _)| stem);
    let file = module(Path::new(stem))?;
    let bytes = fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    for needed in depends(&bytes) {
        add(&needed, all, loaded)?;
    }
    loaded.push(file);
    Ok(())
}

/// What a module's own description (`.modinfo`, strings that end in zero) says that it depends on.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|bytes| bytes == KEY) else {
        return Vec::new();
    };
    let value = module[at + KEY.len()..].split(|byte| *byte == 0).next();
    let value = String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
    let names = value.split(',').filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
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
        tree,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_depends_on_is_read_from_it() {
        let module = b"\x7fELF\0license=GPL\0depends=x_tables,nf-nat\0name=it\0";
        assert_eq!(depends(module), ["x_tables", "nf-nat"]);
        assert!(depends(b"\0depends=\0name=it\0").is_empty());
        assert!(depends(b"nothing").is_empty());
    }

    #[test]
    fn names_of_modules_are_read_however_they_are_packed() {
        for file in ["a/nf-nat.ko", "a/nf_nat.ko.xz"] {
            assert_eq!(module_name(Path::new(file)).as_deref(), Some("nf_nat"));
        }
        assert_eq!(module_name(Path::new("a/modules.order")), None);
    }
}
