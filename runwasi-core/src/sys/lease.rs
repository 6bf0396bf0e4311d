//! A lease on a file, as another process of the node may have it.

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::AsRawFd,
    path::Path,
};

/// `F_SETSIG` of `fcntl(2)`, which the crate `libc` lacks.
const F_SETSIG: libc::c_int = 10;

/// A write lease: every other opening of the file waits until it is dropped.
pub(crate) struct Lease {
    _file: File,
}

impl Lease {
    /// Takes the lease of a file that is open nowhere else.
    pub(crate) fn write(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        // `SIGURG` does nothing by itself. The usual `SIGIO` would end this process. SAFETY: the
        // call takes integers only.
        if unsafe { libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG) } == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: as above.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) } == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { _file: file })
    }
}
