//! Printing. `print!` panics when nobody reads any more, as in `claude-bottle probe | head -1`.

use std::io::{self, Write as _};

use anyhow::Context as _;

/// Prints `text` to standard output. A reader that is gone has seen enough: that is no failure.
pub(super) fn out(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// Prints a line to standard error, if anybody reads it.
pub(super) fn err(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
