//! Instantiation of a guest: the moment at which it counts as started, and the result of a failure.

use std::future::{Future, poll_fn};

use runwasi_core::{EngineError, ExitStatus, GuestContext, InstanceSpec};
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};

use crate::{exit, limits::OutOfMemory, shares::Shortage};

/// Instantiates a guest and reports it as ready as soon as its own code waits or yields.
pub(crate) fn ready_if_long<'a, T>(
    context: &'a GuestContext,
    instantiating: impl Future<Output = T> + Send + 'a,
) -> impl Future<Output = T> + Send + 'a {
    // Boxed, because the future is large and its memory is free again when the guest runs.
    let mut instantiating = Box::pin(instantiating);
    poll_fn(move |cx| {
        let polled = instantiating.as_mut().poll(cx);
        if polled.is_pending() {
            // Only the guest's own code waits or computes long here, so the guest runs already.
            context.ready();
        }
        polled
    })
}

/// Error of a pool without room. Shares are reserved before, so only what is not reserved is
/// missing: stacks that wasmtime keeps for a moment.
fn exhausted(error: &wasmtime::Error) -> EngineError {
    let text = format!("{error:#}");
    // wasmtime's error has no other form than its text.
    let named = [
        ("memory", "linear memories", "engine.memories"),
        ("tables", "tables", "engine.tables"),
        ("GC heaps", "heaps of collected objects", "slots"),
    ];
    let found = named.into_iter().find(|(word, ..)| text.contains(word));
    let (_, what, setting) = found.unwrap_or(("", "instance slots", "slots"));
    EngineError::Exhausted { what, reason: format!("{text}, which {setting} raises") }
}

/// Exit status or error of a failed instantiation, as the limits of its store explain it.
pub(crate) async fn failed_start(
    error: wasmtime::Error,
    spec: &InstanceSpec,
    context: &GuestContext,
) -> Result<ExitStatus, EngineError> {
    // The guest's own code has ended like any other guest. So has one that is reported as running,
    // whatever has ended it: its start cannot fail any more.
    if has_run(&error) || context.is_ready() {
        return Ok(exit::status(Err(error), spec).await);
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return Err(exhausted(&error));
    }
    if let Some(shortage) = error.downcast_ref::<Shortage>() {
        return Err(shortage.clone().into());
    }
    Err(match error.downcast_ref() {
        Some(OutOfMemory(error)) => EngineError::begins_beyond(*error),
        None => failed(error),
    })
}

/// True if the guest's own code ran during the instantiation, and has ended it.
// An exception, an error of a host call and the like are no traps, but have the trace of its calls.
// So has a growth beyond the limit, and without that memory a guest cannot start.
fn has_run(error: &wasmtime::Error) -> bool {
    let ended = error.is::<Trap>() || error.is::<wasmtime_wasi::I32Exit>();
    let lacks = error.is::<OutOfMemory>()
        || error.is::<PoolConcurrencyLimitError>()
        || error.is::<Shortage>();
    ended || error.is::<WasmBacktrace>() && !lacks
}

/// Error of an instantiation that fails for no reason of the guest.
pub(crate) fn failed(error: wasmtime::Error) -> EngineError {
    EngineError::Failed(format!("instantiate: {error:#}"))
}

#[cfg(test)]
mod tests {
    use super::exhausted;

    #[test]
    fn exhausted_pool_is_named_with_its_setting() {
        let rows = [
            (
                "maximum concurrent limit of 9 for memory stripe 0 reached",
                "linear memories",
                "engine.memories",
            ),
            ("maximum concurrent limit of 9 for tables reached", "tables", "engine.tables"),
            ("maximum concurrent limit of 9 for fibers reached", "instance slots", "slots"),
        ];
        for (text, what, setting) in rows {
            let error = exhausted(&wasmtime::Error::msg(text)).to_string();
            assert!(error.starts_with(&format!("out of {what}: ")), "{error}");
            assert!(error.ends_with(&format!(", which {setting} raises")), "{error}");
        }
    }
}
