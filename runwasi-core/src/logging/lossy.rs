//! Writer of log lines that never waits for their reader.
//!
//! A reader may be slow, stopped or absent: a pipe that is not read, a terminal after ^S, a journal
//! that hangs. A line that does not fit is dropped and counted, and the next one that fits comes
//! after a line with the count. Lines are written at once and by the thread that logs: no line
//! waits in a buffer that would be lost with the process.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::Path,
    sync::Arc,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FileType, fstat},
    net::{SendFlags, send},
};
use tracing_subscriber::fmt::MakeWriter;

use super::{form::Form, journal::JournalSocket};
use crate::{lock::Mutex, metrics::delivery};

/// Most bytes that a pipe with room takes without waiting (`PIPE_BUF` of `pipe(7)`).
const PIPE_BUF: usize = 4096;

/// The writer. Clones write to the same place.
// The mutex keeps a line and the count before it together. No holder waits.
#[derive(Clone)]
pub(super) struct Lossy(Arc<Mutex<State>>);

struct State {
    target: Target,
    /// Form of the line with the count.
    form: Form,
    /// Lines that were dropped since the last one that was written.
    dropped: u64,
    /// True if the last line was written in part.
    torn: bool,
}

enum Target {
    /// A description of our own that does not wait, or a regular file.
    File(File),
    /// Shared with other processes, hence without a flag of ours.
    Socket(OwnedFd),
    /// The same for what cannot be opened anew: looked at before each write.
    Shared(File),
    /// An entry is a datagram.
    Journal(JournalSocket),
}

impl Lossy {
    fn to(target: Target, form: Form) -> Self {
        Self(Arc::new(Mutex::new(State { target, form, dropped: 0, torn: false })))
    }

    /// Writes to stderr. Returns no writer if it is closed.
    pub(super) fn stderr(form: Form) -> Option<Self> {
        let stderr = io::stderr().as_fd().try_clone_to_owned().ok()?;
        let kind = FileType::from_raw_mode(fstat(&stderr).ok()?.st_mode);
        let target = match kind {
            FileType::Socket => Target::Socket(stderr),
            FileType::Fifo | FileType::CharacterDevice => {
                // Opened anew: the flag on the present description would be that of all processes
                // that share it, such as the shell of a terminal.
                match reopened(Path::new("/proc/self/fd/2")) {
                    Ok(own) => Target::File(own),
                    Err(_) => Target::Shared(stderr.into()),
                }
            }
            // A copy: a new description would overwrite the file from its beginning.
            _ => Target::File(stderr.into()),
        };
        Some(Self::to(target, form))
    }

    /// Writes to a file that was opened so that no write waits.
    pub(super) fn file(file: File, form: Form) -> Self {
        Self::to(Target::File(file), form)
    }

    /// Sends to the journal, in its form.
    pub(super) fn journal(socket: JournalSocket) -> Self {
        Self::to(Target::Journal(socket), Form::journal())
    }

    /// The form of its lines.
    pub(super) fn form(&self) -> Form {
        self.0.lock().form.clone()
    }
}

fn reopened(path: &Path) -> io::Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    OpenOptions::new().write(true).custom_flags(flags).open(path)
}

impl State {
    fn line(&mut self, line: &[u8]) {
        if !self.tell_dropped() || !self.put(line) {
            self.dropped += 1;
            delivery::lost_log_line();
        }
    }

    /// Writes the count of the dropped lines, if there are any. False if there is no room for it.
    fn tell_dropped(&mut self) -> bool {
        if self.dropped == 0 {
            return true;
        }
        let notice = self.form.dropped(self.dropped);
        let told = self.put(notice.as_bytes());
        if told {
            self.dropped = 0;
        }
        told
    }

    /// Writes a whole line. False if a part of it is missing.
    fn put(&mut self, line: &[u8]) -> bool {
        if self.torn && !self.write(b"\n") {
            return false;
        }
        self.torn = false;
        self.write(line)
    }

    fn write(&mut self, mut bytes: &[u8]) -> bool {
        let mut begun = false;
        while !bytes.is_empty() {
            match self.target.write(bytes) {
                Ok(written @ 1..) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // No room, or no reader any more.
                Ok(0) | Err(_) => {
                    self.torn |= begun;
                    return false;
                }
            }
            begun = true;
        }
        true
    }
}

impl Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Socket(socket) => {
                Ok(send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
            }
            Self::Shared(file) => {
                if !has_room(&*file)? {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                file.write(&bytes[..bytes.len().min(PIPE_BUF)])
            }
            Self::Journal(socket) => socket.send(bytes),
        }
    }
}

fn has_room(file: impl AsFd) -> io::Result<bool> {
    let mut polled = [PollFd::new(&file, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now))?;
    Ok(polled[0].revents().contains(PollFlags::OUT))
}

impl Write for Lossy {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().line(line);
        // A dropped line counts as written: logging must not fail.
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lossy {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        os::{
            fd::AsRawFd,
            unix::net::{UnixDatagram, UnixStream},
        },
    };

    use super::*;

    /// A number of lines that no pipe and no socket holds.
    const MANY: u64 = 40_000;
    const TEXT: Form = Form::Text { runtime: None };
    const LINE: &str = "a line of a log that is not read\n";

    /// Each target over a pipe or a socket, and its reader.
    fn targets() -> Vec<(Lossy, Box<dyn Read>)> {
        let pipe = |make: &dyn Fn(io::PipeWriter) -> Target| {
            let (reader, writer) = io::pipe().unwrap();
            rustix::io::ioctl_fionbio(&reader, true).unwrap();
            let reader: Box<dyn Read> = Box::new(reader);
            (Lossy::to(make(writer), TEXT), reader)
        };
        let own = |writer: io::PipeWriter| {
            let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
            Target::File(reopened(Path::new(&path)).unwrap())
        };
        let shared = |writer: io::PipeWriter| Target::Shared(File::from(OwnedFd::from(writer)));
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let socket = Lossy::to(Target::Socket(ours.into()), TEXT);
        vec![pipe(&own), pipe(&shared), (socket, Box::new(theirs))]
    }

    /// Reads what is there.
    fn read(reader: &mut dyn Read) -> String {
        let mut text = Vec::new();
        let error = reader.read_to_end(&mut text).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn dropped_lines_are_counted_and_told_before_the_next_line() {
        for (mut log, mut reader) in targets() {
            for _ in 0..MANY {
                log.write_all(LINE.as_bytes()).unwrap();
            }
            let before = read(&mut *reader);
            let whole = before.lines().filter(|line| *line == LINE.trim_end()).count() as u64;
            assert!(whole > 100 && whole < MANY, "{whole} lines were written");
            log.write_all(b"later\n").unwrap();
            let after = read(&mut *reader);
            let after: Vec<&str> = after.trim_start().lines().collect();
            assert_eq!(after.len(), 2, "{after:?}");
            assert!(after[0].ends_with(&format!("lines={}", MANY - whole)), "{}", after[0]);
            assert!(after[0].contains(" level=warning msg=\"lines of this log"), "{}", after[0]);
            assert_eq!(after[1], "later");
            log.write_all(b"and then\n").unwrap();
            assert_eq!(read(&mut *reader), "and then\n", "told twice");
        }
    }

    #[test]
    fn line_after_a_torn_one_begins_a_line_of_its_own() {
        for (mut log, mut reader) in targets() {
            // Longer than any pipe.
            log.write_all(format!("{}\n", "x".repeat(4 << 20)).as_bytes()).unwrap();
            assert!(read(&mut *reader).ends_with('x'));
            log.write_all(b"later\n").unwrap();
            let after = read(&mut *reader);
            assert!(after.starts_with('\n') && after.ends_with("lines=1\nlater\n"), "{after}");
        }
    }

    #[test]
    fn entries_that_the_journal_does_not_take_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        journal.set_nonblocking(true).unwrap();
        let entry = || {
            let mut entry = [0; 1024];
            journal.recv(&mut entry).map(|length| String::from_utf8_lossy(&entry[..length]).into())
        };
        let mut log = Lossy::journal(JournalSocket::open(&path).unwrap());
        for _ in 0..1000 {
            log.write_all(b"MESSAGE=a\n").unwrap();
        }
        let whole = std::iter::from_fn(|| entry().ok()).collect::<Vec<String>>().len();
        assert!(whole > 0 && whole < 1000, "{whole}");
        log.write_all(b"MESSAGE=later\n").unwrap();
        let told: String = entry().unwrap();
        assert!(told.ends_with(&format!("RUNWASI_LINES={}\n", 1000 - whole)), "{told}");
        assert_eq!(entry().unwrap(), "MESSAGE=later\n");
    }

    #[test]
    fn reader_that_is_gone_is_no_error() {
        for (mut log, reader) in targets() {
            drop(reader);
            log.write_all(LINE.as_bytes()).unwrap();
        }
    }
}
