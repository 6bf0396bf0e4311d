//! Opening of files, for all versions of WASI: [`runwasi_core::open`] with the rules of a guest's
//! preopened directories.
//!
//! wasmtime-wasi would open a FIFO, or a file under a lease of another process, on the thread that
//! polls the guest or on one of the blocking pool, and keep that thread beyond any kill.

use std::{fs::File, io, sync::Arc};

use runwasi_core::{
    InstanceSpec,
    open::{self, DSYNC, OpenHow, Opened, Synchronized},
    paths::Start,
};
use rustix::fs::{OFlags, fcntl_getfl};
use wasmtime_wasi::{
    FsPerms, OpenMode,
    filesystem::{self, Descriptor, Dir},
};

/// Standard streams of a guest: its first descriptors.
pub(crate) const STREAMS: u32 = 3;

/// Number of descriptors that a guest has open from its start: standard streams and preopens.
pub(crate) fn open_at_start(spec: &InstanceSpec) -> u32 {
    let preopens = u32::try_from(spec.rootfs.preopens().count()).unwrap_or(u32::MAX);
    preopens.saturating_add(STREAMS)
}

/// One call, in the terms that all versions of WASI share.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Request {
    /// Flags for the kernel. Reading is added unless the file is opened for writing.
    pub(crate) how: OpenHow,
    /// Refuse anything but a directory.
    pub(crate) directory: bool,
}

/// A file that was opened for a guest.
pub(crate) struct OpenedFile {
    pub(crate) descriptor: Descriptor,
    /// Number of the standard stream that it stands for.
    pub(crate) stream: Option<u32>,
}

/// Opens a path below a directory of the guest. The errors are those that a file system gives.
pub(crate) async fn open(
    start: Start<'_>,
    permissions: FsPerms,
    path: &str,
    request: Request,
) -> io::Result<OpenedFile> {
    let Request { mut how, directory: only_directory } = request;
    if only_directory && (how.create || how.exclusive || how.truncate) {
        return Err(error(libc::EINVAL));
    }
    // Truncation writes, as in wasmtime-wasi. Creation does not, as in `open(2)`: the file may be
    // there, and its guest may have the right to read it alone.
    how.read |= !how.write;
    how.write |= how.truncate;
    how.exclusive &= how.create;
    if permissions.write_not_permitted() && (how.write || how.create) {
        return Err(error(libc::EROFS));
    }
    let mode = mode(how);
    let mut stream = None;
    let descriptor = match open::open(start, path, how).await? {
        Opened::Directory(opened) => Descriptor::Dir(Dir::new(opened, permissions, mode, true)),
        Opened::File(_) | Opened::Stream(..) if only_directory => {
            return Err(error(libc::ENOTDIR));
        }
        Opened::File(opened) => {
            Descriptor::File(filesystem::File::new(opened, permissions, mode, true))
        }
        Opened::Stream(number, node) => {
            stream = Some(number);
            Descriptor::File(filesystem::File::new(node, permissions, mode, true))
        }
    };
    Ok(OpenedFile { descriptor, stream })
}

/// The file of a descriptor.
pub(crate) fn file_of(descriptor: &Descriptor) -> &Arc<File> {
    match descriptor {
        Descriptor::File(file) => &file.file,
        Descriptor::Dir(directory) => &directory.dir,
    }
}

/// Completion of a file's writes, as it was opened.
pub(crate) fn synchronized(file: &File) -> io::Result<Synchronized> {
    let flags = fcntl_getfl(file)?;
    // `O_SYNC` includes the bit of `O_DSYNC`.
    Ok(if flags.contains(OFlags::SYNC) {
        Synchronized::File
    } else if flags.contains(DSYNC) {
        Synchronized::Data
    } else {
        Synchronized::No
    })
}

fn mode(how: OpenHow) -> OpenMode {
    let mut mode = OpenMode::empty();
    mode.set(OpenMode::READ, how.read);
    mode.set(OpenMode::WRITE, how.write);
    mode
}

fn error(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}
