//! Directory of a component for a call with a path.

use std::io;

use rustix::io::Errno;
use wasmtime::component::Resource;
use wasmtime_wasi::{WasiView, filesystem::Descriptor};

use crate::{component::store::Component, wasi::paths::Place};

/// A directory of the guest. The outer error is that of a handle that is not in the table.
pub(super) fn place(
    component: &mut Component,
    directory: &Resource<Descriptor>,
) -> wasmtime::Result<io::Result<Place>> {
    let roots = component.roots().clone();
    Ok(match component.ctx().table.get(directory)? {
        Descriptor::Dir(directory) => Ok(Place::new(directory.clone(), roots)),
        Descriptor::File(_) => Err(Errno::NOTDIR.into()),
    })
}
