//! The trait every network device and socket implements, and an in-memory pair.
