//! What the program prints on standard output.

use std::io::Write;

/// Prints a line. A reader that has gone away, as `| head` does, is not an error.
pub(crate) fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
