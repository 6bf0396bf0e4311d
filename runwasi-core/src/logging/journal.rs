//! systemd's journal: whether stderr is connected to it, and its socket (`sd_journal_send(3)`).

use std::{
    env, io,
    os::{
        fd::AsFd,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::Path,
};

use rustix::fs::fstat;

/// Socket of the journal for datagrams with fields.
const SOCKET: &str = "/run/systemd/journal/socket";

/// The variable that systemd sets for a program whose output goes into the journal:
/// `DEVICE:INODE` of the stream.
const STREAM: &str = "JOURNAL_STREAM";

/// Socket of a sender.
#[derive(Debug)]
pub(super) struct JournalSocket {
    socket: UnixDatagram,
    // Not connected: the journal may be restarted with another socket.
    address: SocketAddr,
}

impl JournalSocket {
    /// The journal's, if stderr is connected to the journal and the socket is there.
    pub(super) fn of_stderr() -> Option<Self> {
        let stream = env::var(STREAM).ok()?;
        let stderr = fstat(io::stderr().as_fd()).ok()?;
        is_stream(&stream, stderr.st_dev, stderr.st_ino)
            .then(|| Self::open(Path::new(SOCKET)).ok())
            .flatten()
    }

    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        // An error without a journal: lines go to stderr then. Undone by sending to an address.
        UnixDatagram::unbound()?.connect(path)?;
        Ok(Self { socket, address: SocketAddr::from_pathname(path)? })
    }

    /// Sends one entry. Never waits.
    pub(super) fn send(&self, entry: &[u8]) -> io::Result<usize> {
        self.socket.send_to_addr(entry, &self.address)
    }
}

/// True if the variable names this file.
fn is_stream(variable: &str, device: u64, inode: u64) -> bool {
    let named = variable.split_once(':').map(|(device, inode)| (device.parse(), inode.parse()));
    named == Some((Ok(device), Ok(inode)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_is_compared_by_device_and_inode() {
        assert!(is_stream("8:31", 8, 31));
        for other in ["8:32", "9:31", "8", "", "8:31:1", "a:b"] {
            assert!(!is_stream(other, 8, 31), "{other}");
        }
    }

    #[test]
    fn entries_are_sent_without_waiting_and_a_new_journal_gets_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        assert!(JournalSocket::open(&path).is_err());
        let journal = UnixDatagram::bind(&path).unwrap();
        let socket = JournalSocket::open(&path).unwrap();
        let mut sent = 0;
        let full = loop {
            match socket.send(b"MESSAGE=a\n") {
                Ok(_) => sent += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock, "after {sent}");
        drop(journal);
        assert!(socket.send(b"MESSAGE=b\n").is_err());
        std::fs::remove_file(&path).unwrap();
        let journal = UnixDatagram::bind(&path).unwrap();
        socket.send(b"MESSAGE=c\n").unwrap();
        let mut entry = [0; 32];
        let length = journal.recv(&mut entry).unwrap();
        assert_eq!(&entry[..length], b"MESSAGE=c\n");
    }
}
