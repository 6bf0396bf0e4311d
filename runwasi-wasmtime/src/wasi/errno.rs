//! Errors of the kernel in all versions of WASI, each under its own name.
//!
//! wasmtime-wasi knows 25 of them, and makes all others `EIO`: a read-only file system, a rename
//! from one mount to another, a quota.

use std::io;

use wasmtime_wasi::{p2::bindings::filesystem::types as p2, p3::bindings::filesystem::types as p3};

/// Number of `EINVAL` in preview 1.
pub(crate) const INVAL: i32 = 28;
/// Number of `EAGAIN` in preview 1.
const AGAIN: i32 = 6;
/// Number of `EIO` in preview 1.
const IO: i32 = 29;

/// The functions for a table of errors: name in the kernel, number in preview 1, and name in p2 and
/// p3, which lack some.
macro_rules! errors {
    ($($host:ident $number:literal $($code:ident)?;)*) => {
        /// The `errno` of preview 1.
        pub(crate) fn preview1(error: &io::Error) -> i32 {
            match error.raw_os_error() {
                // Of a stream of Tokio's.
                None if error.kind() == io::ErrorKind::WouldBlock => AGAIN,
                // A path with a zero byte.
                None => INVAL,
                $(Some(libc::$host) => $number,)*
                Some(_) => IO,
            }
        }

        /// The error code of p2.
        pub(crate) fn p2(error: &io::Error) -> p2::ErrorCode {
            match error.raw_os_error() {
                None => p2::ErrorCode::Invalid,
                $($(Some(libc::$host) => p2::ErrorCode::$code,)?)*
                // The only one that p3 lacks.
                Some(libc::EAGAIN) => p2::ErrorCode::WouldBlock,
                Some(_) => p2::ErrorCode::Io,
            }
        }

        /// The error code of p3.
        pub(crate) fn p3(error: &io::Error) -> p3::ErrorCode {
            match error.raw_os_error() {
                None => p3::ErrorCode::Invalid,
                $($(Some(libc::$host) => p3::ErrorCode::$code,)?)*
                Some(_) => p3::ErrorCode::Io,
            }
        }
    };
}

// No error of components is for a full table of descriptors: it is the memory that is insufficient.
errors! {
    E2BIG 1;
    EACCES 2 Access;
    EADDRINUSE 3;
    EADDRNOTAVAIL 4;
    EAFNOSUPPORT 5;
    EAGAIN 6;
    EALREADY 7 Already;
    EBADF 8 BadDescriptor;
    EBADMSG 9;
    EBUSY 10 Busy;
    ECANCELED 11;
    ECHILD 12;
    ECONNABORTED 13;
    ECONNREFUSED 14;
    ECONNRESET 15;
    EDEADLK 16 Deadlock;
    EDESTADDRREQ 17;
    EDOM 18;
    EDQUOT 19 Quota;
    EEXIST 20 Exist;
    EFAULT 21;
    EFBIG 22 FileTooLarge;
    EHOSTUNREACH 23;
    EIDRM 24;
    EILSEQ 25 IllegalByteSequence;
    EINPROGRESS 26 InProgress;
    EINTR 27 Interrupted;
    EINVAL 28 Invalid;
    EIO 29 Io;
    EISCONN 30;
    EISDIR 31 IsDirectory;
    ELOOP 32 Loop;
    EMFILE 33 InsufficientMemory;
    EMLINK 34 TooManyLinks;
    EMSGSIZE 35 MessageSize;
    EMULTIHOP 36;
    ENAMETOOLONG 37 NameTooLong;
    ENETDOWN 38;
    ENETRESET 39;
    ENETUNREACH 40;
    ENFILE 41 InsufficientMemory;
    ENOBUFS 42;
    ENODEV 43 NoDevice;
    ENOENT 44 NoEntry;
    ENOEXEC 45;
    ENOLCK 46 NoLock;
    ENOLINK 47;
    ENOMEM 48 InsufficientMemory;
    ENOMSG 49;
    ENOPROTOOPT 50;
    ENOSPC 51 InsufficientSpace;
    ENOSYS 52 Unsupported;
    ENOTCONN 53;
    ENOTDIR 54 NotDirectory;
    ENOTEMPTY 55 NotEmpty;
    ENOTRECOVERABLE 56 NotRecoverable;
    ENOTSOCK 57;
    ENOTSUP 58 Unsupported;
    ENOTTY 59 NoTty;
    ENXIO 60 NoSuchDevice;
    EOVERFLOW 61 Overflow;
    EOWNERDEAD 62;
    EPERM 63 NotPermitted;
    EPIPE 64 Pipe;
    EPROTO 65;
    EPROTONOSUPPORT 66;
    EPROTOTYPE 67;
    ERANGE 68;
    EROFS 69 ReadOnly;
    ESPIPE 70 InvalidSeek;
    ESRCH 71;
    ESTALE 72;
    ETIMEDOUT 73;
    ETXTBSY 74 TextFileBusy;
    EXDEV 75 CrossDevice;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: i32) -> io::Error {
        io::Error::from_raw_os_error(code)
    }

    #[test]
    fn errors_have_their_own_names_in_every_version() {
        for (host, number, name) in [
            (libc::EROFS, 69, "read-only"),
            (libc::EXDEV, 75, "cross-device"),
            (libc::EDQUOT, 19, "quota"),
            (libc::ETXTBSY, 74, "text-file-busy"),
            (libc::ENOENT, 44, "no-entry"),
            (libc::ENOTSUP, 58, "unsupported"),
        ] {
            let error = of(host);
            assert_eq!(preview1(&error), number);
            assert_eq!(p2(&error).name(), name);
            let p3 = format!("{:?}", p3(&error)).to_lowercase();
            assert!(p3.contains(&name.replace('-', "")), "{p3}");
        }
        assert_eq!(preview1(&of(libc::EAGAIN)), AGAIN);
        assert_eq!(preview1(&io::ErrorKind::WouldBlock.into()), AGAIN);
        assert_eq!(p2(&of(libc::EAGAIN)).name(), "would-block");
        assert_eq!(preview1(&of(libc::EHWPOISON)), IO);
        assert_eq!(p2(&io::ErrorKind::InvalidInput.into()).name(), "invalid");
    }

    /// Every number of the specification but success and `notcapable`, which no kernel has.
    #[test]
    fn numbers_are_those_of_the_specification() {
        let mut numbers: Vec<_> = (1..200).map(|code| preview1(&of(code))).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers, (1..=75).collect::<Vec<_>>());
    }
}
