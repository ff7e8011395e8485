//! The files a command sees differently: its `resolv.conf`, and `/sys` with its own interfaces.
//!
//! Everything here happens in a mount namespace of the helper's own; the host's files are never
//! written.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use libc::{MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_PRIVATE, MS_REC};

use crate::error::Context;
use crate::{LinuxError, Result, probe, sys};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HARMLESS: libc::c_ulong = MS_NOSUID | MS_NODEV | MS_NOEXEC;

/// Keeps mounts made from here on to this namespace.
pub(super) fn make_private() -> Result<()> {
    sys::mount(
        Path::new("none"),
        Path::new("/"),
        "",
        MS_REC | MS_PRIVATE,
        "",
    )
    .context("make the mounts private")
    .map_err(|error| error.with_advice(probe::namespace_restriction()))
}

/// Has `/etc/resolv.conf` read as `text`.
///
/// The file is mounted over what the name leads to, symbolic links included: programs and
/// resolvers that follow them see it as well. Where it leads nowhere, an overlay over `/etc` has
/// the file.
pub(super) fn resolv_conf(text: &str) -> Result<()> {
    match fs::canonicalize(RESOLV_CONF) {
        Ok(target) => {
            let scratch = Scratch::mount(&target)?;
            let file = scratch.path.join("resolv.conf");
            fs::write(&file, text).context("write the resolv.conf of the namespace")?;
            sys::mount(&file, &target, "", MS_BIND, "")
                .context(format!("mount over {}", target.display()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => overlay_etc(text),
        Err(error) => Err(LinuxError::host(format!("find {RESOLV_CONF}"), &error)),
    }
}

/// An `/etc` that has the file where the host's has none.
fn overlay_etc(text: &str) -> Result<()> {
    let etc = Path::new("/etc");
    let scratch = Scratch::mount(etc)?;
    let upper = scratch.path.join("upper");
    let work = scratch.path.join("work");
    let what = "prepare an overlay for /etc";
    fs::create_dir(&upper).context(what)?;
    fs::create_dir(&work).context(what)?;
    fs::write(upper.join("resolv.conf"), text).context(what)?;
    let (upper, work) = (upper.display(), work.display());
    // With a user namespace some kernels want `userxattr`; where the upper layer is refused, a
    // read-only overlay of two layers serves as well.
    let forms = [
        format!("lowerdir=/etc,upperdir={upper},workdir={work}"),
        format!("lowerdir=/etc,upperdir={upper},workdir={work},userxattr"),
        format!("lowerdir={upper}:/etc"),
    ];
    let mount = |form: &String| sys::mount(Path::new("overlay"), etc, "overlay", HARMLESS, form);
    let mut refusal = None;
    for form in &forms {
        match mount(form) {
            Ok(()) => return Ok(()),
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    let refusal = refusal.unwrap_or_else(|| io::Error::from_raw_os_error(libc::EINVAL));
    Err(LinuxError::host("mount an overlay over /etc", &refusal)
        .with_advice("there is no /etc/resolv.conf to mount over: create one, even an empty one"))
}

/// A `/sys` that shows the interfaces of this network namespace. Where the kernel refuses it,
/// which it may in a user namespace, the host's stays.
pub(super) fn sysfs() {
    let sys_path = Path::new("/sys");
    let cgroup_path = Path::new("/sys/fs/cgroup");
    let cgroup = File::open(cgroup_path);
    if sys::mount(Path::new("sysfs"), sys_path, "sysfs", HARMLESS, "").is_err() {
        return;
    }
    if let Ok(cgroup) = cgroup {
        // The control groups lay below what has just been covered.
        let source = PathBuf::from(format!("/proc/self/fd/{}", cgroup.as_raw_fd()));
        let _ = sys::mount(&source, cgroup_path, "", MS_BIND | MS_REC, "");
    }
}

/// A small file system in memory, on a directory that it covers for a moment.
struct Scratch {
    path: &'static Path,
}

impl Scratch {
    /// Covers a directory that is not on the way to `target`.
    fn mount(target: &Path) -> Result<Self> {
        let path = ["/tmp", "/mnt", "/run", "/home"]
            .into_iter()
            .map(Path::new)
            .find(|path| path.is_dir() && !target.starts_with(path))
            .ok_or_else(|| LinuxError::Invalid("there is no /tmp to mount on".into()))?;
        sys::mount(
            Path::new("tmpfs"),
            path,
            "tmpfs",
            HARMLESS,
            "mode=0755,size=1m",
        )
        .context(format!("mount a tmpfs on {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What has been mounted from it stays.
        let _ = sys::unmount_detached(self.path);
    }
}
