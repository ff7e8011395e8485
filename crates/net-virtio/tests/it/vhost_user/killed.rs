//! A back end that is killed in the middle of traffic, again and again, and others that go on from the
//! log of what was in flight.
//!
//! The back end is a process of its own: this program again, which sends every frame back and counts
//! in a file how often it has had each.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use net_backend::conformance::Peer;
use net_backend::{NetworkBackend, PacketBatch};
use net_datapath::VirtioNetHdr;
use net_virtio::DeviceConfig;
use net_virtio::driver::{DriverOptions, GuestRam};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::*;

/// In the environment of the back end: its directory.
const PLACE: &str = "VHOST_USER_BACK_END";
const READY: &str = "the back end is ready";
/// Frames of a life, at most, and lives.
const FRAMES: usize = 600;
const LIVES: usize = 12;
const SIZE: u16 = 64;
/// A test that waits for what does not come shall end.
const PATIENCE: Duration = Duration::from_secs(20);

fn frame(n: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..60 + n * 37 % 400)
        .map(|at| (at * 5 + n) as u8)
        .collect();
    bytes[14..18].copy_from_slice(&(n as u32).to_be_bytes());
    bytes
}

fn number(frame: &[u8]) -> usize {
    u32::from_be_bytes(frame[14..18].try_into().unwrap()) as usize
}

/// Not a test but the other process of the next one, where it is asked for.
#[test]
fn back_end() {
    let Some(place) = std::env::var_os(PLACE) else {
        return;
    };
    let place = Path::new(&place);
    let counts = place.join("counts");
    let counts = File::options().read(true).write(true).open(counts).unwrap();
    let mut port = VhostUserPort::new(DeviceConfig::default()).unwrap();
    port.set_offloads(Offloads::NONE).unwrap();
    port.listen(VhostUserListener::bind(place.join("vhost")).unwrap())
        .unwrap();
    println!("{READY}");
    // It ends with whoever started it.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    loop {
        let mut frames = Vec::new();
        let mut keep = |batch: &mut [net_datapath::ZeroCopyPacket<'_>]| {
            for packet in batch {
                let mut bytes = vec![0; packet.len()];
                packet.copy_range(0, &mut bytes);
                let (at, mut count) = (number(&bytes) as u64, [0]);
                counts.read_exact_at(&mut count, at).unwrap();
                counts.write_all_at(&[count[0] + 1], at).unwrap();
                frames.push(bytes);
            }
        };
        // A front-end that has gone is followed by none: this process is killed.
        if port.receive(256, &mut keep).unwrap_or(0) == 0 {
            std::thread::yield_now();
        }
        for frame in frames {
            let segments = [net_datapath::IoSegment::from(&frame[..])];
            while port
                .transmit(&[net_backend::TxFrame::plain(&segments)])
                .unwrap()
                == 0
            {
                std::thread::yield_now();
            }
        }
    }
}

/// The process.
struct BackEnd(Child);

impl BackEnd {
    fn start(place: &Path) -> Self {
        // The one before had no time to take its socket away.
        let _ = std::fs::remove_file(place.join("vhost"));
        let this = std::env::current_exe().unwrap();
        let mut child = Command::new(this)
            .args(["--exact", "vhost_user::killed::back_end", "--nocapture"])
            .env(PLACE, place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains(READY)));
        Self(child)
    }
}

impl Drop for BackEnd {
    /// SIGKILL, whatever it does just now.
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// What outlasts back ends.
struct World {
    guest: Option<Guest>,
    memory: File,
    log: Option<(File, Vec<u8>)>,
    sent: usize,
    /// How often each frame has come back.
    echoes: Vec<u8>,
}

impl World {
    fn attach(&mut self, place: &Path) -> Machine {
        let guest = self.guest.take().unwrap();
        let memory = self.memory.try_clone().unwrap();
        let log = &mut self.log;
        // It says the bases of fresh rings: it knows no others.
        Machine::attach_with(&place.join("vhost"), guest, memory, [0; 2], |front| {
            let (file, body) = log.get_or_insert_with(|| ask_for_log(front));
            front.tell(SET_INFLIGHT_FD, body, &[file.as_raw_fd()]);
        })
    }

    /// Takes back what there is.
    fn take(&mut self, machine: &mut Machine) {
        while let Some(echo) = machine.recv() {
            let n = number(&echo.bytes);
            assert_eq!(echo.bytes, frame(n));
            self.echoes[n] += 1;
        }
        machine.guest.reclaim();
    }

    /// Sends so many more.
    fn send(&mut self, machine: &mut Machine, more: usize) {
        let (end, deadline) = (self.sent + more, Instant::now() + PATIENCE);
        while self.sent < end {
            assert!(Instant::now() < deadline, "{} of {end} are sent", self.sent);
            // The rest of the buffers is for what comes back.
            let few = machine.guest.transmit.outstanding() < usize::from(SIZE / 2);
            match few && machine.send(VirtioNetHdr::PLAIN, &frame(self.sent)) {
                true => self.sent += 1,
                false => std::thread::yield_now(),
            }
            self.take(machine);
        }
    }
}

fn ask_for_log(front: &Front) -> (File, Vec<u8>) {
    let mut body = words(&[0, 0]);
    body.extend([2, SIZE, 0, 0].map(u16::to_ne_bytes).concat());
    front.send(GET_INFLIGHT_FD, PLAIN, &body, &[]);
    let mut answer = [0; 12 + 24];
    let (len, file) = front.stream.recv_with_fd(&mut answer).unwrap();
    assert_eq!(len, answer.len());
    (file.unwrap(), answer[12..].to_vec())
}

fn lives(packed: bool, indirect: bool, mut seed: u64) {
    let shape = Shape {
        options: DriverOptions {
            packed,
            event_index: true,
            indirect,
        },
        size: SIZE,
        receive: 600,
        cut: if indirect { 200 } else { 0 },
        ..Shape::default()
    };
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let counts = File::create_new(place.join("counts")).unwrap();
    counts.set_len((FRAMES * (LIVES + 1)) as u64).unwrap();
    let (ram, memory) = GuestRam::shared(Guest::footprint(shape)).unwrap();
    let mut world = World {
        guest: Some(Guest::over(ram, shape)),
        memory,
        log: None,
        sent: 0,
        echoes: vec![0; FRAMES * (LIVES + 1)],
    };
    for _ in 0..LIVES {
        let back_end = BackEnd::start(place);
        let mut machine = world.attach(place);
        // xorshift64: the same places at each run, as far as two processes are ever the same.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        world.send(&mut machine, 1 + (seed % FRAMES as u64) as usize);
        drop(back_end);
        world.take(&mut machine);
        world.guest = Some(machine.guest);
    }
    let _back_end = BackEnd::start(place);
    let mut machine = world.attach(place);
    world.send(&mut machine, 1);
    let deadline = Instant::now() + PATIENCE;
    while machine.guest.transmit.outstanding() > 0 || world.echoes[world.sent - 1] == 0 {
        assert!(
            Instant::now() < deadline,
            "{} chains and {} are with the device, of {} frames the last came back {} times",
            machine.guest.transmit.outstanding(),
            machine.guest.receive.outstanding(),
            world.sent,
            world.echoes[world.sent - 1],
        );
        world.take(&mut machine);
    }
    // Every buffer is the driver's or the device's to fill: none is lost, none was given back twice.
    machine.guest.assert_all_buffers();

    let mut had = vec![0; world.sent];
    File::open(place.join("counts"))
        .unwrap()
        .read_exact_at(&mut had, 0)
        .unwrap();
    assert!(had.iter().all(|count| *count > 0), "a frame was lost");
    let again: usize = had.iter().map(|count| usize::from(*count) - 1).sum();
    assert!(again <= LIVES * PacketBatch::LEN, "{again} frames twice");
    for (n, (had, echoed)) in had.iter().zip(&world.echoes).enumerate() {
        assert!(echoed <= had, "frame {n}: {echoed} of {had}");
    }
    let lost = world.echoes[..world.sent].iter().filter(|it| **it == 0);
    // Those that were taken, or sent back, when a back end ended.
    let lost = lost.count();
    assert!(lost <= LIVES * 256, "{lost} frames did not come back");
}

#[test]
fn killed_in_mid_traffic_split() {
    lives(false, false, 0x5eed_0001);
    lives(false, true, 0x5eed_0002);
}

#[test]
fn killed_in_mid_traffic_packed() {
    lives(true, false, 0x5eed_0003);
    lives(true, true, 0x5eed_0004);
}
