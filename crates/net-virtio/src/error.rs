//! What a guest can do wrong, and what a VMM can.

/// How a driver broke a queue. The queue stops and serves nothing until it is set up again; other
/// queues, and other guests, go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The driver's index is further ahead of ours than the queue is long.
    #[error("the available index {available} is more than {size} ahead of {seen}")]
    AvailableIndex {
        /// What the driver wrote.
        available: u16,
        /// What had been taken.
        seen: u16,
        /// Length of the queue.
        size: u16,
    },
    /// A descriptor number at or past the end of its table.
    #[error("descriptor {index} is not in a table of {len}")]
    DescriptorIndex {
        /// The number.
        index: u16,
        /// Length of the table.
        len: u32,
    },
    /// A chain that is longer than the queue allows, or goes round.
    #[error("a descriptor chain is longer than {0}")]
    ChainTooLong(u16),
    /// A descriptor without a byte.
    #[error("a descriptor has no bytes")]
    EmptyDescriptor,
    /// A buffer that is not in the guest's memory.
    #[error("{len} bytes at guest address {address:#x} are not guest memory")]
    OutOfRange {
        /// Guest-physical address.
        address: u64,
        /// Length in bytes.
        len: u64,
    },
    /// A table of descriptors that cannot be one: not a multiple of 16 bytes, in another such
    /// table, with a successor, or not negotiated.
    #[error("an indirect table of {0} bytes is not allowed here")]
    Indirect(u32),
    /// A buffer to write to where one to read was expected, or the reverse.
    #[error("a descriptor has the wrong direction")]
    Direction,
    /// A chain too short for the header in front of every frame.
    #[error("a chain of {0} bytes is too short for its header")]
    TooShort(usize),
}

/// Why a queue cannot be set up as asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// There is no queue of this number.
    #[error("there is no queue {0}")]
    NoQueue(usize),
    /// A length that no queue has: 0, over 32,768, or for a split ring not a power of two.
    #[error("a queue cannot have {0} descriptors")]
    Size(u16),
    /// A part of the ring is not in the guest's memory, in one piece.
    #[error("the {part} at guest address {address:#x} is not guest memory")]
    OutOfRange {
        /// Which part.
        part: &'static str,
        /// Guest-physical address.
        address: u64,
    },
    /// A part of the ring is not aligned as the specification asks.
    #[error("the {part} at guest address {address:#x} is not aligned to {align}")]
    Alignment {
        /// Which part.
        part: &'static str,
        /// Guest-physical address.
        address: u64,
        /// Bytes.
        align: u64,
    },
    /// Features that were not offered.
    #[error("features {0:#x} were not offered")]
    Features(u64),
    /// The log of what was in flight is none of this queue.
    #[error("the log of what was in flight {0}")]
    Inflight(&'static str),
    /// The queue runs; stop it first.
    #[error("queue {0} is running")]
    Running(usize),
    /// Two pieces of memory overlap, one has no bytes, or one passes the end of the address space.
    #[error("the memory region at guest address {0:#x} cannot be")]
    Region(u64),
}
