//! Replacements for wasmtime-wasi's `sync` and `sync-data` of components, p2 and p3, which would be
//! left undone in a root file system that ignores them ([`crate::wasi::sync`]).

use runwasi_core::rootfs::Extent;
use wasmtime::{
    StoreContextMut,
    component::{Accessor, Linker, Resource},
};
use wasmtime_wasi::{
    WasiView, filesystem::Descriptor, p2::bindings::filesystem::types as p2,
    p3::bindings::filesystem::types as p3,
};

use super::files::{P2, P3};
use crate::{
    component::store::Component,
    wasi::{errno, sync},
};

type Answer<E> = wasmtime::Result<(Result<(), E>,)>;

const FUNCTIONS: [(&str, Extent); 2] =
    [("[method]descriptor.sync", Extent::All), ("[method]descriptor.sync-data", Extent::Data)];

/// Replaces the functions that wasmtime-wasi has linked.
pub(super) fn link(linker: &mut Linker<Component>) -> wasmtime::Result<()> {
    for (name, extent) in FUNCTIONS {
        linker
            .instance(P2)?
            .func_wrap_async(name, move |store, (file,)| Box::new(sync_p2(store, file, extent)))?;
        linker.instance(P3)?.func_wrap_concurrent(name, move |accessor, (file,)| {
            Box::pin(sync_p3(accessor, file, extent))
        })?;
    }
    Ok(())
}

async fn sync_p2(
    mut store: StoreContextMut<'_, Component>,
    file: Resource<Descriptor>,
    extent: Extent,
) -> Answer<p2::ErrorCode> {
    let component = store.data_mut();
    let upper = component.upper();
    let file = component.ctx().table.get(&file)?.clone();
    Ok((sync::sync(file, upper, extent).await.map_err(|error| errno::p2(&error)),))
}

async fn sync_p3(
    accessor: &Accessor<Component>,
    file: Resource<Descriptor>,
    extent: Extent,
) -> Answer<p3::ErrorCode> {
    let (file, upper) = accessor.with(|mut access| -> wasmtime::Result<_> {
        let component = access.get();
        let upper = component.upper();
        Ok((component.ctx().table.get(&file)?.clone(), upper))
    })?;
    Ok((sync::sync(file, upper, extent).await.map_err(|error| errno::p3(&error)),))
}
