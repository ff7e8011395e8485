//! The back end for vhost-user, over its socket: a front-end that speaks the protocol byte by byte.

mod announce;
mod dirty;
mod hostile;
mod inflight;
mod killed;
mod leaks;
mod memory;
mod polling;
mod status;
mod traffic;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use net_backend::conformance::{Frame, Peer};
use net_backend::{BackendError, NetworkBackend, Offloads};
use net_datapath::VirtioNetHdr;
use net_virtio::driver::{BASE, GuestRam};
use net_virtio::vhost_user::{VhostUserListener, VhostUserPort};
use net_virtio::{DeviceConfig, QueueSetup};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use crate::guest::{Guest, Shape};

pub(crate) const GET_FEATURES: u32 = 1;
pub(crate) const SET_FEATURES: u32 = 2;
pub(crate) const SET_OWNER: u32 = 3;
pub(crate) const RESET_OWNER: u32 = 4;
pub(crate) const SET_MEM_TABLE: u32 = 5;
pub(crate) const SET_LOG_BASE: u32 = 6;
pub(crate) const SET_LOG_FD: u32 = 7;
pub(crate) const SET_VRING_NUM: u32 = 8;
pub(crate) const SET_VRING_ADDR: u32 = 9;
pub(crate) const SET_VRING_BASE: u32 = 10;
pub(crate) const GET_VRING_BASE: u32 = 11;
pub(crate) const SET_VRING_KICK: u32 = 12;
pub(crate) const SET_VRING_CALL: u32 = 13;
pub(crate) const SET_VRING_ERR: u32 = 14;
pub(crate) const GET_PROTOCOL_FEATURES: u32 = 15;
pub(crate) const SET_PROTOCOL_FEATURES: u32 = 16;
pub(crate) const GET_QUEUE_NUM: u32 = 17;
pub(crate) const SET_VRING_ENABLE: u32 = 18;
pub(crate) const SEND_RARP: u32 = 19;
pub(crate) const GET_CONFIG: u32 = 24;
pub(crate) const GET_INFLIGHT_FD: u32 = 31;
pub(crate) const SET_INFLIGHT_FD: u32 = 32;
pub(crate) const RESET_DEVICE: u32 = 34;
pub(crate) const GET_MAX_MEM_SLOTS: u32 = 36;
pub(crate) const ADD_MEM_REG: u32 = 37;
pub(crate) const REM_MEM_REG: u32 = 38;
pub(crate) const SET_STATUS: u32 = 39;
pub(crate) const GET_STATUS: u32 = 40;

/// `VHOST_USER_F_PROTOCOL_FEATURES`, which opens the protocol's own.
pub(crate) const PROTOCOL: u64 = 1 << 30;
/// Flags of a message: version 1, and an answer wanted.
pub(crate) const PLAIN: u32 = 1;
pub(crate) const ANSWER: u32 = 1 | 8;

/// Where the front-end has the guest's memory: not where the guest has it.
pub(crate) const USER: u64 = 0x7f12_3400_0000;

/// Fields of a message, in the order of the machine.
pub(crate) fn words(fields: &[u64]) -> Vec<u8> {
    fields.iter().flat_map(|it| it.to_ne_bytes()).collect()
}

/// Index and value of a ring, as half of the messages have it.
pub(crate) fn pair(index: u32, value: u32) -> Vec<u8> {
    [index.to_ne_bytes(), value.to_ne_bytes()].concat()
}

/// A front-end's end of a connection.
pub(crate) struct Front {
    pub(crate) stream: UnixStream,
}

impl Front {
    pub(crate) fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        // A test that waits for what does not come shall end.
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Self { stream }
    }

    pub(crate) fn send(&self, request: u32, flags: u32, body: &[u8], fds: &[RawFd]) {
        let len = body.len() as u32;
        self.send_claiming(request, flags, len, body, fds);
    }

    /// Sends a message that says it is as long as `len`. A connection that has ended refuses it,
    /// which the reading end will tell.
    pub(crate) fn send_claiming(
        &self,
        request: u32,
        flags: u32,
        len: u32,
        body: &[u8],
        fds: &[RawFd],
    ) {
        let mut bytes = Vec::new();
        for field in [request, flags, len] {
            bytes.extend(field.to_ne_bytes());
        }
        bytes.extend(body);
        let _ = self.stream.send_with_fds(&[&bytes[..]], fds);
    }

    /// The next message of the back end; `None` once it has closed the connection.
    pub(crate) fn reply(&self) -> Option<(u32, Vec<u8>)> {
        let mut header = [0; 12];
        (&self.stream).read_exact(&mut header).ok()?;
        let (fields, _) = header.as_chunks::<4>();
        let [request, flags, len] = [0, 1, 2].map(|at| u32::from_ne_bytes(fields[at]));
        assert_eq!(flags & 7, 5, "an answer of version 1");
        let mut body = vec![0; len as usize];
        (&self.stream).read_exact(&mut body).ok()?;
        Some((request, body))
    }

    pub(crate) fn ask(&self, request: u32, body: &[u8]) -> Vec<u8> {
        self.send(request, PLAIN, body, &[]);
        let (answered, body) = self.reply().expect("an answer");
        assert_eq!(answered, request);
        body
    }

    pub(crate) fn ask_u64(&self, request: u32) -> u64 {
        u64::from_ne_bytes(self.ask(request, &[]).try_into().unwrap())
    }

    /// Sends a message and waits until it has been carried out.
    pub(crate) fn tell(&self, request: u32, body: &[u8], fds: &[RawFd]) {
        self.send(request, ANSWER, body, fds);
        let answer = self.reply().expect("an acknowledgement");
        assert_eq!(answer, (request, words(&[0])));
    }

    /// Whether the back end has ended the connection, with or without a last answer.
    pub(crate) fn is_closed(&self) -> bool {
        while self.reply().is_some() {}
        matches!((&self.stream).read(&mut [0]), Ok(0) | Err(_))
            && self.stream.take_error().unwrap().is_none()
    }

    /// Everything before memory and rings; `features` for the driver.
    pub(crate) fn negotiate(&self, features: u64) {
        let offered = self.ask_u64(GET_FEATURES);
        assert_ne!(offered & PROTOCOL, 0);
        let protocol = self.ask_u64(GET_PROTOCOL_FEATURES);
        self.send(SET_PROTOCOL_FEATURES, PLAIN, &words(&[protocol]), &[]);
        self.tell(SET_OWNER, &[], &[]);
        let features = (features & offered) | PROTOCOL;
        self.tell(SET_FEATURES, &words(&[features]), &[]);
    }

    pub(crate) fn share(&self, memory: &File) {
        let len = memory.metadata().unwrap().len();
        let mut body = pair(1, 0);
        body.extend(words(&[BASE, len, USER, 0]));
        self.tell(SET_MEM_TABLE, &body, &[memory.as_raw_fd()]);
    }

    /// Describes a ring up to its kick and call, and enables it.
    pub(crate) fn start(&self, index: u32, setup: &QueueSetup, base: u32) -> Bell {
        let bell = self.start_silently(index, setup, base);
        let body = words(&[index.into()]);
        self.tell(SET_VRING_CALL, &body, &[bell.call.as_raw_fd()]);
        self.tell(SET_VRING_ERR, &body, &[bell.error.as_raw_fd()]);
        bell
    }

    /// The same without call and error.
    pub(crate) fn start_silently(&self, index: u32, setup: &QueueSetup, base: u32) -> Bell {
        let bell = Bell::new();
        self.tell(SET_VRING_NUM, &pair(index, setup.size.into()), &[]);
        self.tell(SET_VRING_BASE, &pair(index, base), &[]);
        self.tell(SET_VRING_ADDR, &addresses(index, setup), &[]);
        let body = words(&[index.into()]);
        self.tell(SET_VRING_KICK, &body, &[bell.kick.as_raw_fd()]);
        self.tell(SET_VRING_ENABLE, &pair(index, 1), &[]);
        bell
    }

    /// Describes a ring up to its kick, and enables it, without a wait for any answer.
    pub(crate) fn describe(&self, index: u32, setup: &QueueSetup, base: u32) {
        let kick = EventFd::new(EFD_NONBLOCK).unwrap();
        let size = setup.size.into();
        self.send(SET_VRING_NUM, PLAIN, &pair(index, size), &[]);
        self.send(SET_VRING_BASE, PLAIN, &pair(index, base), &[]);
        self.send(SET_VRING_ADDR, PLAIN, &addresses(index, setup), &[]);
        let body = words(&[index.into()]);
        self.send(SET_VRING_KICK, PLAIN, &body, &[kick.as_raw_fd()]);
        self.send(SET_VRING_ENABLE, PLAIN, &pair(index, 1), &[]);
    }

    /// Stops a ring; its base.
    pub(crate) fn stop(&self, index: u32) -> u32 {
        let body = self.ask(GET_VRING_BASE, &pair(index, 0));
        assert_eq!(body[..4], index.to_ne_bytes());
        u32::from_ne_bytes(body[4..].try_into().unwrap())
    }
}

/// The body of `SET_VRING_ADDR`.
pub(crate) fn addresses(index: u32, setup: &QueueSetup) -> Vec<u8> {
    let user = |guest: u64| guest.wrapping_sub(BASE).wrapping_add(USER);
    let mut body = pair(index, 0);
    // In this order: descriptors, used, available, log.
    body.extend(words(&[
        user(setup.descriptors),
        user(setup.device),
        user(setup.driver),
        0,
    ]));
    body
}

/// The eventfds of a ring.
pub(crate) struct Bell {
    pub(crate) kick: EventFd,
    pub(crate) call: EventFd,
    pub(crate) error: EventFd,
}

impl Bell {
    fn new() -> Self {
        let [kick, call, error] = [0; 3].map(|_| EventFd::new(EFD_NONBLOCK).unwrap());
        Self { kick, call, error }
    }
}

/// A port with a socket in a directory of its own.
pub(crate) struct Host {
    pub(crate) port: VhostUserPort,
    pub(crate) path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Host {
    pub(crate) fn new(config: DeviceConfig) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vhost");
        let mut port = VhostUserPort::new(config).unwrap();
        port.set_offloads(Offloads::NONE).unwrap();
        port.listen(VhostUserListener::bind(&path).unwrap())
            .unwrap();
        Self {
            port,
            path,
            _directory: directory,
        }
    }

    /// Whether the worker would be woken.
    pub(crate) fn is_rung(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let source = self.port.source().unwrap();
        let mut fds = [PollFd::new(&source, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut fds, Some(&now)).unwrap() == 1
    }

    /// Waits until the port tells that its front-end has gone.
    pub(crate) fn until_disconnected(&mut self) {
        loop {
            match self.port.receive(64, &mut |_| {}) {
                Err(BackendError::Disconnected) => return,
                Err(err) => panic!("{err}"),
                Ok(_) => std::thread::yield_now(),
            }
        }
    }

    /// Everything there is to receive.
    pub(crate) fn received(&mut self) -> Vec<Vec<u8>> {
        crate::announce::lent(&mut self.port)
    }

    pub(crate) fn transmit(&mut self, frame: &[u8]) -> bool {
        let segments = [net_datapath::IoSegment::from(frame)];
        let frames = [net_backend::TxFrame::plain(&segments)];
        self.port.transmit(&frames).unwrap() == 1
    }
}

/// A virtual machine: a guest in shared memory, and its front-end.
pub(crate) struct Machine {
    pub(crate) guest: Guest,
    pub(crate) memory: File,
    pub(crate) front: Front,
    pub(crate) bells: [Bell; 2],
}

impl Machine {
    pub(crate) fn new(path: &Path, shape: Shape) -> Self {
        let (ram, memory) = GuestRam::shared(Guest::footprint(shape)).unwrap();
        Self::attach(path, Guest::over(ram, shape), memory, [0; 2])
    }

    /// A front-end for a guest that is there already, whose rings stand at these bases.
    pub(crate) fn attach(path: &Path, guest: Guest, memory: File, bases: [u32; 2]) -> Self {
        Self::attach_with(path, guest, memory, bases, |_| {})
    }

    /// The same with more to say before rings are described.
    pub(crate) fn attach_with(
        path: &Path,
        guest: Guest,
        memory: File,
        bases: [u32; 2],
        say: impl FnOnce(&Front),
    ) -> Self {
        let front = Front::connect(path);
        front.negotiate(guest.shape.features());
        front.share(&memory);
        say(&front);
        let fresh = match guest.shape.options.packed {
            true => 0x8000_8000,
            false => 0,
        };
        let base = |index: usize| {
            if bases[index] == 0 {
                fresh
            } else {
                bases[index]
            }
        };
        let bells = [
            front.start(0, &guest.receive.setup(), base(0)),
            front.start(1, &guest.transmit.setup(), base(1)),
        ];
        Self {
            guest,
            memory,
            front,
            bells,
        }
    }

    /// Rings what the device wants to hear.
    pub(crate) fn kick_receive(&mut self) {
        if std::mem::take(&mut self.guest.receive_kick) {
            self.bells[0].kick.write(1).unwrap();
        }
    }
}

impl Peer for Machine {
    fn send(&mut self, header: VirtioNetHdr, frame: &[u8]) -> bool {
        let Some(kick) = self.guest.send_kicking(header, frame) else {
            return false;
        };
        if kick {
            self.bells[1].kick.write(1).unwrap();
        }
        true
    }

    fn recv(&mut self) -> Option<Frame> {
        let (header, bytes) = self.guest.recv()?;
        self.kick_receive();
        Some(Frame { header, bytes })
    }
}
