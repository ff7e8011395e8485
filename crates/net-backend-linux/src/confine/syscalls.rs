//! Which system calls a job takes.
//!
//! | list | for |
//! |---|---|
//! | [`BASE`] | memory, time, signals, and descriptors that are open |
//! | [`THREADS`] | starting threads, and no processes |
//! | [`SOCKETS`] | TCP, UDP, ICMP echo, Unix sockets for datagrams or that are connected already |
//! | [`FILES`] | files by name, as far as Landlock leaves any |
//! | [`TAP`] | a TAP device that is open already |
//! | [`SHARED_MEMORY`] | memory to share with who is connected, for vhost-user |
//!
//! A list says what its job takes and no more; what is in none of them, such as running a program,
//! tracing, mounting, packet sockets or memory that is both written and run, is refused. Numbers
//! differ between architectures, and the older ones have calls that the newer never had.

use libc::{c_int, c_long};

/// The calls of one job.
pub type List = &'static [Call];

/// Every list by its name.
pub const ALL: [(&str, List); 6] = [
    ("base", BASE),
    ("threads", THREADS),
    ("sockets", SOCKETS),
    ("files", FILES),
    ("tap", TAP),
    ("shared memory", SHARED_MEMORY),
];

/// A system call, and in which ways it may be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    /// Its number on this architecture.
    pub number: c_long,
    /// Each is a way: all of its arguments have to fit. None: any way.
    pub ways: &'static [&'static [Argument]],
}

impl Call {
    /// A call that may be made in any way.
    pub const fn free(number: c_long) -> Self {
        Self { number, ways: &[] }
    }

    /// A call that may be made in these ways.
    pub const fn when(number: c_long, ways: &'static [&'static [Argument]]) -> Self {
        Self { number, ways }
    }
}

/// What an argument has to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Argument {
    /// Which, from 0 to 5.
    pub index: u8,
    /// The bits that are looked at.
    pub mask: u64,
    /// What they have to be.
    pub value: Value,
    /// Whether the argument has 64 bits, as pointers and lengths have; otherwise the upper half,
    /// which the kernel ignores too, is not looked at.
    pub wide: bool,
}

/// A value of an argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value {
    /// This one.
    Is(u64),
    /// The number of the process that sets the filter.
    OwnProcess,
}

impl Argument {
    /// The argument, of 32 bits, is this value.
    pub const fn is(index: u8, value: u32) -> Self {
        Self::masked(index, u32::MAX, value)
    }

    /// These bits of the argument, of 32 bits, are this value.
    pub const fn masked(index: u8, mask: u32, value: u32) -> Self {
        Self {
            index,
            mask: mask as u64,
            value: Value::Is(value as u64),
            wide: false,
        }
    }

    /// The argument is no pointer.
    pub const fn null(index: u8) -> Self {
        Self {
            index,
            mask: u64::MAX,
            value: Value::Is(0),
            wide: true,
        }
    }

    /// The argument is this process's number.
    pub const fn own_process(index: u8) -> Self {
        Self {
            index,
            mask: u32::MAX as u64,
            value: Value::OwnProcess,
            wide: false,
        }
    }

    const fn int(index: u8, value: c_int) -> Self {
        Self::is(index, value.cast_unsigned())
    }
}

/// Memory that is not run: no machine code can be brought in.
const NOT_RUN: &[&[Argument]] = &[&[Argument::masked(2, libc::PROT_EXEC.cast_unsigned(), 0)]];

/// Memory, time, signals, and descriptors that are open.
pub const BASE: List = &[
    // Descriptors.
    Call::free(libc::SYS_read),
    Call::free(libc::SYS_write),
    Call::free(libc::SYS_readv),
    Call::free(libc::SYS_writev),
    Call::free(libc::SYS_pread64),
    Call::free(libc::SYS_pwrite64),
    Call::free(libc::SYS_lseek),
    Call::free(libc::SYS_close),
    Call::free(libc::SYS_dup),
    Call::free(libc::SYS_dup3),
    Call::free(libc::SYS_fcntl),
    Call::free(libc::SYS_fstat),
    Call::free(libc::SYS_pipe2),
    Call::free(libc::SYS_eventfd2),
    Call::free(libc::SYS_timerfd_create),
    Call::free(libc::SYS_timerfd_settime),
    Call::when(
        libc::SYS_ioctl,
        &[
            &[Argument::is(1, libc::FIONBIO as u32)],
            &[Argument::is(1, libc::FIONREAD as u32)],
            // Whether standard output is a terminal.
            &[Argument::is(1, libc::TCGETS as u32)],
        ],
    ),
    // Readiness.
    Call::free(libc::SYS_epoll_create1),
    Call::free(libc::SYS_epoll_ctl),
    Call::free(libc::SYS_epoll_pwait),
    Call::free(libc::SYS_epoll_pwait2),
    Call::free(libc::SYS_ppoll),
    #[cfg(target_arch = "x86_64")]
    Call::free(libc::SYS_epoll_wait),
    #[cfg(target_arch = "x86_64")]
    Call::free(libc::SYS_poll),
    // Memory.
    Call::when(libc::SYS_mmap, NOT_RUN),
    Call::when(libc::SYS_mprotect, NOT_RUN),
    Call::free(libc::SYS_munmap),
    Call::free(libc::SYS_mremap),
    Call::free(libc::SYS_madvise),
    Call::free(libc::SYS_brk),
    Call::free(libc::SYS_membarrier),
    // Signals to itself.
    Call::free(libc::SYS_rt_sigaction),
    Call::free(libc::SYS_rt_sigprocmask),
    Call::free(libc::SYS_rt_sigreturn),
    Call::free(libc::SYS_sigaltstack),
    Call::free(libc::SYS_restart_syscall),
    Call::when(libc::SYS_tgkill, &[&[Argument::own_process(0)]]),
    // Time, chance, itself.
    Call::free(libc::SYS_clock_gettime),
    Call::free(libc::SYS_clock_getres),
    Call::free(libc::SYS_clock_nanosleep),
    Call::free(libc::SYS_nanosleep),
    Call::free(libc::SYS_gettimeofday),
    Call::free(libc::SYS_getrandom),
    Call::free(libc::SYS_getpid),
    Call::free(libc::SYS_getppid),
    Call::free(libc::SYS_gettid),
    Call::free(libc::SYS_getuid),
    Call::free(libc::SYS_geteuid),
    Call::free(libc::SYS_getgid),
    Call::free(libc::SYS_getegid),
    Call::free(libc::SYS_uname),
    Call::free(libc::SYS_sysinfo),
    Call::free(libc::SYS_getcwd),
    Call::free(libc::SYS_getrusage),
    Call::free(libc::SYS_sched_yield),
    Call::free(libc::SYS_sched_getaffinity),
    // Limits of its own are read, not changed.
    Call::when(
        libc::SYS_prlimit64,
        &[&[Argument::int(0, 0), Argument::null(2)]],
    ),
    Call::free(libc::SYS_futex),
    Call::free(libc::SYS_exit),
    Call::free(libc::SYS_exit_group),
];

/// A thread shares its process; new namespaces are no part of it.
const THREAD_FLAGS: c_int = libc::CLONE_THREAD | libc::CLONE_VM;
const NAMESPACE_FLAGS: c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// Starting threads, and no processes.
pub const THREADS: List = &[
    Call::when(
        libc::SYS_clone,
        &[&[Argument::masked(
            0,
            (THREAD_FLAGS | NAMESPACE_FLAGS).cast_unsigned(),
            THREAD_FLAGS.cast_unsigned(),
        )]],
    ),
    Call::free(libc::SYS_set_robust_list),
    Call::free(libc::SYS_rseq),
    Call::free(libc::SYS_sched_setaffinity),
    Call::when(libc::SYS_prctl, &[&[Argument::int(0, libc::PR_SET_NAME)]]),
];

/// The bits of a socket's type that are not flags (`SOCK_TYPE_MASK`).
const TYPE_MASK: u32 = 0xf;
const STREAM: Argument = Argument::masked(1, TYPE_MASK, libc::SOCK_STREAM.cast_unsigned());
const DATAGRAM: Argument = Argument::masked(1, TYPE_MASK, libc::SOCK_DGRAM.cast_unsigned());
const SEQUENCED: Argument = Argument::masked(1, TYPE_MASK, libc::SOCK_SEQPACKET.cast_unsigned());

/// TCP, UDP, ICMP echo and Unix sockets for datagrams; no raw, packet or netlink sockets.
///
/// Landlock leaves every Unix socket within reach of `connect`, and whoever answers there often trusts
/// the user that asks: a stream or sequence to one has to be opened by somebody else. Of datagrams a
/// network asks whether their sender is still there.
pub const SOCKETS: List = &[
    Call::when(
        libc::SYS_socket,
        &[
            &[Argument::int(0, libc::AF_INET), STREAM],
            &[Argument::int(0, libc::AF_INET), DATAGRAM],
            &[Argument::int(0, libc::AF_INET6), STREAM],
            &[Argument::int(0, libc::AF_INET6), DATAGRAM],
            &[Argument::int(0, libc::AF_UNIX), DATAGRAM],
        ],
    ),
    // Its two ends lead to each other and stay so.
    Call::when(
        libc::SYS_socketpair,
        &[
            &[Argument::int(0, libc::AF_UNIX), STREAM],
            &[Argument::int(0, libc::AF_UNIX), SEQUENCED],
        ],
    ),
    Call::free(libc::SYS_bind),
    Call::free(libc::SYS_listen),
    Call::free(libc::SYS_accept4),
    Call::free(libc::SYS_connect),
    Call::free(libc::SYS_shutdown),
    Call::free(libc::SYS_getsockname),
    Call::free(libc::SYS_getpeername),
    Call::free(libc::SYS_getsockopt),
    Call::free(libc::SYS_setsockopt),
    Call::free(libc::SYS_sendto),
    Call::free(libc::SYS_sendmsg),
    Call::free(libc::SYS_sendmmsg),
    Call::free(libc::SYS_recvfrom),
    Call::free(libc::SYS_recvmsg),
    Call::free(libc::SYS_recvmmsg),
];

/// Files by name, as far as Landlock leaves any.
pub const FILES: List = &[
    Call::free(libc::SYS_openat),
    Call::free(libc::SYS_newfstatat),
    Call::free(libc::SYS_statx),
    Call::free(libc::SYS_faccessat),
    Call::free(libc::SYS_faccessat2),
    Call::free(libc::SYS_readlinkat),
    Call::free(libc::SYS_getdents64),
    Call::free(libc::SYS_unlinkat),
    Call::free(libc::SYS_renameat2),
    Call::free(libc::SYS_mkdirat),
    Call::free(libc::SYS_fchmod),
    Call::free(libc::SYS_fchmodat),
    Call::free(libc::SYS_ftruncate),
    Call::free(libc::SYS_fsync),
    Call::free(libc::SYS_fdatasync),
    Call::free(libc::SYS_flock),
    Call::free(libc::SYS_inotify_init1),
    Call::free(libc::SYS_inotify_add_watch),
    Call::free(libc::SYS_inotify_rm_watch),
    #[cfg(target_arch = "x86_64")]
    Call::free(libc::SYS_access),
    #[cfg(target_arch = "x86_64")]
    Call::free(libc::SYS_mkdir),
    #[cfg(target_arch = "x86_64")]
    Call::free(libc::SYS_unlink),
    #[cfg(target_arch = "x86_64")]
    Call::free(libc::SYS_rmdir),
    #[cfg(target_arch = "x86_64")]
    Call::free(libc::SYS_rename),
    #[cfg(target_arch = "x86_64")]
    Call::free(libc::SYS_readlink),
    #[cfg(target_arch = "x86_64")]
    Call::free(libc::SYS_chmod),
    #[cfg(not(target_arch = "riscv64"))]
    Call::free(libc::SYS_renameat),
];

/// A TAP device that is open already, by a descriptor that was passed: what it can do is asked and
/// agreed, another device is not opened.
pub const TAP: List = &[Call::when(
    libc::SYS_ioctl,
    &[
        &[Argument::is(1, crate::ioctl::TUNGETIFF as u32)],
        &[Argument::is(1, crate::ioctl::TUNSETOFFLOAD as u32)],
        &[Argument::is(1, crate::ioctl::TUNGETVNETHDRSZ as u32)],
        &[Argument::is(1, crate::ioctl::TUNSETVNETHDRSZ as u32)],
        &[Argument::is(1, crate::ioctl::TUNSETVNETLE as u32)],
    ],
)];

/// Memory to share with who is connected: the log of what is in flight, which a front-end of vhost-user
/// keeps over the end of its back end.
pub const SHARED_MEMORY: List = &[Call::free(libc::SYS_memfd_create)];
