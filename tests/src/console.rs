//! A command at a terminal of its own, and somebody who types there; made by `command`, used by tests.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::Command;
use crate::poll::poll_until;

/// What no command prints.
const END: &str = "\u{1}end\u{2}";

/// A command that runs at a terminal; killed when dropped.
#[derive(Debug)]
pub struct Console {
    child: Child,
    line: String,
    master: File,
    /// Kept open: what is printed would be lost with the last of them, and the reader would end.
    slave: File,
    seen: Arc<Mutex<Vec<u8>>>,
    deadline: Duration,
}

/// A new terminal: its master and its slave.
pub(crate) fn open(columns: u16, rows: u16) -> Result<(File, File)> {
    let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(&size, None).context("no terminal")?;
    for fd in [&pty.master, &pty.slave] {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)?;
    }
    Ok((pty.master.into(), pty.slave.into()))
}

impl Console {
    pub(crate) fn new(
        child: Child,
        line: String,
        master: File,
        slave: File,
        deadline: Duration,
    ) -> Result<Self> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, sink) = (master.try_clone()?, Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut chunk = vec![0; 4096];
            // `EIO` once the slave is closed everywhere.
            while let Ok(n @ 1..) = reader.read(&mut chunk) {
                sink.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk[..n]);
            }
        });
        Ok(Self { child, line, master, slave, seen, deadline })
    }

    /// What is on the screen, without carriage returns: `ctr` leaves its own terminal adding them, too.
    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
            .replace('\r', "")
    }

    /// How many bytes have been printed.
    pub fn count(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits until this is on the screen.
    pub fn shows(&self, text: &str) -> Result<()> {
        let shown =
            poll_until(&format!("{text:?} of {}", self.line), Duration::from_secs(15), || {
                self.seen().contains(text).then_some(())
            });
        shown.with_context(|| format!("on the screen: {:?}", self.seen()))
    }

    /// Types.
    pub fn types(&mut self, text: &str) -> Result<()> {
        self.master.write_all(text.as_bytes()).context("typing")
    }

    /// Gives the terminal another size and tells the command, as a terminal emulator does.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let size = format!("cols {columns} rows {rows}");
        let stty = std::process::Command::new("stty")
            .args(size.split(' '))
            .stdin(self.slave.try_clone()?)
            .status()?;
        ensure!(stty.success(), "stty: {stty}");
        self.signal(Signal::SIGWINCH)
    }

    /// Sends the command a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).context("pid")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("{signal} for {}", self.line))
    }

    /// Waits for the command's end: its exit status and everything it has printed.
    pub fn wait(mut self) -> Result<(i32, String)> {
        let child = &mut self.child;
        let ended = poll_until(&self.line, self.deadline, || child.try_wait().transpose());
        let status = ended.with_context(|| format!("on the screen: {:?}", self.seen()))??;
        // The reader may be behind. What is printed now comes after all that the command has printed.
        self.slave.write_all(END.as_bytes()).context("printing")?;
        poll_until("all that was printed", Duration::from_secs(20), || {
            self.seen().contains(END).then_some(())
        })?;
        let seen = self.seen().replace(END, "");
        Ok((status.code().or(status.signal().map(|n| 128 + n)).unwrap_or(-1), seen))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The size of a terminal that a process has open, as `stty` tells: rows and columns.
pub fn sizes_of_terminals(pid: u32) -> Result<Vec<String>> {
    let mut sizes = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let file = entry?.path();
        let Ok(target) = std::fs::read_link(&file) else { continue };
        if target.starts_with("/dev/pts") && target.file_name() != Some("ptmx".as_ref()) {
            // By the open file: its name may be one of another mount namespace.
            let size = Command::new("stty")
                .args(["-F", &file.display().to_string(), "size"])
                .run()?
                .ok()?;
            sizes.push(size.out().trim().to_owned());
        }
    }
    Ok(sizes)
}
