//! Output of the commands. A reader that has gone ends a command quietly.

use std::io::{self, Write};

use runwasi_core::{logging, sanitize, sys};

/// Prints a text on stdout. False if its reader has gone.
pub(crate) fn print(text: &str) -> io::Result<bool> {
    print_bytes(text.as_bytes())
}

/// The same for bytes.
pub(super) fn print_bytes(bytes: &[u8]) -> io::Result<bool> {
    let mut stdout = io::stdout().lock();
    // Flushed here: an error at the exit of the process would be lost.
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// True if stdout is a pipe without a reader.
pub(super) fn has_no_reader() -> bool {
    sys::has_no_reader(io::stdout())
}

/// Prints a line on stderr that is no result. With stderr closed there is no place for it.
pub(super) fn note(text: &str) {
    logging::print_error(&sanitize::text(text));
}
