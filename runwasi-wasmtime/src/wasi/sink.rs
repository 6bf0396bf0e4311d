//! Writes of a stream to a file, of both versions of components: at a position that follows them, or
//! at the end of the file.

use std::{
    fs::File,
    io::{self, IoSlice},
    os::unix::fs::FileExt,
    sync::Arc,
};

use rustix::io::{ReadWriteFlags, pwritev2};

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
            None => {
                let bytes = [IoSlice::new(bytes)];
                Ok(pwritev2(&*self.file, &bytes, 0, ReadWriteFlags::APPEND)?)
            }
        })?;
        self.position = self.position.map(|position| position.saturating_add(written as u64));
        Ok(written)
    }
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
