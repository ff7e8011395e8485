//! Layer-2 learning switch between guest ports.
