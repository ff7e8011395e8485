//! Finishing a checksum that an offload left partial.

use net_wire::checksum::{Sum, sum};

use super::UDP_CHECKSUM;
use crate::packet::{PacketMeta, ZeroCopyPacket};
use crate::vnet::{VirtioNetHdr, VnetError};

/// Completes the partial checksum of a frame that has one; does nothing to another.
///
/// The field holds the pseudo-header sum, so summing from `csum_start` to the end of the IP packet
/// (padding excluded) gives the checksum of whatever protocol it is, a tunnelled one included.
///
/// # Errors
/// [`VnetError::ChecksumOutOfBounds`], and the frame is unchanged.
pub fn complete_checksum(frame: &mut [u8], header: &VirtioNetHdr) -> Result<(), VnetError> {
    if !header.needs_csum() {
        return Ok(());
    }
    let meta = PacketMeta::parse(frame, frame.len()).map_err(|_| VnetError::ChecksumOutOfBounds)?;
    let (start, field, end) = bounds(header, &meta, frame.len())?;
    let covered = frame.get(start..end);
    let value = finish(sum(covered.unwrap_or_default()), header);
    if let Some(field) = frame.get_mut(field..field + 2) {
        field.copy_from_slice(&value.to_be_bytes());
    }
    Ok(())
}

impl ZeroCopyPacket<'_> {
    /// Completes a partial checksum in the head, reading the payload where it lies, and makes the
    /// virtio header plain; does nothing to a packet without one.
    ///
    /// # Errors
    /// [`VnetError::ChecksumOutOfBounds`], also where the field lies behind the head, as it can in
    /// a tunnel: such a packet is to be copied and given to [`complete_checksum`], which is what a
    /// [`super::Segmenter`] does. [`VnetError::GsoMismatch`] for a super-frame, which has as many
    /// checksums as segments.
    pub fn complete_checksum(&mut self) -> Result<(), VnetError> {
        let header = *self.vnet();
        if !header.needs_csum() {
            return Ok(());
        }
        if header.is_gso() {
            return Err(VnetError::GsoMismatch);
        }
        let (start, field, end) = bounds(&header, self.meta(), self.len())?;
        let value = finish(self.sum_range(start, end - start), &header);
        let field = self.head_mut().get_mut(field..field + 2);
        field
            .ok_or(VnetError::ChecksumOutOfBounds)?
            .copy_from_slice(&value.to_be_bytes());
        self.set_vnet(VirtioNetHdr {
            num_buffers: header.num_buffers,
            ..VirtioNetHdr::PLAIN
        });
        Ok(())
    }
}

/// Start of the sum, place of the field, end of the sum.
fn bounds(
    header: &VirtioNetHdr,
    meta: &PacketMeta,
    frame_len: usize,
) -> Result<(usize, usize, usize), VnetError> {
    let start = usize::from(header.csum_start);
    let field = start + usize::from(header.csum_offset);
    let end = (meta.l3_end as usize).min(frame_len);
    if start < usize::from(meta.l3_offset) || field + 2 > end {
        return Err(VnetError::ChecksumOutOfBounds);
    }
    Ok((start, field, end))
}

fn finish(total: Sum, header: &VirtioNetHdr) -> u16 {
    if usize::from(header.csum_offset) == UDP_CHECKSUM {
        total.finish_udp()
    } else {
        total.finish()
    }
}
