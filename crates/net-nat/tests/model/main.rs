//! The engine against models of it, in simulated time.
//!
//! | file | what it does |
//! |---|---|
//! | `packet` | packets by meaning, composed with checksums computed from nothing |
//! | `tables`, `reference`, `opening`, `life` | the slow engine: lists and linear search |
//! | `world`, `generator`, `aim` | who there is, and random sequences of packets |
//! | `differential` | the engine and the slow one in step |
//! | `regressions` | faults found that way |
//! | `day` | 24 hours of a network, and nothing left behind |
//! | `attack` | floods of flows, and what they do to others |

mod aim;
mod attack;
mod day;
mod differential;
mod generator;
mod life;
mod opening;
mod packet;
mod reference;
mod regressions;
mod tables;
mod world;
