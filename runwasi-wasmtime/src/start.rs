//! Instantiation of a guest: the moment at which it counts as started, and the result of a failure.

use std::future::{Future, poll_fn};

use runwasi_core::{EngineError, ExitStatus, GuestContext, InstanceSpec};
use wasmtime::{PoolConcurrencyLimitError, Trap};

use crate::{
    exit,
    limits::{self, OutOfMemory},
};

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

/// Exit status or error of a failed instantiation.
pub(crate) async fn failed_start(
    error: wasmtime::Error,
    spec: &InstanceSpec,
) -> Result<ExitStatus, EngineError> {
    // The guest's own code ran during the instantiation and has ended like any other guest.
    if error.is::<Trap>() || error.is::<wasmtime_wasi::I32Exit>() {
        return Ok(exit::status(Err(error), spec).await);
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return Err(EngineError::Exhausted {
            what: "instance slots",
            reason: format!("{error:#}"),
        });
    }
    Err(match error.downcast_ref() {
        Some(OutOfMemory(error)) => limits::beyond(*error),
        None => EngineError::Failed(format!("instantiate: {error:#}")),
    })
}
