//! Core modules: instantiation and run.
//!
//! | module | content |
//! |---|---|
//! | `files` | the guest's open files, and the opening of more |
//! | `descriptors` | flags, rights and position of a descriptor |
//! | `store` | data and limits of the store |
//! | `link` | imports of a module |
//! | `preview1` | host functions that replace the library's |
//! | `poll` | `poll_oneoff` |
//! | `parts` | host functions with long work, in parts |
//! | `paths` | calls with a path, and attributes of files |
//! | `readdir` | `fd_readdir` |
//! | `sync` | `fd_sync` and `fd_datasync` |
//! | `vectors` | vectors of reads and writes |

mod descriptors;
mod files;
pub(crate) mod link;
mod parts;
mod paths;
mod poll;
mod preview1;
mod readdir;
pub(crate) mod store;
mod sync;
mod vectors;

use std::pin::pin;

use runwasi_core::{EngineError, ExitStatus, GuestContext, InstanceSpec};
use wasmtime::{Instance, InstancePre, Store, Val};

use self::store::Guest;
use crate::{exit, gc_heap, limits, shares::Shares, start, world::ModuleEntry};

/// Instantiates a module and runs it to its end.
pub(crate) async fn run(
    pre: &InstancePre<Guest>,
    entry: &ModuleEntry,
    spec: &InstanceSpec,
    context: &GuestContext,
    shares: &Shares,
) -> Result<ExitStatus, EngineError> {
    // Given back after the end of the store.
    let share = shares.take()?;
    let mut store = store::store(pre, spec, shares, &share)?;
    let instance = match start::ready_if_long(context, pre.instantiate_async(&mut store)).await {
        Ok(instance) => instance,
        // A start function of the module may have run, and its trap is an exit of the guest.
        Err(error) => {
            let error = store.data().limits.explain(error);
            return start::failed_start(error, spec, context).await;
        }
    };
    // From here on a refused growth can be the result of the guest's `memory.grow`. Before, it
    // fails the start.
    store.data_mut().limits.started();
    gc_heap::enlarge(&mut store, gc_heap::OF_PROCESS).map_err(start::failed)?;
    // Reports an instantiation that was never pending; `ready_if_long` has reported any other.
    context.ready();
    let called = limits::bounded(&spec.memory, pin!(call(entry, &mut store, &instance))).await;
    let called = called.map_err(|error| store.data().limits.explain(error));
    Ok(exit::status(called, spec).await)
}

async fn call(
    entry: &ModuleEntry,
    store: &mut Store<Guest>,
    instance: &Instance,
) -> wasmtime::Result<()> {
    let initialize = entry.initialize.then_some("_initialize");
    for name in initialize.into_iter().chain([entry.function.as_str()]) {
        // `world::module_entry` has checked the names, so this error never occurs.
        let missing = || wasmtime::Error::msg(format!("export {name:?} is gone"));
        let function = instance.get_func(&mut *store, name).ok_or_else(missing)?;
        // The results are dropped: the exit status comes from `proc_exit`.
        let mut results = vec![Val::I32(0); function.ty(&*store).results().len()];
        function.call_async(&mut *store, &[], &mut results).await?;
    }
    Ok(())
}
