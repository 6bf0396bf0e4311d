//! Runs a component once, to its end: a p2 or p3 command, or a function that the user named.

use std::future::poll_fn;

use wasmtime::{
    AsContextMut, Store,
    component::{Instance, Val},
};
use wasmtime_wasi::{I32Exit, p2, p3};

use super::store::Component;
use crate::world::ComponentFunction;

/// Runs `wasi:cli/run` of p2.
pub(crate) async fn run_p2(
    store: &mut Store<Component>,
    instance: &Instance,
) -> wasmtime::Result<()> {
    let command = p2::bindings::Command::new(&mut *store, instance)?;
    status(command.wasi_cli_run().call_run(store).await?)
}

/// Runs `wasi:cli/run` of p3.
pub(crate) async fn run_p3(
    store: &mut Store<Component>,
    instance: &Instance,
) -> wasmtime::Result<()> {
    let command = p3::bindings::Command::new(&mut *store, instance)?;
    let returned = store
        .run_concurrent(async |accessor| {
            let returned = command.wasi_cli_run().call_run(accessor).await?;
            // Tasks that the guest left behind at its return belong to the run.
            poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
            wasmtime::error::Ok(returned)
        })
        .await??;
    status(returned)
}

/// Calls a function without parameters. An `err` result fails the process.
pub(crate) async fn call(
    store: &mut Store<Component>,
    instance: &Instance,
    function: &ComponentFunction,
) -> wasmtime::Result<()> {
    let gone = || wasmtime::Error::msg(format!("export {:?} is gone", function.name));
    let func = instance.get_func(&mut *store, function.index).ok_or_else(gone)?;
    // `call_async` overwrites the values. They only set the number of results.
    let mut results = vec![Val::Bool(false); func.ty(store.as_context_mut()).results().len()];
    func.call_async(&mut *store, &[], &mut results).await?;
    // Other results are dropped: a process has only its status to return.
    match results.first() {
        Some(Val::Result(Err(_))) => status(Err(())),
        _ => Ok(()),
    }
}

/// Converts the result of a command.
fn status(returned: Result<(), ()>) -> wasmtime::Result<()> {
    // Status 1, as in the standard libraries of guests.
    returned.map_err(|()| I32Exit(1).into())
}
