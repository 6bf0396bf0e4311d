//! Requests of `ioctl_tty(2)` for the terminals of guests.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd},
        unix::fs::OpenOptionsExt,
    },
};

use rustix::termios::{SpecialCodeIndex, Winsize, tcgetattr, tcsetwinsize};

use crate::engine::signal::Signal;

/// Opens a new terminal: master and slave, both non-blocking.
pub(crate) fn open() -> io::Result<(File, File)> {
    // `O_NOCTTY`: it must not become the controlling terminal of this process.
    let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
    let master = File::options().read(true).write(true).custom_flags(flags).open("/dev/ptmx")?;
    // The kernel creates the slave locked.
    let unlocked: libc::c_int = 0;
    // SAFETY: the request reads one int, which lives.
    if unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // Opened through its master and not by a path: the `/dev/pts` of our mount namespace may be
    // another one than the terminal's. Needs Linux 4.13.
    let flags = flags | libc::O_RDWR | libc::O_CLOEXEC;
    // SAFETY: the request takes the flags of `open(2)` and answers with a new file descriptor.
    match unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: it is new, so it is ours alone.
        slave => Ok((master, unsafe { File::from_raw_fd(slave) })),
    }
}

/// Gives a terminal its size.
pub(crate) fn set_size(terminal: impl AsFd, columns: u16, rows: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}

/// A terminal's columns and rows.
#[cfg(test)]
pub(crate) fn size(terminal: impl AsFd) -> io::Result<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(terminal)?;
    Ok((size.ws_col, size.ws_row))
}

/// Special keys of a terminal's line discipline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys {
    /// End of the input, by default ^D.
    pub(crate) end: u8,
    interrupt: u8,
    quit: u8,
}

impl Keys {
    /// The signal of a key, if it has one.
    pub(crate) fn signal(&self, key: u8) -> Option<Signal> {
        match key {
            key if key == self.interrupt => Signal::new(libc::SIGINT.unsigned_abs()),
            key if key == self.quit => Signal::new(libc::SIGQUIT.unsigned_abs()),
            _ => None,
        }
    }
}

/// The special keys of a terminal, by its master. A guest has no way to change them.
pub(crate) fn keys(master: impl AsFd) -> io::Result<Keys> {
    let keys = tcgetattr(master)?.special_codes;
    Ok(Keys {
        end: keys[SpecialCodeIndex::VEOF],
        interrupt: keys[SpecialCodeIndex::VINTR],
        quit: keys[SpecialCodeIndex::VQUIT],
    })
}
