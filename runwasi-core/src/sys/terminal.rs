//! Requests of `ioctl_tty(2)` for the terminals of guests.

use std::{
    fs::File,
    io, mem,
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
};

use rustix::{
    fs::OFlags,
    pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt},
    termios::{SpecialCodeIndex, Winsize, tcgetattr, tcsetwinsize},
};

use crate::engine::signal::Signal;

/// Opens a new terminal: master and slave, both non-blocking.
pub(crate) fn open() -> io::Result<(File, File)> {
    // `O_NOCTTY`: it must not become the controlling terminal of this process.
    let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
    let master = File::options().read(true).write(true).custom_flags(flags).open("/dev/ptmx")?;
    // The kernel creates the slave locked.
    unlockpt(&master)?;
    // Opened through its master and not by a path: the `/dev/pts` of our mount namespace may be
    // another one than the terminal's. Needs Linux 4.13. `O_NONBLOCK` has no name there.
    let non_blocking = OpenptFlags::from_bits_retain(OFlags::NONBLOCK.bits());
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC | non_blocking;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    Ok((master, slave.into()))
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
    /// Makes the next key text, by default ^V.
    literal: u8,
}

/// Finds the signals among typed keys, as the line discipline does.
#[derive(Debug)]
pub(crate) struct TypedSignals {
    keys: Keys,
    /// True if the next key is text.
    is_text: bool,
}

impl TypedSignals {
    pub(crate) fn new(keys: Keys) -> Self {
        Self { keys, is_text: false }
    }

    /// The signal of the next key, if it has one.
    pub(crate) fn of(&mut self, key: u8) -> Option<Signal> {
        if mem::take(&mut self.is_text) {
            return None;
        }
        match key {
            key if key == self.keys.interrupt => Signal::new(libc::SIGINT.unsigned_abs()),
            key if key == self.keys.quit => Signal::new(libc::SIGQUIT.unsigned_abs()),
            key => {
                self.is_text = key == self.keys.literal;
                None
            }
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
        literal: keys[SpecialCodeIndex::VLNEXT],
    })
}
