//! The forwarder as its callers see it, row by row.
// The lint spares `#[test]` functions, not the helpers they call.
#![allow(clippy::unwrap_used)]

mod common;
mod row64_forwarding;
mod row65_matching;
mod row66_cache;
mod row66_local_names;
mod row67_upstreams;

mod hostile;
mod oracle;
