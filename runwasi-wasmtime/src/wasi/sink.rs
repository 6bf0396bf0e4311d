//! Writes of a stream to a file, of both versions of components: at a position that follows them,
//! or at the end of the file.
//!
//! Overlayfs of Linux 5.10 to 6.7 ignores `RWF_APPEND`, and writes at the given offset instead: at
//! the begin of the file. It obeys the flag `O_APPEND` of an open file. A descriptor of a component
//! may have both kinds of streams, so the flag is set for each write at the end. No other write
//! comes between: the thread that polls the component makes all of them, and no other process has
//! the open file.

use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc};

use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::write,
};

pub(crate) struct Sink {
    file: Arc<File>,
    /// Absent: each write goes to the end of the file.
    position: Option<u64>,
}

impl Sink {
    pub(crate) fn new(file: Arc<File>, position: Option<u64>) -> Self {
        Self { file, position }
    }

    /// Writes some of the bytes. Returns their number.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = uninterrupted(|| match self.position {
            Some(position) => self.file.write_at(bytes, position),
            None => append(&self.file, bytes),
        })?;
        self.position = self.position.map(|position| position.saturating_add(written as u64));
        Ok(written)
    }
}

/// Writes some of the bytes at the end of a file.
fn append(file: &File, bytes: &[u8]) -> io::Result<usize> {
    let flags = fcntl_getfl(file)?;
    fcntl_setfl(file, flags | OFlags::APPEND)?;
    let written = write(file, bytes);
    fcntl_setfl(file, flags)?;
    Ok(written?)
}

/// Makes all writes of an open file go to its end, or no longer.
pub(crate) fn set_append(file: &File, append: bool) -> io::Result<()> {
    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::APPEND, append);
    Ok(fcntl_setfl(file, flags)?)
}

/// Repeats a call that a signal has interrupted.
pub(crate) fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn two_streams_of_one_file_write_where_each_has_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, "....").unwrap();
        let file: Arc<File> = File::options().write(true).open(&path).unwrap().into();
        let mut at = Sink::new(file.clone(), Some(1));
        let mut end = Sink::new(file.clone(), None);
        for bytes in [b"a", b"b"] {
            assert_eq!(at.write(bytes).unwrap(), 1);
            assert_eq!(end.write(bytes).unwrap(), 1);
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), ".ab.ab");
        assert!(!fcntl_getfl(&file).unwrap().contains(OFlags::APPEND));
    }

    #[test]
    fn failed_write_leaves_the_flags_of_the_file() {
        let file: Arc<File> = File::options().write(true).open("/dev/full").unwrap().into();
        let failed = Sink::new(file.clone(), None).write(b"a").unwrap_err();
        assert_eq!(failed.raw_os_error(), Some(libc::ENOSPC));
        assert!(!fcntl_getfl(&file).unwrap().contains(OFlags::APPEND));
    }

    #[test]
    fn appending_is_switched_on_and_off() {
        let file = tempfile::tempfile().unwrap();
        for append in [true, false] {
            set_append(&file, append).unwrap();
            assert_eq!(fcntl_getfl(&file).unwrap().contains(OFlags::APPEND), append);
        }
    }
}
