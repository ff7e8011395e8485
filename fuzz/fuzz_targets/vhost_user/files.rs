//! The descriptors that a front-end sends, made when they are asked for.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, open};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::input::*;

/// Bytes of the guest's memory, and of the file that is larger than it ever gets.
pub const MEMORY_LEN: u64 = 0x4_0000;
const SPARSE_LEN: u64 = 1 << 40;

/// A front-end's files.
#[derive(Default)]
pub struct Files {
    made: [Option<OwnedFd>; KINDS as usize],
    /// The other ends of pipe and socket.
    peers: Vec<OwnedFd>,
}

fn memory(len: u64, seal: bool) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = File::from(memfd_create("fuzz", flags).expect("a file"));
    file.set_len(len).expect("length");
    if seal {
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW).expect("seals");
    }
    file.into()
}

impl Files {
    /// The descriptor of a kind.
    pub fn of(&mut self, kind: u8) -> &OwnedFd {
        let kind = kind % KINDS;
        if self.made[usize::from(kind)].is_none() {
            let fd = self.make(kind);
            self.made[usize::from(kind)] = Some(fd);
        }
        self.made[usize::from(kind)].as_ref().expect("made")
    }

    fn make(&mut self, kind: u8) -> OwnedFd {
        match kind {
            LOOSE => memory(MEMORY_LEN, false),
            SHORT => memory(100, true),
            EVENT | OTHER_EVENT => eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd"),
            FULL_EVENT => {
                let full = File::from(eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd"));
                let _ = (&full).write(&(u64::MAX - 1).to_ne_bytes());
                full.into()
            }
            READER | WRITER => {
                let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
                let (own, peer) = match kind {
                    READER => (reader, writer),
                    _ => (writer, reader),
                };
                self.peers.push(peer);
                own
            }
            SOCKET => {
                let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
                let pair = socketpair(family, kind, SocketFlags::CLOEXEC, None);
                let (own, peer) = pair.expect("sockets");
                self.peers.push(peer);
                own
            }
            NULL => File::options()
                .read(true)
                .write(true)
                .open("/dev/null")
                .expect("a device")
                .into(),
            BITMAP => memory(4096, true),
            EPOLL => epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll set"),
            SPARSE => memory(SPARSE_LEN, true),
            READ_ONLY => {
                let path = format!("/proc/self/fd/{}", self.of(MEMORY).as_raw_fd());
                File::open(path).expect("a file").into()
            }
            DIRECTORY => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                open("/", flags, Mode::empty()).expect("a directory")
            }
            KEPT => self.of(MEMORY).try_clone().expect("a copy"),
            _ => memory(MEMORY_LEN, true),
        }
    }

    /// What the back end has sent.
    pub fn keep(&mut self, fd: OwnedFd) {
        self.made[usize::from(KEPT)] = Some(fd);
    }

    /// Writes into a file that was made, at an address less than its length.
    pub fn poke(&mut self, kind: u8, at: u32, bytes: &[u8]) {
        if let MEMORY | LOOSE | SHORT | KEPT | BITMAP | SPARSE = kind % KINDS
            && let Ok(file) = self.of(kind).try_clone().map(File::from)
        {
            let len = file.metadata().map_or(0, |it| it.len()).max(1);
            // A file that is not sealed grows by a few bytes; none is shortened.
            let _ = file.write_at(bytes, u64::from(at) % len);
        }
    }

    /// Rings an eventfd that has room for it.
    pub fn ring(&mut self, kind: u8) {
        if let EVENT | OTHER_EVENT = kind % KINDS {
            let _ = rustix::io::write(self.of(kind).as_fd(), &1u64.to_ne_bytes());
        }
    }

    pub fn silence(&mut self) {
        self.peers.clear();
    }
}
