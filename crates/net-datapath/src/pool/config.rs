//! What a pool is made of, and why one could not be made.

use core::fmt;

/// Every buffer starts on a multiple of this many bytes: two cache lines, the unit that x86-64 and
/// Apple processors fetch together.
pub const BUFFER_ALIGN: usize = 128;

/// Strides that are a multiple of this put the start of every buffer into the same few cache sets.
const ALIASING_STRIDE: usize = 2048;

/// The shape of a [`PacketPool`](super::PacketPool).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolConfig {
    /// Number of buffers, 1 to 2^31 - 1.
    pub buffers: usize,
    /// Bytes of one buffer, headroom included; 1 to 2^31 - 1.
    pub buffer_size: usize,
    /// Bytes kept free in front of a fresh buffer's content, for headers put on later; less than
    /// `buffer_size`.
    pub headroom: usize,
}

impl PoolConfig {
    /// Distance in bytes from one buffer to the next.
    ///
    /// At least `buffer_size`, a multiple of [`BUFFER_ALIGN`], and never a multiple of 2,048: with
    /// such a stride the first lines of all buffers would compete for the same cache sets.
    pub fn stride(&self) -> Result<usize, PoolError> {
        let limit = i32::MAX as usize;
        if self.buffers == 0 || self.buffers > limit {
            return Err(PoolError::BufferCount(self.buffers));
        }
        if self.buffer_size == 0 || self.buffer_size > limit {
            return Err(PoolError::BufferSize(self.buffer_size));
        }
        if self.headroom >= self.buffer_size {
            return Err(PoolError::Headroom {
                headroom: self.headroom,
                buffer_size: self.buffer_size,
            });
        }
        let stride = self
            .buffer_size
            .checked_next_multiple_of(BUFFER_ALIGN)
            .ok_or(PoolError::BufferSize(self.buffer_size))?;
        Ok(if stride.is_multiple_of(ALIASING_STRIDE) {
            stride + BUFFER_ALIGN
        } else {
            stride
        })
    }

    /// Bytes of memory the whole pool takes: what
    /// [`PacketPool::with_memory`](super::PacketPool::with_memory) must be given.
    pub fn memory_size(&self) -> Result<usize, PoolError> {
        let stride = self.stride()?;
        match stride.checked_mul(self.buffers) {
            Some(bytes) if bytes <= isize::MAX as usize - BUFFER_ALIGN => Ok(bytes),
            _ => Err(PoolError::TooLarge),
        }
    }
}

/// Why a pool could not be made. All of these are mistakes of the caller but
/// [`OutOfMemory`](PoolError::OutOfMemory).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolError {
    /// The number of buffers is 0 or above 2^31 - 1.
    BufferCount(usize),
    /// The size of a buffer is 0 or above 2^31 - 1 bytes.
    BufferSize(usize),
    /// The headroom leaves no byte for content.
    Headroom {
        /// Headroom asked for, in bytes.
        headroom: usize,
        /// Size of one buffer, in bytes.
        buffer_size: usize,
    },
    /// All buffers together exceed the address space.
    TooLarge,
    /// The allocator refused this many bytes.
    OutOfMemory(usize),
    /// The memory supplied from outside is too short.
    MemoryTooSmall {
        /// Bytes needed: [`PoolConfig::memory_size`].
        needed: usize,
        /// Bytes given.
        given: usize,
    },
    /// The memory supplied from outside does not start on a multiple of [`BUFFER_ALIGN`].
    Misaligned,
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::BufferCount(n) => write!(f, "a pool cannot have {n} buffers (1 to 2^31 - 1)"),
            Self::BufferSize(n) => write!(f, "a buffer cannot have {n} bytes (1 to 2^31 - 1)"),
            Self::Headroom {
                headroom,
                buffer_size,
            } => write!(
                f,
                "a headroom of {headroom} bytes leaves nothing of a buffer of {buffer_size}"
            ),
            Self::TooLarge => f.write_str("the buffers together exceed the address space"),
            Self::OutOfMemory(bytes) => write!(f, "no memory for a pool of {bytes} bytes"),
            Self::MemoryTooSmall { needed, given } => {
                write!(f, "the pool needs {needed} bytes of memory and got {given}")
            }
            Self::Misaligned => write!(f, "pool memory must start on a multiple of {BUFFER_ALIGN}"),
        }
    }
}

impl core::error::Error for PoolError {}
