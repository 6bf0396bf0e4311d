//! Syncs of files, for all versions of WASI: `fsync(2)` and `fdatasync(2)`, or what replaces them
//! in a root file system that ignores both ([`Upper`]).

use std::{io, path::Path, sync::Arc};

use runwasi_core::rootfs::{Extent, Upper};
use rustix::fs::{Mode, OFlags, openat};
use wasmtime_wasi::filesystem::Descriptor;

use super::open::file_of;

/// Brings a file or directory to the disk. `upper` is that of the container's root file system.
pub(crate) async fn sync(
    descriptor: Descriptor,
    upper: Option<Arc<Upper>>,
    extent: Extent,
) -> io::Result<()> {
    let file = file_of(&descriptor);
    if let Some(upper) = upper.filter(|upper| upper.has(file)) {
        return upper.sync(file, extent).await;
    }
    match &descriptor {
        Descriptor::File(file) => extent.sync(&*file.file),
        Descriptor::Dir(directory) => {
            // Opened again: the guest's descriptor may be one that only names the directory.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            extent.sync(openat(&*directory.dir, Path::new("."), flags, Mode::empty())?)
        }
    }
}
