//! Reads files of unknown kind and size: only regular ones, and only up to a limit.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Why a file is not read. The texts follow the file's name in messages.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system's error.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A directory, a FIFO or a device.
    #[error("is not a regular file")]
    NotRegular,
    /// Larger than the limit.
    #[error("has more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        let kind = match error {
            ReadError::Io(error) => return error,
            ReadError::NotRegular => io::ErrorKind::InvalidInput,
            ReadError::TooLarge { .. } => io::ErrorKind::FileTooLarge,
        };
        Self::new(kind, error)
    }
}

/// Opens a regular file for reading.
pub fn open_regular(path: &Path) -> Result<File, ReadError> {
    open_with_metadata(path).map(|(file, _)| file)
}

fn open_with_metadata(path: &Path) -> Result<(File, Metadata), ReadError> {
    // `O_NONBLOCK`: the open of a FIFO must not wait for a writer. `O_NOCTTY`: a terminal must not
    // become that of this process.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = check_regular(&file)?;
    Ok((file, metadata))
}

/// Reads a regular file of at most `limit` bytes.
pub fn read_regular(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    let (file, metadata) = open_with_metadata(path)?;
    read_bounded(&file, &metadata, limit)
}

/// Reads an open file to its end, as [`read_regular`] does.
pub fn read_opened(file: &File, limit: u64) -> Result<Vec<u8>, ReadError> {
    read_bounded(file, &check_regular(file)?, limit)
}

fn read_bounded(file: &File, metadata: &Metadata, limit: u64) -> Result<Vec<u8>, ReadError> {
    // Room for the byte that reveals the end: the file is read by one call, and its end by another.
    let room = metadata.len().min(limit).saturating_add(1);
    let mut bytes = Vec::with_capacity(usize::try_from(room).unwrap_or(0));
    // Bounds the read itself, since a file may grow meanwhile and those of /proc have no size. The
    // extra byte reveals a larger one.
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(ReadError::TooLarge { limit });
    }
    Ok(bytes)
}

/// Refuses other kinds of files. Of the open file, not of its path, which may change meanwhile.
fn check_regular(file: &File) -> Result<Metadata, ReadError> {
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok(metadata) } else { Err(ReadError::NotRegular) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn file_is_read_up_to_its_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, "four").unwrap();
        assert_eq!(read_regular(&path, 4).unwrap(), b"four");
        assert!(matches!(read_regular(&path, 3), Err(ReadError::TooLarge { limit: 3 })));
    }

    #[test]
    fn length_of_a_file_is_a_hint_and_no_bound() {
        // The files of /proc have none.
        let status =
            String::from_utf8(read_regular(Path::new("/proc/self/status"), 1 << 20).unwrap());
        assert!(status.unwrap().contains("Pid:"));
        // One that has grown since it was looked at, and one that has shrunk.
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, "four").unwrap();
        let (file, metadata) = open_with_metadata(&path).unwrap();
        fs::write(&path, vec![b'a'; 50_000]).unwrap();
        assert_eq!(read_bounded(&file, &metadata, 50_000).unwrap(), vec![b'a'; 50_000]);
        let (file, metadata) = open_with_metadata(&path).unwrap();
        assert!(matches!(read_bounded(&file, &metadata, 49_999), Err(ReadError::TooLarge { .. })));
        let (file, _) = open_with_metadata(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(read_bounded(&file, &metadata, 10).unwrap(), b"");
    }

    #[test]
    fn fifo_and_directory_are_refused_without_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
        for path in [fifo.as_path(), directory.path()] {
            assert!(matches!(read_regular(path, 1), Err(ReadError::NotRegular)));
        }
    }
}
