//! Waits for `wasi:clocks/monotonic-clock` of both previews, in place of wasmtime-wasi's functions,
//! whose waits end a millisecond late and more ([`crate::timer`]).

use std::time::{Duration, Instant};

use wasmtime::{
    StoreContextMut,
    component::{Accessor, Linker, Resource},
};
use wasmtime_wasi::{
    WasiView, async_trait,
    clocks::WasiClocksView,
    p2::{DynPollable, Pollable, bindings::clocks::monotonic_clock::Host, subscribe},
};

use super::P2_VERSION;
use crate::{component::store::Component, timer, turns};

/// Replaces the functions of both previews.
pub(super) fn link(linker: &mut Linker<Component>) -> wasmtime::Result<()> {
    let mut p2 = linker.instance(&format!("wasi:clocks/monotonic-clock@{P2_VERSION}"))?;
    p2.func_wrap("subscribe-instant", |mut store: Store<'_>, (when,): (u64,)| {
        let left = left(store.data_mut(), when)?;
        wait(store, left)
    })?;
    p2.func_wrap("subscribe-duration", |store, (nanos,): (u64,)| wait(store, nanos))?;
    let mut p3 = linker.instance("wasi:clocks/monotonic-clock@0.3.0")?;
    p3.func_wrap_concurrent("wait-until", |accessor: &Accessor<Component>, (when,): (u64,)| {
        Box::pin(async move {
            let left = accessor.with(|mut access| left(access.get(), when))?;
            sleep(left).await
        })
    })?;
    p3.func_wrap_concurrent("wait-for", |_, (nanos,): (u64,)| Box::pin(sleep(nanos)))
}

type Store<'a> = StoreContextMut<'a, Component>;

/// Nanoseconds until the guest's clock shows `when`.
fn left(component: &mut Component, when: u64) -> wasmtime::Result<u64> {
    Ok(when.saturating_sub(Host::now(&mut component.clocks())?))
}

async fn sleep(nanos: u64) -> wasmtime::Result<()> {
    timer::sleep(Duration::from_nanos(nanos)).await;
    Ok(())
}

fn wait(mut store: Store<'_>, nanos: u64) -> wasmtime::Result<(Resource<DynPollable>,)> {
    let end = match nanos {
        0 => End::Now { told: false },
        nanos => {
            Instant::now().checked_add(Duration::from_nanos(nanos)).map_or(End::Never, End::At)
        }
    };
    let table = store.data_mut().ctx().table;
    let end = table.push(end)?;
    Ok((subscribe(table, end)?,))
}

/// End of a p2 wait.
enum End {
    Now {
        told: bool,
    },
    At(Instant),
    /// Further away than the clock can tell.
    Never,
}

#[async_trait]
impl Pollable for End {
    async fn ready(&mut self) {
        match self {
            Self::Now { told: true } => {}
            // wasi-libc's `poll(2)` asks without waiting by such an end. Without a turn for others,
            // what it asks for would never come.
            Self::Now { told } => {
                *told = true;
                turns::end().await;
            }
            Self::At(end) => timer::sleep_until(*end).await,
            Self::Never => std::future::pending().await,
        }
    }
}
