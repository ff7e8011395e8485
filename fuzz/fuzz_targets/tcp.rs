//! TCP: views stay inside the segment, options end, and a header is written back unchanged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use net_wire::tcp::{MIN_HEADER_LEN, SeqNumber, TcpFlags, TcpOption, TcpRepr, TcpSegment};

fuzz_target!(|bytes: &[u8]| {
    let Ok(segment) = TcpSegment::parse(bytes) else {
        return;
    };
    let header = segment.header_len();
    assert!((MIN_HEADER_LEN..=60).contains(&header) && header <= bytes.len());
    assert_eq!(segment.payload(), &bytes[header..]);
    assert!(TcpSegment::parse(&bytes[..header - 1]).is_err());

    // Options: each takes at least one byte, and their data lies in the header.
    let area = &bytes[MIN_HEADER_LEN..header];
    let mut used = 0;
    for option in segment.options() {
        used += match option {
            TcpOption::MaxSegmentSize(_) => 4,
            TcpOption::WindowScale(_) => 3,
            TcpOption::SackPermitted => 2,
            TcpOption::Timestamps(..) => 10,
            TcpOption::Sack(data) => {
                assert_eq!(data.len() % 8, 0);
                2 + inside(area, data)
            }
            TcpOption::Unknown(kind, data) => {
                assert!(kind > 1, "end and no-op are not options");
                2 + inside(area, data)
            }
            _ => 0,
        };
    }
    assert!(used <= area.len(), "options overlap");

    let repr = TcpRepr {
        src_port: segment.src_port(),
        dst_port: segment.dst_port(),
        seq: segment.seq(),
        ack: segment.ack(),
        flags: segment.flags(),
        window: segment.window(),
    };
    let mut again = vec![0xaa; header];
    assert_eq!(repr.emit(&mut again, area), header);
    let mut wanted = bytes[..header].to_vec();
    // Reserved bits, checksum and urgent pointer are not part of it.
    wanted[12] &= 0xf0;
    wanted[16..20].fill(0);
    assert_eq!(again, wanted);

    let mut copy = TcpSegment::parse(bytes.to_vec()).unwrap();
    copy.set_src_port(segment.dst_port());
    copy.set_dst_port(segment.src_port());
    copy.set_seq(segment.ack());
    copy.set_ack(segment.seq());
    copy.set_flags(TcpFlags::RST | TcpFlags::ACK);
    copy.set_checksum(!segment.checksum());
    assert_eq!(
        (copy.src_port(), copy.dst_port()),
        (segment.dst_port(), segment.src_port())
    );
    assert_eq!((copy.seq(), copy.ack()), (segment.ack(), segment.seq()));
    assert_eq!(copy.checksum(), !segment.checksum());
    assert_eq!(copy.urgent_pointer(), segment.urgent_pointer());
    assert_eq!(
        (copy.window(), copy.payload()),
        (segment.window(), segment.payload())
    );

    // Sequence arithmetic is a ring: forward and back is where it began.
    let (a, b) = (segment.seq(), segment.ack());
    assert_eq!(b + a.since(b) as u32, a);
    // Half a ring apart, neither order is right (RFC 1982, section 3.2).
    assert!(!(a.before(b) && b.before(a)) || a.since(b) == i32::MIN);
    assert!(!SeqNumber(a.0).before(a));
});

/// The length of `part`, which must be a piece of `whole`.
fn inside(whole: &[u8], part: &[u8]) -> usize {
    let (whole, piece) = (whole.as_ptr_range(), part.as_ptr_range());
    assert!(whole.start <= piece.start && piece.end <= whole.end);
    part.len()
}
