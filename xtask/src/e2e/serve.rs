//! The servers outside: DNS and HTTP.

use crate::Result;

pub(crate) fn run(_args: lexopt::Parser) -> Result<()> {
    Err("nothing to serve yet".into())
}
