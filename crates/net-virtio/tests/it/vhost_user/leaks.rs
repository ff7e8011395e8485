//! Descriptors and mappings of logs, however many a front-end sends.
//!
//! Other tests run in the same process at the same time: what is counted is what leads to the files of
//! this one.

use std::fs;
use std::os::unix::fs::MetadataExt;

use net_virtio::DeviceConfig;

use super::*;

/// Messages of each kind.
const MANY: usize = 200;

/// Descriptors of this process that are the same file.
fn descriptors(of: &File) -> usize {
    let key = |it: fs::Metadata| (it.dev(), it.ino());
    let ours = key(of.metadata().unwrap());
    let all = fs::read_dir("/proc/self/fd").unwrap();
    // Some are closed by others before they can be asked.
    all.filter_map(|entry| fs::metadata(entry.ok()?.path()).ok())
        .filter(|it| key(it.clone()) == ours)
        .count()
}

/// What the kernel calls an eventfd, all of which are one file to it.
fn eventfd_id(number: &str) -> Option<String> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
    let id = info
        .lines()
        .find_map(|line| line.strip_prefix("eventfd-id:"))?;
    Some(id.trim().to_owned())
}

/// Descriptors of this process that are the same eventfd.
fn eventfds(of: &EventFd) -> usize {
    let ours = eventfd_id(&of.as_raw_fd().to_string()).unwrap();
    let all = fs::read_dir("/proc/self/fd").unwrap();
    all.filter_map(|entry| eventfd_id(entry.ok()?.file_name().to_str()?))
        .filter(|id| *id == ours)
        .count()
}

/// Mappings of a file.
fn mappings(of: &File) -> usize {
    let ours = of.metadata().unwrap().ino().to_string();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    // Addresses, rights, offset, device, inode, name.
    maps.lines()
        .filter(|line| line.contains("/memfd:"))
        .filter(|line| line.split_whitespace().nth(4) == Some(&ours))
        .count()
}

#[test]
fn logs_of_pages_leave_nothing_behind() {
    let mut host = Host::new(DeviceConfig::default());
    let (ram, log) = GuestRam::shared(1 << 16).unwrap();
    drop(ram);
    let event = EventFd::new(EFD_NONBLOCK).unwrap();
    let (fd, bell) = (log.as_raw_fd(), event.as_raw_fd());
    assert_eq!(
        (descriptors(&log), mappings(&log), eventfds(&event)),
        (1, 0, 1)
    );

    let machine = Machine::new(&host.path, Shape::default());
    for n in 0..MANY {
        let body = words(&[8192, n as u64 * 8]);
        machine.front.send(SET_LOG_BASE, PLAIN, &body, &[fd]);
        assert_eq!(machine.front.reply(), Some((SET_LOG_BASE, body)));
        machine.front.tell(SET_LOG_FD, &[], &[bell]);
        if n == 1 {
            // Buffers are marked from now on: the rings hold the log, too.
            let features = machine.guest.shape.features() & machine.front.ask_u64(GET_FEATURES);
            let features = features | PROTOCOL | 1 << 26;
            machine.front.tell(SET_FEATURES, &words(&[features]), &[]);
        }
    }
    // The last of each, and our own.
    assert_eq!(
        (descriptors(&log), mappings(&log), eventfds(&event)),
        (1, 1, 2)
    );
    drop(machine);
    host.until_disconnected();
    assert_eq!(
        (descriptors(&log), mappings(&log), eventfds(&event)),
        (1, 0, 1)
    );

    // What cannot be ends the connection, and does not stay with it.
    let at = |size: u64, offset: u64| words(&[size, offset]);
    for n in 0..MANY {
        let front = Front::connect(&host.path);
        front.negotiate(0);
        let (request, body, fds) = match n % 8 {
            0 => (SET_LOG_BASE, at((1 << 16) + 1, 0), vec![fd]),
            1 => (SET_LOG_BASE, at(1 << 31, 0), vec![fd]),
            2 => (SET_LOG_BASE, at(1 << 12, 0), vec![bell]),
            3 => (SET_LOG_BASE, at(1 << 12, 0), vec![fd, fd]),
            4 => (SET_LOG_BASE, words(&[1 << 12]), vec![fd]),
            5 => (SET_LOG_FD, vec![], vec![fd]),
            6 => (SET_LOG_FD, vec![], vec![bell, bell]),
            _ => (SET_LOG_FD, vec![], vec![bell, fd, bell, fd]),
        };
        // One that can be, before it.
        front.send(SET_LOG_BASE, PLAIN, &at(1 << 12, 0), &[fd]);
        front.send(SET_LOG_FD, PLAIN, &[], &[bell]);
        front.send(request, PLAIN, &body, &fds);
        assert!(front.is_closed(), "case {}", n % 8);
        host.until_disconnected();
    }
    assert_eq!(
        (descriptors(&log), mappings(&log), eventfds(&event)),
        (1, 0, 1)
    );
}
