//! Log output: containerd's `log` FIFO in the bundle, stderr, or systemd's journal. Set up once in
//! a process.
//!
//! | module | one thing |
//! |---|---|
//! | `filter` | which lines are logged |
//! | `form`, `escape` | a line as text, as JSON or for the journal; untrusted text in it |
//! | `lossy`, `journal` | where lines go; no thread ever waits for the reader of the log |
//! | `warnings` | lines of a program that ends at once |

mod escape;
mod filter;
mod form;
mod journal;
mod lossy;
mod warnings;

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::Path,
};

use serde::Serialize;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, layer::SubscriberExt};

use self::{
    form::{Form, SpanFields},
    journal::JournalSocket,
    lossy::Lossy,
    warnings::Warnings,
};

/// Form of the lines of a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Text as containerd writes it. If stderr is the journal, entries with fields go there.
    Text,
    /// A JSON object in each line.
    Json,
}

impl LogFormat {
    /// The format of that name.
    pub fn parse(word: &str) -> Result<Self, String> {
        match word {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("{word:?} is neither text nor json")),
        }
    }
}

/// Logs to the FIFO `log` in the current directory, which containerd has made. Without that FIFO
/// nothing is logged. Lines have the form of containerd's own shims, and name the `runtime`.
pub fn to_containerd(debug: bool, runtime: &'static str) {
    if let Some(fifo) = fifo(Path::new("log")) {
        let form = Form::Text { runtime: Some(runtime) };
        install(level(debug), Lossy::file(fifo, form));
    }
}

/// Logs to stderr. For programs that a person starts.
pub fn to_stderr(debug: bool) {
    to_stderr_at(level(debug), LogFormat::Text);
}

/// Logs to stderr, or to the journal if stderr is connected to it. For daemons.
pub fn to_stderr_at(level: LevelFilter, format: LogFormat) {
    let log = match format {
        LogFormat::Json => Lossy::stderr(Form::Json),
        LogFormat::Text => match JournalSocket::of_stderr() {
            Some(journal) => Some(Lossy::journal(journal)),
            None => Lossy::stderr(Form::Text { runtime: None }),
        },
    };
    if let Some(log) = log {
        install(level, log);
    }
}

/// Writes warnings and errors to stderr, for a `delete`: containerd logs what it finds there.
pub(crate) fn warnings_to_stderr(runtime: &'static str) {
    let form = Form::Text { runtime: Some(runtime) };
    // A second call fails and keeps the first subscriber.
    let _ = tracing::subscriber::set_global_default(Warnings(form));
}

/// Writes the error that ends a program to stderr, as far as that takes no waiting.
pub fn print_error(text: &str) {
    if let Some(mut stderr) = Lossy::stderr(Form::Text { runtime: None }) {
        // Never an error.
        let _ = stderr.write_all(format!("{text}\n").as_bytes());
    }
}

fn level(debug: bool) -> LevelFilter {
    if debug { LevelFilter::DEBUG } else { LevelFilter::INFO }
}

fn install(level: LevelFilter, log: Lossy) {
    let format = tracing_subscriber::fmt::layer()
        .event_format(log.form())
        .fmt_fields(SpanFields)
        .with_writer(log);
    let (targets, wrong) = filter::of_process(level);
    let subscriber = tracing_subscriber::registry().with(format.with_filter(targets));
    // Without the bridge from the `log` crate: ttrpc logs every failed accept, thousands a second
    // when file descriptors run out.
    // A second call (several tests in one process) fails and keeps the first subscriber.
    let _ = tracing::subscriber::set_global_default(subscriber);
    if let Some(error) = wrong {
        tracing::warn!(%error, "RUST_LOG is ignored: it is no list of LEVEL or TARGET=LEVEL");
    }
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
        let form = Form::Text { runtime: None };
        let mut fifo = Lossy::file(fifo(&path).unwrap(), form);
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
