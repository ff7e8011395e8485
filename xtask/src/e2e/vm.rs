//! A guest: Debian's cloud kernel and busybox under QEMU, told what to do over a serial port.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use super::cpio::Archive;
use super::kernel::{self, Kernel};
use super::proc::Proc;
use super::world::ORDINARY;
use crate::{Result, cmd};

const QEMU: &str = "qemu-system-x86_64";

/// How long a guest may take from power-on to its first line. Software emulation on a busy
/// machine takes ten times what an idle one does.
const BOOT: Duration = Duration::from_secs(90);

/// What every guest of a run boots.
pub(crate) struct Image {
    kernel: Kernel,
    initramfs: PathBuf,
    name: &'static str,
}

impl Image {
    /// Fetches the kernel and packs the initial RAM disk.
    ///
    /// # Errors
    /// Says what is missing.
    pub(crate) fn prepare() -> Result<Self> {
        Self::with("initramfs.cpio", &[], &[])
    }

    /// Why no machine can be booted, if none can.
    pub(crate) fn obstacle() -> Option<String> {
        (!cmd::exists(QEMU)).then(|| format!("needs {QEMU}"))
    }

    /// As [`Image::prepare`], with more modules, and more programs in `/bin`, with the libraries that
    /// they are linked to. `name` is the disk's.
    ///
    /// # Errors
    /// As [`Image::prepare`].
    pub(crate) fn with(
        name: &'static str,
        modules: &[&str],
        programs: &[(&str, &Path)],
    ) -> Result<Self> {
        if let Some(why) = Self::obstacle() {
            return Err(why);
        }
        let kernel = kernel::fetch()?;
        let busybox = static_busybox()?;
        let read = |path: &Path| fs::read(path).map_err(|e| format!("{}: {e}", path.display()));
        let mut archive = Archive::default();
        for directory in ["bin", "dev", "modules"] {
            archive.directory(directory);
        }
        // The kernel opens it for the first process before anything is mounted.
        archive.device("dev/console", 5, 1);
        archive.file("bin/busybox", &read(&busybox)?);
        archive.file("init", include_bytes!("guest.sh"));
        archive.file("udhcpc.sh", include_bytes!("udhcpc.sh"));
        for (index, module) in kernel.with(modules)?.iter().enumerate() {
            // Loaded in the order of their names.
            archive.file(&format!("modules/{index:02}.ko"), &read(module)?);
        }
        pack(&mut archive, programs)?;
        let initramfs = kernel::cache().join(name);
        fs::write(&initramfs, archive.finish())
            .map_err(|e| format!("{}: {e}", initramfs.display()))?;
        Ok(Self {
            kernel,
            initramfs,
            name,
        })
    }

    /// Kernel and initramfs where an ordinary user can read them: the checkout may be private.
    fn readable(&self, dir: &Path) -> Result<(PathBuf, PathBuf)> {
        let copy = |from: &Path, name: &str| -> Result<PathBuf> {
            let to = dir.join(name);
            if !to.exists() {
                fs::copy(from, &to).map_err(|e| format!("{}: {e}", from.display()))?;
            }
            Ok(to)
        };
        Ok((
            copy(&self.kernel.image, "kernel")?,
            copy(&self.initramfs, self.name)?,
        ))
    }
}

/// Adds programs, and where they want them the libraries that they are linked to.
fn pack(archive: &mut Archive, programs: &[(&str, &Path)]) -> Result<()> {
    let read = |path: &Path| fs::read(path).map_err(|e| format!("{}: {e}", path.display()));
    let mut libraries = std::collections::BTreeSet::new();
    for (name, program) in programs {
        // Of what cargo builds most is for debuggers, and the disk is the guest's memory.
        let small = kernel::cache().join(name);
        cmd::run(cmd::at_root("strip").arg("-o").args([&*small, *program]))?;
        archive.file(&format!("bin/{name}"), &read(&small)?);
        // `NAME => PATH (ADDRESS)`, and the loader as `PATH (ADDRESS)`.
        let linked = cmd::output(cmd::at_root("ldd").arg(program))?;
        let paths = linked
            .split_whitespace()
            .filter(|word| word.starts_with('/'));
        libraries.extend(paths.map(PathBuf::from));
    }
    let mut directories = std::collections::BTreeSet::new();
    for library in &libraries {
        let parents: Vec<&Path> = library.ancestors().skip(1).collect();
        for parent in parents.into_iter().rev().filter(|it| it.parent().is_some()) {
            if directories.insert(parent.to_path_buf()) {
                archive.directory(parent.to_string_lossy().trim_start_matches('/'));
            }
        }
        let name = library.to_string_lossy();
        archive.file(name.trim_start_matches('/'), &read(library)?);
    }
    Ok(())
}

/// The busybox that needs no libraries: the guest has none.
fn static_busybox() -> Result<PathBuf> {
    let path = cmd::find("busybox").ok_or("needs busybox")?;
    let bytes = fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    if wants_loader(&bytes) {
        return Err(format!(
            "{} is not static: needs busybox-static",
            path.display()
        ));
    }
    Ok(path)
}

/// Whether a 64-bit ELF file names a loader (a program header of type PT_INTERP), which brings
/// the libraries.
fn wants_loader(elf: &[u8]) -> bool {
    const PT_INTERP: [u8; 4] = 3u32.to_le_bytes();
    let number = |at: usize, len: usize| -> Option<usize> {
        let bytes = elf.get(at..at + len)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0, |n, &byte| n << 8 | usize::from(byte)),
        )
    };
    let (Some(table), Some(size), Some(count)) = (number(32, 8), number(54, 2), number(56, 2))
    else {
        return false;
    };
    (0..count).any(|i| {
        elf.get(table + i * size..)
            .is_some_and(|h| h.starts_with(&PT_INTERP))
    })
}

/// A guest that has booted.
pub(crate) struct Vm {
    qemu: Proc,
    input: ChildStdin,
    lines: Receiver<String>,
    console: PathBuf,
    asked: u32,
}

/// What a command in a guest came to.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its exit status.
    pub(crate) status: i32,
    /// Standard output and standard error.
    pub(crate) output: String,
}

impl Vm {
    /// Boots a guest whose NIC is `netdev`, an argument of QEMU's `-netdev` that names it `n0`.
    /// `name` is its files' and its MAC address ends in `number`.
    ///
    /// # Errors
    /// Where it does not come up; with the end of its console.
    pub(crate) fn boot(
        image: &Image,
        dir: &Path,
        name: &str,
        number: u8,
        netdev: &str,
    ) -> Result<Self> {
        // As the ordinary user who runs the daemon: sockets of one belong to the other.
        let mut command = Command::new("setpriv");
        command.args(["--reuid", ORDINARY, "--regid", ORDINARY, "--clear-groups"]);
        command.args(["--pdeathsig", "KILL", "--"]);
        let device = format!("virtio-net-pci,netdev=n0,mac=52:54:00:e2:e0:{number:02x},romfile=");
        Self::boot_with(
            image,
            dir,
            name,
            command,
            &["-netdev", netdev, "-device", &device],
        )
    }

    /// Boots a machine without a NIC, to be a host itself, with memory for that.
    ///
    /// # Errors
    /// As [`Vm::boot`].
    pub(crate) fn boot_host(image: &Image, dir: &Path, name: &str) -> Result<Self> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        // The last word on memory counts.
        Self::boot_with(image, dir, name, command, &["-smp", "2", "-m", "1024"])
    }

    /// As [`Vm::boot`]: `command` is what runs QEMU, and `nic` QEMU's arguments for the NIC.
    ///
    /// # Errors
    /// As [`Vm::boot`].
    pub(crate) fn boot_with(
        image: &Image,
        dir: &Path,
        name: &str,
        command: Command,
        nic: &[&str],
    ) -> Result<Self> {
        let mut vm = Self::start_with(image, dir, name, command, nic)?;
        vm.until_ready().map_err(|why| format!("{name}: {why}"))?;
        Ok(vm)
    }

    /// As [`Vm::boot_with`], without waiting for the guest.
    ///
    /// # Errors
    /// Where QEMU cannot be started.
    pub(crate) fn start_with(
        image: &Image,
        dir: &Path,
        name: &str,
        mut command: Command,
        nic: &[&str],
    ) -> Result<Self> {
        let console = dir.join(format!("{name}.console"));
        let log = dir.join(format!("{name}.qemu"));
        let errors = fs::File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
        command.args([QEMU, "-nodefaults", "-no-reboot"]);
        command.args(["-accel", "tcg", "-m", "320", "-display", "none"]);
        let (kernel, initramfs) = image.readable(dir)?;
        command.arg("-kernel").arg(kernel);
        command.arg("-initrd").arg(initramfs);
        command.args(["-append", "console=ttyS0 quiet panic=-1"]);
        command.args([
            "-serial",
            &format!("file:{}", console.display()),
            "-serial",
            "stdio",
        ]);
        command.args(nic);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors);
        let mut qemu = Proc::start(&mut command, &log)?;
        let input = qemu
            .child()
            .stdin
            .take()
            .ok_or("QEMU has no standard input")?;
        let output = qemu
            .child()
            .stdout
            .take()
            .ok_or("QEMU has no standard output")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line)
                    .trim_end_matches('\r')
                    .to_owned();
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            qemu,
            input,
            lines,
            console,
            asked: 0,
        })
    }

    /// Waits for the guest's first line.
    ///
    /// # Errors
    /// As [`Vm::boot`].
    pub(crate) fn until_ready(&mut self) -> Result<()> {
        self.until(BOOT, |line| line == "E2E ready").map(drop)
    }

    /// Runs a shell command in the guest.
    ///
    /// # Errors
    /// Where the guest does not answer within `limit`.
    pub(crate) fn run(&mut self, script: &str, limit: Duration) -> Result<Answer> {
        self.asked += 1;
        let number = self.asked;
        writeln!(self.input, "{number} {script}")
            .and_then(|()| self.input.flush())
            .map_err(|e| format!("the guest's serial port: {e}"))?;
        let begin = format!("E2E begin {number}");
        let end = format!("E2E end {number} ");
        let timed_out = |why| format!("`{script}` in the guest: {why}");
        self.until(limit, |line| line == begin).map_err(timed_out)?;
        let mut lines = self
            .until(limit, |line| line.starts_with(&end))
            .map_err(timed_out)?;
        let last = lines.pop().unwrap_or_default();
        let status = last[end.len()..].trim().parse().unwrap_or(-1);
        Ok(Answer {
            status,
            output: lines.join("\n").trim_end().to_owned(),
        })
    }

    /// As [`Vm::run`], where anything but status 0 is an error.
    ///
    /// # Errors
    /// With the command, its status and its output.
    pub(crate) fn check(&mut self, script: &str, limit: Duration) -> Result<String> {
        let answer = self.run(script, limit)?;
        if answer.status == 0 {
            return Ok(answer.output);
        }
        Err(format!(
            "`{script}` in the guest ended with {}:\n{}",
            answer.status, answer.output
        ))
    }

    /// Asks for a lease and applies it; gives the line that says what it was.
    ///
    /// # Errors
    /// Where there is none.
    pub(crate) fn lease(&mut self, hostname: &str) -> Result<String> {
        self.check("ip link set eth0 up", Duration::from_secs(5))?;
        let ask = format!(
            "udhcpc -i eth0 -f -q -n -t 5 -T 2 -O mtu -x hostname:{hostname} -s /udhcpc.sh"
        );
        let output = self.check(&ask, Duration::from_secs(30))?;
        let line = output.lines().find(|l| l.starts_with("E2E lease "));
        line.map(str::to_owned)
            .ok_or_else(|| format!("no lease:\n{output}"))
    }

    /// Has the guest reboot, as far as its first line. QEMU has to be told to go on.
    ///
    /// # Errors
    /// As [`Vm::boot`].
    pub(crate) fn reboot(&mut self) -> Result<()> {
        writeln!(self.input, "0 reboot -f")
            .and_then(|()| self.input.flush())
            .map_err(|e| format!("the guest's serial port: {e}"))?;
        self.until_ready()
    }

    /// Ends the machine at once, as a crash of its VMM would.
    pub(crate) fn kill(&mut self) {
        self.qemu.kill();
    }

    /// Lines up to the first that `wanted` accepts, which is the last.
    fn until(&mut self, limit: Duration, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let deadline = Instant::now() + limit;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let done = wanted(&line);
                    seen.push(line);
                    if done {
                        return Ok(seen);
                    }
                }
                Err(e) => {
                    let how = match e {
                        mpsc::RecvTimeoutError::Timeout => "no answer in time",
                        mpsc::RecvTimeoutError::Disconnected => "the machine is gone",
                    };
                    let console = fs::read(&self.console).unwrap_or_default();
                    let tail = &console[console.len().saturating_sub(2000)..];
                    return Err(format!(
                        "{how}; so far: {seen:?}; QEMU: {}; end of the console:\n{}",
                        self.qemu.output().trim(),
                        String::from_utf8_lossy(tail)
                    ));
                }
            }
        }
    }
}

/// The value of a field in a lease line such as `E2E lease ip=10.0.0.2 mask=24 ...`.
pub(crate) fn field<'a>(lease: &'a str, name: &str) -> Option<&'a str> {
    lease
        .split_whitespace()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{field, wants_loader};

    #[test]
    fn a_test_program_wants_a_loader_and_other_bytes_do_not() {
        let this = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(wants_loader(&this), cfg!(target_env = "gnu"));
        assert!(!wants_loader(b"#!/bin/sh"));
    }

    #[test]
    fn fields_of_a_lease_are_found_by_name() {
        let line = "E2E lease ip=10.0.0.2 mask=24 router=10.0.0.1 mtu= domain=internal";
        assert_eq!(field(line, "ip"), Some("10.0.0.2"));
        assert_eq!(field(line, "domain"), Some("internal"));
        assert_eq!((field(line, "mtu"), field(line, "dns")), (None, None));
    }
}
