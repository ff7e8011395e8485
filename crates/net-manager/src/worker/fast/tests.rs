//! The router over pairs in memory, in simulated time.
