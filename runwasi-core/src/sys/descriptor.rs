//! File descriptors: adoption, registration with Tokio, and the reader of a pipe.

use std::{
    fs::File,
    io, mem,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use tokio::io::unix::AsyncFd;

/// Flag of a TCP segment that asks for a connection.
const SYN: u8 = 0x02;

/// Takes ownership of a file descriptor that this process got by number, in an argument or from
/// systemd. Fails if it is not open.
pub fn adopt_fd(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 3 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is a standard stream"));
    }
    // SAFETY: only reads its flags. The result for a number that is no open fd is EBADF.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and the number was passed to this caller alone.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    // It came over an exec without this flag; no child of ours is to inherit it.
    rustix::io::fcntl_setfd(&owned, rustix::io::FdFlags::CLOEXEC)?;
    Ok(owned)
}

/// Registers a pollable file (terminal, pipe or socket) with the current Tokio runtime.
pub(crate) fn watch(file: File) -> io::Result<AsyncFd<File>> {
    // SAFETY: a `File` owns its file descriptor, and no code replaces or closes it in the
    // `AsyncFd`.
    Ok(unsafe { AsyncFd::register(file) }?)
}

/// True if no process has the reading end of a pipe open. `fd` is its writing end.
pub fn has_no_reader(fd: impl AsFd) -> bool {
    // `poll(2)` reports a missing reader as `POLLERR`, even without requested events.
    events_now(&fd, PollFlags::empty()).is_ok_and(|events| events.contains(PollFlags::ERR))
}

/// True if a pipe takes nothing more now. `fd` is its writing end.
pub(crate) fn is_full(fd: impl AsFd) -> bool {
    events_now(&fd, PollFlags::OUT).is_ok_and(|events| !events.contains(PollFlags::OUT))
}

/// True if a file has one of these events now, its end, or an error.
pub(crate) fn has_event(fd: impl AsFd, events: PollFlags) -> io::Result<bool> {
    match events_now(&fd, events) {
        Ok(events) => Ok(!events.is_empty()),
        // A signal has come, and no event.
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The events of `poll(2)` without a wait.
fn events_now(fd: &impl AsFd, events: PollFlags) -> rustix::io::Result<PollFlags> {
    let mut polled = [PollFd::new(fd, events)];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    Ok(polled[0].revents())
}

/// Number of bytes of a TCP socket that its peer has not acknowledged.
pub fn unacknowledged(socket: impl AsFd) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: the kernel writes one number of this type.
    let told = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    if told == 0 {
        Ok(usize::try_from(count).unwrap_or(0))
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Lets the kernel drop what asks a listening TCP socket for a new connection. Handshakes that have
/// begun end as usual, and clients ask again after a second.
pub fn ignore_connects(listener: impl AsFd) -> io::Result<()> {
    let op = |code: u32, k, jt, jf| {
        // All codes are below 256.
        libc::sock_filter { code: code as u16, jt, jf, k }
    };
    // Of the 14th byte of the TCP header, which has the flags: 0 bytes of a segment with SYN are
    // taken, and all of another one.
    let mut program = [
        op(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 13, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, u32::from(SYN), 0, 1),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        op(libc::BPF_RET | libc::BPF_K, u32::MAX, 0, 0),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel reads the program and its description, which live until it returns.
    let set = unsafe {
        libc::setsockopt(
            listener.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            mem::size_of_val(&filter) as libc::socklen_t,
        )
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read, Write},
        net::{TcpListener, TcpStream},
        time::Duration,
    };

    use super::*;

    #[test]
    fn connections_are_ignored_from_then_on_and_those_before_live_on() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut before = TcpStream::connect(address).unwrap();
        ignore_connects(&listener).unwrap();
        let after = TcpStream::connect_timeout(&address, Duration::from_millis(100));
        assert_eq!(after.unwrap_err().kind(), ErrorKind::TimedOut);
        let (mut accepted, _) = listener.accept().unwrap();
        before.write_all(b"asked").unwrap();
        let mut bytes = [0; 5];
        accepted.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"asked");
        drop(listener);
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
}
