//! A file that no other process can open for now.

use std::{
    fs::{File, OpenOptions},
    os::fd::AsRawFd,
    path::Path,
};

use anyhow::{Result, ensure};

/// `F_SETSIG` of `fcntl(2)`, which the crate `libc` lacks.
const F_SETSIG: libc::c_int = 10;

/// A write lease of this process: every other opening waits until it is dropped.
pub struct Lease {
    _file: File,
}

impl Lease {
    /// Takes it.
    pub fn write(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        // `SIGURG` does nothing by itself; the usual `SIGIO` would end this process.
        // SAFETY: the call takes integers only.
        let told = unsafe { libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG) };
        // SAFETY: as above.
        let leased = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) };
        ensure!(told == 0 && leased == 0, "no lease: {}", std::io::Error::last_os_error());
        Ok(Self { _file: file })
    }
}
