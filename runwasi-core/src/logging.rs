//! Where log lines go: containerd's `log` FIFO in the bundle, or stderr. Set up once, by `bootstrap` and by examples.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, filter::Targets, fmt::MakeWriter, layer::SubscriberExt};

/// Logs to the FIFO `log` in the current directory, which containerd made for us; to nowhere if there is none.
pub fn to_containerd(debug: bool) {
    if let Some(fifo) = Fifo::open(Path::new("log")) {
        install(level(debug), fifo);
    }
}

/// Logs to stderr. For programs that a person starts.
pub fn to_stderr(debug: bool) {
    to_stderr_at(level(debug));
}

/// Logs to stderr, which systemd puts into its journal. For daemons.
pub fn to_stderr_at(level: LevelFilter) {
    install(level, io::stderr);
}

fn level(debug: bool) -> LevelFilter {
    if debug { LevelFilter::DEBUG } else { LevelFilter::INFO }
}

fn install(level: LevelFilter, writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static) {
    let format =
        tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false).with_target(false);
    // What wasmtime's own libraries warn of is what guests do, as often as they like: not for the node's log.
    let targets = Targets::new().with_default(level).with_target("wasmtime", LevelFilter::ERROR);
    let subscriber = tracing_subscriber::registry().with(format.with_filter(targets));
    // Without the bridge from the `log` crate: ttrpc logs every failed accept, thousands a second when fds run out.
    // A second call (several tests in one process) keeps the first.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// containerd's log FIFO. Its reader may be absent (containerd restarts) or slow: a line that does not fit is dropped,
/// nothing ever waits, and opened for reading, too, there is no `EPIPE`.
#[derive(Clone)]
struct Fifo(Arc<File>);

impl Fifo {
    fn open(path: &Path) -> Option<Self> {
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(path)
            .ok()?;
        file.metadata().ok()?.file_type().is_fifo().then(|| Self(Arc::new(file)))
    }
}

impl Write for Fifo {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match (&*self.0).write(line) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(line.len()),
            result => result,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Fifo {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn a_log_that_nobody_reads_neither_waits_nor_fails() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        mknodat(CWD, &path, FileType::Fifo, Mode::from(0o600), 0).unwrap();
        let mut fifo = Fifo::open(&path).unwrap();
        // More than any pipe holds.
        for _ in 0..40_000 {
            fifo.write_all(b"a line of a log that nobody reads\n").unwrap();
        }
        let mut line = [0; 6];
        File::open(&path).unwrap().read_exact(&mut line).unwrap();
        assert_eq!(&line, b"a line");
    }

    #[test]
    fn a_file_called_log_is_no_log() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, "").unwrap();
        assert!(Fifo::open(&path).is_none());
    }
}
