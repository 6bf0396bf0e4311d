//! The store of a core module.

use std::sync::Arc;

use runwasi_core::{
    EngineError, InstanceSpec, engine::extensions::Extensions, paths::Roots, rootfs::Upper,
};
use wasmtime::{InstancePre, Store};
use wasmtime_wasi::p1::WasiP1Ctx;

use super::files::FileTable;
use crate::{
    limits::{self, Limited, Limits},
    shares::{Share, Shares},
    wasi::context,
};

/// Data of a module's store: the `T` of [`Caller`](wasmtime::Caller) in host functions for core
/// modules. Public as `ModuleState`. Dropped with the instance, at the end of its process.
pub struct Guest {
    pub(crate) wasi: WasiP1Ctx,
    pub(crate) limits: Limits,
    /// Open files of the guest.
    pub(super) files: FileTable,
    /// Directories that bound its paths.
    pub(super) roots: Roots,
    /// Where its writes to a volatile root file system go.
    pub(super) upper: Option<Arc<Upper>>,
    extensions: Arc<Extensions>,
}

impl Guest {
    /// Values of the container, shared by the stores of all its processes.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }
}

impl Limited for Guest {
    fn limits(&mut self) -> &mut Limits {
        &mut self.limits
    }
}

pub(super) fn store(
    pre: &InstancePre<Guest>,
    spec: &InstanceSpec,
    shares: &Shares,
    share: &Share,
) -> Result<Store<Guest>, EngineError> {
    // Charges the stack. First, so that a guest beyond its memory limit fails before its files are
    // opened.
    let limits = Limits::new(spec.memory.charge(), shares.memory_bytes)
        .map_err(EngineError::begins_beyond)?
        .count(share.memories());
    let wasi = context::module_context(spec)?;
    let files = FileTable::new(spec, shares.descriptors.hold());
    let extensions = spec.extensions.clone();
    let roots = Roots::of(&spec.rootfs);
    let upper = spec.rootfs.upper().cloned();
    let guest = Guest { wasi, limits, files, roots, upper, extensions };
    let mut store = Store::new(pre.module().engine(), guest);
    store.limiter(|guest| &mut guest.limits);
    limits::yield_at_ticks(&mut store);
    Ok(store)
}
