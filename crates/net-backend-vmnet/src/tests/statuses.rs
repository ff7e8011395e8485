//! Every status of the framework: its number, its error, its advice, its meaning.

use net_backend::{BackendError, NetworkBackend};

use super::{received, shared, start};
use crate::fake::{Fake, Script};
use crate::status::Meaning;
use crate::{Status, VmnetConfig, VmnetError};

/// The numbers of `vmnet.h`, what is to be done in a word of the message, and the error number.
const ROWS: [(u32, Status, &str, &str, i32, Meaning); 11] = [
    (
        1001,
        Status::Failure,
        "VMNET_FAILURE",
        "root",
        libc::EIO,
        Meaning::Ailing,
    ),
    (
        1002,
        Status::MemFailure,
        "VMNET_MEM_FAILURE",
        "memory",
        libc::ENOMEM,
        Meaning::Full,
    ),
    (
        1003,
        Status::InvalidArgument,
        "VMNET_INVALID_ARGUMENT",
        "name of the interface",
        libc::EINVAL,
        Meaning::Packet,
    ),
    (
        1004,
        Status::SetupIncomplete,
        "VMNET_SETUP_INCOMPLETE",
        "start a new one",
        libc::ENXIO,
        Meaning::Gone,
    ),
    (
        1005,
        Status::InvalidAccess,
        "VMNET_INVALID_ACCESS",
        "com.apple.vm.networking",
        libc::EPERM,
        Meaning::Gone,
    ),
    (
        1006,
        Status::PacketTooBig,
        "VMNET_PACKET_TOO_BIG",
        "larger MTU",
        libc::EMSGSIZE,
        Meaning::Packet,
    ),
    (
        1007,
        Status::BufferExhausted,
        "VMNET_BUFFER_EXHAUSTED",
        "again",
        libc::ENOBUFS,
        Meaning::Full,
    ),
    (
        1008,
        Status::TooManyPackets,
        "VMNET_TOO_MANY_PACKETS",
        "fewer",
        libc::EINVAL,
        Meaning::Fewer,
    ),
    (
        1009,
        Status::SharingServiceBusy,
        "VMNET_SHARING_SERVICE_BUSY",
        "Internet Sharing",
        libc::EBUSY,
        Meaning::Gone,
    ),
    (
        1010,
        Status::NotAuthorized,
        "VMNET_NOT_AUTHORIZED",
        "com.apple.vm.networking",
        libc::EPERM,
        Meaning::Gone,
    ),
    (
        1011,
        Status::Unknown(1011),
        "1011",
        "vmnet.h",
        libc::EIO,
        Meaning::Ailing,
    ),
];

#[test]
fn numbers_messages_and_meanings() {
    assert_eq!(Status::check(1000), Ok(()));
    for (number, status, name, advice, errno, meaning) in ROWS {
        assert_eq!(Status::check(number), Err(status));
        let text = status.to_string();
        assert!(text.contains(name) && text.contains(advice), "{text}");
        assert_eq!(text.lines().count(), 1);
        assert_eq!(status.errno(), errno, "{text}");
        assert_eq!(status.meaning(), meaning, "{text}");
    }
    for number in [0, 1, 999, u32::MAX] {
        assert_eq!(Status::check(number), Err(Status::Unknown(number)));
    }
}

/// Every status as the answer to a start: its own error, and nothing left running.
#[test]
fn of_a_start() {
    for (number, expected, ..) in ROWS {
        let fake = Fake::with(Script {
            start_status: number,
            ..Script::default()
        });
        let error = start(&fake, VmnetConfig::shared()).unwrap_err();
        let VmnetError::Refused { what, status } = error else {
            panic!("{number}: {error}");
        };
        assert_eq!((what, status), ("start an interface", expected));
        let state = fake.state();
        assert_eq!((state.stops, state.dropped), (1, 1), "{number}");
    }
}

/// Every status as the answer to the wish for events.
#[test]
fn of_the_events() {
    for (number, expected, ..) in ROWS {
        let fake = Fake::with(Script {
            events_status: number,
            ..Script::default()
        });
        let error = start(&fake, VmnetConfig::shared()).unwrap_err();
        assert!(matches!(
            error,
            VmnetError::Refused { what: "ask for events", status } if status == expected
        ));
        assert_eq!(fake.state().stops, 1);
    }
}

/// Every status as the refusal to stop, and as the answer of its completion.
#[test]
fn of_a_stop() {
    for (number, expected, ..) in ROWS {
        for at_once in [true, false] {
            let (fake, mut vmnet) = shared(Script::default());
            if at_once {
                fake.state().script.stop_asked = number;
            } else {
                fake.state().script.stop_status = number;
            }
            let error = vmnet.stop().unwrap_err();
            assert!(matches!(
                error,
                VmnetError::Refused { what: "stop the interface", status } if status == expected
            ));
            // It counts as stopped all the same, and is not stopped again.
            assert!(!vmnet.is_running() && vmnet.stop().is_ok());
            drop(vmnet);
            assert_eq!(fake.state().stops, 1);
        }
    }
}

/// Every status as the answer to a read.
#[test]
fn of_a_read() {
    for (number, expected, _, _, errno, meaning) in ROWS {
        let (fake, mut vmnet) = shared(Script::default());
        fake.state().inbound.push_back(super::frame(1, 60));
        fake.state().next_reads.push_back(number);
        let result = vmnet.receive(8, &mut |_| {});
        match (meaning, expected) {
            // The packet is still there for the next read.
            (Meaning::Fewer, _) => assert!(matches!(result, Ok(1)), "{number}"),
            (Meaning::Full | Meaning::Ailing | Meaning::Packet, _) => {
                assert!(matches!(result, Ok(0)), "{number}");
                assert!(vmnet.next_deadline().is_some() && vmnet.is_running());
                let reads = fake.state().reads;
                assert!(
                    received(&mut vmnet, 8).is_empty(),
                    "not before the pause is over"
                );
                assert_eq!(fake.state().reads, reads);
                super::tick(&mut vmnet, &mut std::time::Duration::ZERO.clone());
                assert_eq!(received(&mut vmnet, 8).len(), 1, "{number}");
            }
            (Meaning::Gone, Status::SetupIncomplete) => {
                assert!(matches!(result, Err(BackendError::Disconnected)));
            }
            (Meaning::Gone, _) => {
                assert!(matches!(result, Err(BackendError::Host { errno: e, .. }) if e == errno));
            }
        }
        if meaning == Meaning::Gone {
            assert!(!vmnet.is_running());
            let again = vmnet.receive(8, &mut |_| {});
            assert!(matches!(again, Err(BackendError::Disconnected)), "{number}");
            assert_eq!(vmnet.statistics().disconnects, 1);
        }
    }
}

/// Every status as the answer to a write.
#[test]
fn of_a_write() {
    for (number, expected, _, _, errno, meaning) in ROWS {
        let (fake, mut vmnet) = shared(Script::default());
        fake.state().next_writes.push_back(number);
        let frame = super::frame(1, 60);
        let result = vmnet.transmit(&[net_backend::TxFrame::plain(&[frame[..].into()])]);
        let stats = vmnet.statistics();
        match (meaning, expected) {
            (Meaning::Full | Meaning::Ailing, _) => {
                assert!(matches!(result, Ok(0)), "{number}");
                assert_eq!((stats.tx_blocked, stats.tx_dropped()), (1, 0));
                assert!(vmnet.next_deadline().is_some() && vmnet.is_running());
            }
            // One alone cannot be fewer: it is dropped, as one that cannot go.
            (Meaning::Packet | Meaning::Fewer, _) => {
                assert!(matches!(result, Ok(1)), "{number}");
                assert_eq!((stats.tx_invalid, stats.tx_frames), (1, 0));
            }
            (Meaning::Gone, Status::SetupIncomplete) => {
                assert!(matches!(result, Err(BackendError::Disconnected)));
            }
            (Meaning::Gone, _) => {
                assert!(matches!(result, Err(BackendError::Host { errno: e, .. }) if e == errno));
            }
        }
        assert_eq!(vmnet.is_running(), meaning != Meaning::Gone);
    }
}
