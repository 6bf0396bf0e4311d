//! A core module: its start, its entry.
//!
//! | module | one thing |
//! |---|---|
//! | `store` | what its store holds |
//! | `link` | what it may import |
//! | `preview1` | the calls that stand in front of the library's own |

pub(crate) mod link;
mod preview1;
pub(crate) mod store;

use runwasi_core::{EngineError, ExitStatus, GuestContext, InstanceSpec};
use wasmtime::{Instance, InstancePre, Store, Val};

use self::store::Guest;
use crate::{exit, start, world::ModuleEntry};

/// Runs it to its end.
pub(crate) async fn run(
    pre: &InstancePre<Guest>,
    entry: &ModuleEntry,
    spec: &InstanceSpec,
    context: &GuestContext,
) -> Result<ExitStatus, EngineError> {
    let mut store = store::store(pre, spec)?;
    let instance = match start::ready_if_long(context, pre.instantiate_async(&mut store)).await {
        Ok(instance) => instance,
        Err(error) => return start::failed_start(error, spec).await,
    };
    store.data_mut().limits.started();
    context.ready();
    let called = call(entry, &mut store, &instance).await;
    Ok(exit::status(called, spec).await)
}

async fn call(
    entry: &ModuleEntry,
    store: &mut Store<Guest>,
    instance: &Instance,
) -> wasmtime::Result<()> {
    let initialize = entry.initialize.then_some("_initialize");
    for name in initialize.into_iter().chain([entry.function.as_str()]) {
        let missing = || wasmtime::Error::msg(format!("export {name:?} is gone"));
        let function = instance.get_func(&mut *store, name).ok_or_else(missing)?;
        // Results have no place to go: the exit status is the guest's `proc_exit`.
        let mut results = vec![Val::I32(0); function.ty(&*store).results().len()];
        function.call_async(&mut *store, &[], &mut results).await?;
    }
    Ok(())
}
