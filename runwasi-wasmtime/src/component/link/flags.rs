//! Replacements for wasmtime-wasi's `get-flags` of components, p2 and p3, which takes the flags of
//! synchronized files for others.

use std::io;

use runwasi_core::open::Synchronized;
use wasmtime::{
    StoreContextMut,
    component::{Accessor, Linker, Resource},
};
use wasmtime_wasi::{
    OpenMode, WasiView, filesystem::Descriptor, p2::bindings::filesystem::types as p2,
    p3::bindings::filesystem::types as p3,
};

use super::files::{P2, P3};
use crate::{
    component::store::Component,
    wasi::{
        errno,
        open::{file_of, synchronized},
    },
};

const FUNCTION: &str = "[method]descriptor.get-flags";

type Answer<T, E> = wasmtime::Result<(Result<T, E>,)>;

/// Replaces the functions that wasmtime-wasi has linked.
pub(super) fn link(linker: &mut Linker<Component>) -> wasmtime::Result<()> {
    linker.instance(P2)?.func_wrap(
        FUNCTION,
        |store: StoreContextMut<'_, Component>, (file,): (Resource<Descriptor>,)| {
            flags_p2(store, &file)
        },
    )?;
    linker.instance(P3)?.func_wrap_concurrent(FUNCTION, |accessor, (file,)| {
        Box::pin(async move { flags_p3(accessor, &file) })
    })
}

/// The flags of a descriptor: their type has the same names in both versions.
macro_rules! flags {
    ($version:ident: $descriptor:expr) => {{
        use $version::DescriptorFlags as Flags;
        let (mode, written) = match $descriptor {
            Descriptor::File(file) => (file.open_mode, Flags::WRITE),
            Descriptor::Dir(directory) => (directory.open_mode, Flags::MUTATE_DIRECTORY),
        };
        let mut flags = match synchronized(file_of($descriptor))? {
            Synchronized::No => Flags::empty(),
            Synchronized::Data => Flags::DATA_INTEGRITY_SYNC,
            Synchronized::File => Flags::FILE_INTEGRITY_SYNC,
        };
        if mode.contains(OpenMode::READ) {
            flags |= Flags::READ;
        }
        if mode.contains(OpenMode::WRITE) {
            flags |= written;
        }
        io::Result::Ok(flags)
    }};
}

fn of_p2(descriptor: &Descriptor) -> io::Result<p2::DescriptorFlags> {
    flags!(p2: descriptor)
}

fn of_p3(descriptor: &Descriptor) -> io::Result<p3::DescriptorFlags> {
    flags!(p3: descriptor)
}

fn flags_p2(
    mut store: StoreContextMut<'_, Component>,
    file: &Resource<Descriptor>,
) -> Answer<p2::DescriptorFlags, p2::ErrorCode> {
    let descriptor = store.data_mut().ctx().table.get(file)?;
    Ok((of_p2(descriptor).map_err(|error| errno::p2(&error)),))
}

fn flags_p3(
    accessor: &Accessor<Component>,
    file: &Resource<Descriptor>,
) -> Answer<p3::DescriptorFlags, p3::ErrorCode> {
    accessor.with(|mut access| {
        let descriptor = access.get().ctx().table.get(file)?;
        Ok((of_p3(descriptor).map_err(|error| errno::p3(&error)),))
    })
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::OpenOptionsExt};

    use wasmtime_wasi::{FsPerms, filesystem};

    use super::*;

    fn descriptor(flag: i32) -> Descriptor {
        let directory = tempfile::tempdir().unwrap();
        let mut options = File::options();
        let file = options.write(true).create(true).custom_flags(flag);
        let file = file.open(directory.path().join("f")).unwrap();
        Descriptor::File(filesystem::File::new(file, FsPerms::ReadWrite, OpenMode::WRITE, true))
    }

    #[test]
    fn flags_are_those_of_the_opening() {
        for (flag, p2, p3) in [
            (0, p2::DescriptorFlags::empty(), p3::DescriptorFlags::empty()),
            (
                libc::O_DSYNC,
                p2::DescriptorFlags::DATA_INTEGRITY_SYNC,
                p3::DescriptorFlags::DATA_INTEGRITY_SYNC,
            ),
            (
                libc::O_SYNC,
                p2::DescriptorFlags::FILE_INTEGRITY_SYNC,
                p3::DescriptorFlags::FILE_INTEGRITY_SYNC,
            ),
        ] {
            let file = descriptor(flag);
            assert_eq!(of_p2(&file).unwrap(), p2 | p2::DescriptorFlags::WRITE);
            assert_eq!(of_p3(&file).unwrap(), p3 | p3::DescriptorFlags::WRITE);
        }
    }
}
