//! Log output: containerd's `log` FIFO in the bundle, or stderr. Set up once in a process.
//!
//! No thread ever waits for the reader of the log (`lossy`).

mod lossy;

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::Path,
};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, filter::Targets, fmt::MakeWriter, layer::SubscriberExt};

use self::lossy::Lossy;

/// Logs to the FIFO `log` in the current directory, which containerd has made. Without that FIFO
/// nothing is logged.
pub fn to_containerd(debug: bool) {
    if let Some(fifo) = fifo(Path::new("log")) {
        install(level(debug), Lossy::file(fifo));
    }
}

/// Logs to stderr. For programs that a person starts.
pub fn to_stderr(debug: bool) {
    to_stderr_at(level(debug));
}

/// Logs to stderr, which systemd puts into its journal. For daemons.
pub fn to_stderr_at(level: LevelFilter) {
    if let Some(stderr) = Lossy::stderr() {
        install(level, stderr);
    }
}

/// Writes the error that ends a program to stderr, as far as that takes no waiting.
pub fn print_error(text: &str) {
    if let Some(mut stderr) = Lossy::stderr() {
        // Never an error.
        let _ = stderr.write_all(format!("{text}\n").as_bytes());
    }
}

fn level(debug: bool) -> LevelFilter {
    if debug { LevelFilter::DEBUG } else { LevelFilter::INFO }
}

fn install(level: LevelFilter, writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static) {
    let format =
        tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false).with_target(false);
    // The warnings of wasmtime's libraries are about the behaviour of guests, as often as guests
    // like: they do not belong in the log of a node.
    let targets = Targets::new().with_default(level).with_target("wasmtime", LevelFilter::ERROR);
    let subscriber = tracing_subscriber::registry().with(format.with_filter(targets));
    // Without the bridge from the `log` crate: ttrpc logs every failed accept, thousands a second
    // when file descriptors run out.
    // A second call (several tests in one process) fails and keeps the first subscriber.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Opens containerd's log FIFO, whose reader may be absent (containerd restarts) or slow.
fn fifo(path: &Path) -> Option<File> {
    let mut options = OpenOptions::new();
    // Opened for reading, too: with a reader in this process, no write fails with `EPIPE`.
    let file = options
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .ok()?;
    file.metadata().ok()?.file_type().is_fifo().then_some(file)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn a_log_without_a_reader_neither_waits_nor_fails() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        mknodat(CWD, &path, FileType::Fifo, Mode::from(0o600), 0).unwrap();
        let mut fifo = Lossy::file(fifo(&path).unwrap());
        // More than any pipe holds.
        for _ in 0..40_000 {
            fifo.write_all(b"a line of a log that nobody reads\n").unwrap();
        }
        let mut line = [0; 6];
        File::open(&path).unwrap().read_exact(&mut line).unwrap();
        assert_eq!(&line, b"a line");
    }

    #[test]
    fn a_regular_file_called_log_is_not_logged_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, "").unwrap();
        assert!(fifo(&path).is_none());
    }
}
