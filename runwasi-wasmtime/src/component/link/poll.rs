//! Replacement for `poll` of `wasi:io/poll`, with a bound of the list.
//!
//! wasmtime-wasi looks at every pollable of the list at each wake-up, and does not yield meanwhile.

use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource, WasmList},
};
use wasmtime_wasi::{WasiView, p2::DynPollable};
use wasmtime_wasi_io::bindings::wasi::io::poll::Host;

use super::P2_VERSION;
use crate::component::store::Component;

/// Most pollables of one call: some milliseconds. An event loop has one for each timer, and two for
/// each connection, of which `RLIMIT_NOFILE` allows fewer than that by default.
const MOST: usize = 10_000;

type List = WasmList<Resource<DynPollable>>;

/// Replaces the function that wasmtime-wasi has linked.
pub(super) fn link(linker: &mut Linker<Component>) -> wasmtime::Result<()> {
    linker
        .instance(&format!("wasi:io/poll@{P2_VERSION}"))?
        .func_wrap_async("poll", |store, (list,): (List,)| Box::new(poll(store, list)))
}

async fn poll(
    mut store: StoreContextMut<'_, Component>,
    list: List,
) -> wasmtime::Result<(Vec<u32>,)> {
    let number = list.len();
    // Not a `Vec`: wasmtime would look up all handles before the function could refuse the call.
    if number > MOST {
        return Err(wasmtime::Error::msg(format!(
            "a call polls {number} pollables, and {MOST} are allowed"
        )));
    }
    let pollables = list.iter(&mut store)?.collect::<wasmtime::Result<Vec<_>>>()?;
    Ok((Host::poll(store.data_mut().ctx().table, pollables).await?,))
}
