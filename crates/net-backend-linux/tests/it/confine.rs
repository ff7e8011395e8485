//! What a confined process attempts, and what becomes of it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use net_backend_linux::confine::{
    self, Enforced, Refusal, drop_capabilities, landlock, no_new_privileges, private_mounts,
    seccomp, syscalls,
};
use net_backend_linux::{LinuxError, Tap, TapOptions};

/// The errno of what was refused; 0 where it was not.
fn errno<T>(result: io::Result<T>) -> i32 {
    result.map_or_else(|error| error.raw_os_error().unwrap_or(-1), |_| 0)
}

fn called(result: libc::c_long) -> i32 {
    if result == -1 {
        errno::<()>(Err(io::Error::last_os_error()))
    } else {
        0
    }
}

fn call(number: libc::c_long, arguments: [libc::c_long; 4]) -> i32 {
    let [a, b, c, d] = arguments;
    // SAFETY: the calls made here take numbers, or pointers that are null and that the kernel refuses.
    called(unsafe { libc::syscall(number, a, b, c, d) })
}

/// A line of `/proc/self/status`.
fn status(key: &str) -> String {
    let text = fs::read_to_string("/proc/self/status").expect("status");
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.expect("the line").trim().to_owned()
}

/// Everything at once, as the server has it, and every way out of it attempted.
pub(crate) fn everything(directory: &str) {
    let directory = Path::new(directory);
    let (writable, readable) = (directory.join("rw"), directory.join("ro"));
    for path in [&writable, &readable] {
        fs::create_dir(path).expect("a directory");
        fs::write(path.join("file"), "text").expect("a file");
    }
    let tap = Tap::open("vm0", TapOptions::default()).expect("a device");
    let tun = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .expect("/dev/net/tun");
    let privileged = status("CapEff:") != "0000000000000000";
    assert!(privileged, "nothing to lose");

    no_new_privileges().expect("no new privileges");
    private_mounts().expect("private mounts");
    let paths = [&writable as &Path, Path::new("/no/such/path")];
    let enforced = landlock(
        &paths,
        &[&readable, Path::new("/proc"), Path::new("/dev/null")],
    )
    .expect("Landlock");
    drop_capabilities().expect("no capabilities");
    drop_capabilities().expect("nor again");
    // Without a filter yet: it is capabilities that are missing.
    assert_eq!(
        call(libc::SYS_unshare, [libc::CLONE_NEWNET.into(), 0, 0, 0]),
        libc::EPERM
    );
    assert_eq!(
        call(libc::SYS_socket, [libc::AF_PACKET.into(), 3, 0, 0]),
        libc::EPERM
    );
    let lists = [
        syscalls::BASE,
        syscalls::THREADS,
        syscalls::SOCKETS,
        syscalls::FILES,
        syscalls::TAP,
    ];
    seccomp(&lists, Refusal::Errno).expect("a filter");

    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(status(set), "0000000000000000", "{set}");
    }
    assert_eq!(
        (&status("NoNewPrivs:")[..], &status("Seccomp:")[..]),
        ("1", "2")
    );

    // Files.
    if enforced == Enforced::Not {
        println!("skip: this kernel has no Landlock; the rest is as it should be");
    } else {
        for path in ["/etc/shadow", "/etc/passwd", "/", "/dev/net/tun"] {
            assert_eq!(errno(File::open(path)), libc::EACCES, "{path}");
        }
        assert_eq!(errno(fs::write(readable.join("file"), "x")), libc::EACCES);
        assert_eq!(errno(fs::write(readable.join("new"), "x")), libc::EACCES);
        assert_eq!(errno(fs::remove_file(readable.join("file"))), libc::EACCES);
        // What would be a way around: a name in the place that is left, for a file that is not.
        let link = writable.join("shadow");
        assert_ne!(errno(std::os::unix::fs::symlink("/etc/shadow", &link)), 0);
        assert_ne!(errno(fs::hard_link("/etc/passwd", &link)), 0);
    }
    assert_eq!(errno(fs::write(writable.join("new"), "x")), 0);
    assert_eq!(
        errno(fs::rename(writable.join("new"), writable.join("newer"))),
        0
    );
    assert_eq!(errno(fs::remove_file(writable.join("newer"))), 0);
    assert_eq!(
        fs::read_to_string(readable.join("file")).expect("readable"),
        "text"
    );

    // Processes.
    assert_eq!(errno(Command::new("/bin/true").status()), libc::EPERM);
    for (what, number, first) in [
        ("execve", libc::SYS_execve, 0),
        ("fork", libc::SYS_clone, libc::SIGCHLD.into()),
        ("ptrace", libc::SYS_ptrace, 0),
        ("kill", libc::SYS_kill, libc::c_long::from(parent())),
        ("process_vm_readv", libc::SYS_process_vm_readv, 1),
        ("pidfd_open", libc::SYS_pidfd_open, 1),
    ] {
        assert_eq!(call(number, [first, 0, 0, 0]), libc::EPERM, "{what}");
    }
    let other = libc::c_long::from(parent());
    assert_eq!(call(libc::SYS_tgkill, [other, other, 0, 0]), libc::EPERM);
    assert_eq!(call(libc::SYS_clone3, [0, 0, 0, 0]), libc::ENOSYS);
    // The kernel.
    for (what, number, first) in [
        ("mount", libc::SYS_mount, 0),
        ("unshare", libc::SYS_unshare, libc::CLONE_NEWUSER.into()),
        ("setns", libc::SYS_setns, 0),
        ("bpf", libc::SYS_bpf, 0),
        ("io_uring", libc::SYS_io_uring_setup, 1),
        ("keyctl", libc::SYS_keyctl, 0),
        ("memfd", libc::SYS_memfd_create, 0),
        ("setuid", libc::SYS_setuid, 0),
        ("prctl", libc::SYS_prctl, libc::PR_SET_DUMPABLE.into()),
    ] {
        assert_eq!(call(number, [first, 0, 0, 0]), libc::EPERM, "{what}");
    }
    let executable = libc::PROT_READ | libc::PROT_EXEC;
    let shared = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let map = [0, 4096, executable.into(), shared.into()];
    assert_eq!(call(libc::SYS_mmap, map), libc::EPERM);
    // The network.
    for (family, kind) in [
        (libc::AF_PACKET, libc::SOCK_RAW),
        (libc::AF_INET, libc::SOCK_RAW),
        (libc::AF_NETLINK, libc::SOCK_DGRAM),
        (libc::AF_VSOCK, libc::SOCK_STREAM),
        (libc::AF_UNIX, libc::SOCK_STREAM),
        (libc::AF_UNIX, libc::SOCK_SEQPACKET),
    ] {
        let numbers = [family.into(), kind.into(), 0, 0];
        assert_eq!(
            call(libc::SYS_socket, numbers),
            libc::EPERM,
            "{family} {kind}"
        );
    }
    let unix = [libc::AF_UNIX.into(), libc::SOCK_DGRAM.into(), 0, 0];
    assert_eq!(call(libc::SYS_socketpair, unix), libc::EPERM);
    let device = libc::c_long::from(tun.as_raw_fd());
    let attach = [device, 0x4004_54ca, 0, 0];
    assert_eq!(call(libc::SYS_ioctl, attach), libc::EPERM, "TUNSETIFF");

    // The job goes on: threads, sockets, the device that is open.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    let client = std::thread::spawn(move || TcpStream::connect(address).map(drop));
    listener.accept().expect("a connection");
    client.join().expect("a thread").expect("a connection");
    UdpSocket::bind("[::1]:0").expect("a socket");
    UnixStream::pair().expect("a pair");
    UnixDatagram::unbound().expect("a socket");
    let file = tap.into_file();
    let again = Tap::from_fd(file.into(), TapOptions::default()).expect("the device");
    let mut again = again;
    use net_backend::{NetworkBackend, Offloads};
    assert_ne!(
        again.set_offloads(Offloads::ALL).expect("offloads"),
        Offloads::NONE
    );
}

/// What binds one thread refuses to where there are two.
pub(crate) fn threads() {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || receiver.recv());
    assert_eq!(confine::threads().expect("a count"), 2);
    for result in [
        no_new_privileges(),
        private_mounts(),
        drop_capabilities(),
        landlock(&[], &[]).map(drop),
    ] {
        assert!(
            matches!(&result, Err(LinuxError::Invalid(why)) if why.contains("2 threads")),
            "{result:?}"
        );
    }
    // The filter is for both.
    seccomp(&[syscalls::BASE, syscalls::THREADS], Refusal::Errno).expect("a filter");
    drop(sender);
    assert!(thread.join().expect("a thread").is_err());
}

/// A filter that kills: the caller sees how this ends.
pub(crate) fn fatal() {
    seccomp(&[syscalls::BASE], Refusal::Kill).expect("a filter");
    call(libc::SYS_ptrace, [0; 4]);
}

/// Starts that, and sees.
pub(crate) fn killed() {
    let program = std::env::current_exe().expect("this program");
    let status = Command::new(program)
        .args(["inside", "confine-fatal"])
        .status()
        .expect("started");
    assert_eq!(status.signal(), Some(libc::SIGSYS));
}

fn parent() -> u32 {
    std::os::unix::process::parent_id()
}

/// A directory for [`everything`]; it goes with this.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("arcbox-net-confine-{}", std::process::id()));
        fs::create_dir(&path).expect("a directory");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
