//! QEMU's stream framing: however the stream is cut, the frames and the error are those of a naive
//! reading of the whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use net_backend::{MAX_FRAME, MIN_FRAME, Malformed};
use net_backend_socket::framing::{BUFFER_LEN, FrameDecoder, PREFIX_LEN, prefix};

fuzz_target!(|bytes: &[u8]| {
    // How often the stream repeats, so that a small input passes the end of the buffer; then the
    // sizes of the pieces it arrives in, in a scale of their own.
    let Some(([repeat, scale, pieces @ ..], stream)) = bytes.split_first_chunk::<6>() else {
        return;
    };
    let repeat = 1 + usize::from(*repeat) % (1 + (3 * BUFFER_LEN) / stream.len().max(1));
    let wire = stream.repeat(repeat);
    let (frames, error) = naive(&wire);

    let mut decoder = FrameDecoder::new();
    let (mut rest, mut turn, mut seen) = (&wire[..], 0, 0);
    let mut found = None;
    while !rest.is_empty() && found.is_none() {
        let room = decoder.spare_mut();
        assert!(!room.is_empty(), "no room with every whole frame consumed");
        let piece = 1 + (usize::from(pieces[turn % pieces.len()]) << (scale % 12));
        let piece = piece.min(room.len()).min(rest.len());
        room[..piece].copy_from_slice(&rest[..piece]);
        decoder.filled(piece);
        rest = &rest[piece..];
        turn += 1;
        // Every other time only one frame is taken before more arrives, as a budget would have it;
        // but never so that the buffer fills up.
        let most = if turn % 2 == 0 && decoder.frames().count() < 2 {
            1
        } else {
            usize::MAX
        };
        let mut lent = decoder.frames();
        for frame in lent.by_ref().take(most) {
            match frame {
                Ok(frame) => {
                    assert_eq!(Some(&frame), frames.get(seen), "frame {seen}");
                    assert_eq!(prefix(frame.len()), Ok((frame.len() as u32).to_be_bytes()));
                    seen += 1;
                }
                Err(Malformed::Length { len }) => found = Some(len),
                Err(other) => panic!("{other}"),
            }
        }
        let used = lent.consumed();
        decoder.consume(used);
    }
    assert_eq!((seen, found), (frames.len(), error));
});

/// The frames of a whole stream, and the length that ends it if one is out of range.
fn naive(mut wire: &[u8]) -> (Vec<&[u8]>, Option<u32>) {
    let mut frames = Vec::new();
    while wire.len() >= PREFIX_LEN {
        let (len, behind) = wire.split_at(PREFIX_LEN);
        let len = u32::from_be_bytes(len.try_into().unwrap());
        if (len as usize) < MIN_FRAME || len as usize > MAX_FRAME {
            return (frames, Some(len));
        }
        if behind.len() < len as usize {
            break;
        }
        frames.push(&behind[..len as usize]);
        wire = &behind[len as usize..];
    }
    (frames, None)
}
