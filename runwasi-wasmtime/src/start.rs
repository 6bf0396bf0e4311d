//! The instantiation of a guest: when it counts as running, and what its failure means.

use std::future::{Future, poll_fn};

use runwasi_core::{EngineError, ExitStatus, GuestContext, InstanceSpec};
use wasmtime::{PoolConcurrencyLimitError, Trap};

use crate::{
    exit,
    limits::{self, OutOfMemory},
};

/// What waits or computes long while a guest is instantiated is code of its own: it runs already.
///
/// Boxed, because it is large, and gone when the guest runs.
pub(crate) fn ready_if_long<'a, T>(
    context: &'a GuestContext,
    instantiating: impl Future<Output = T> + Send + 'a,
) -> impl Future<Output = T> + Send + 'a {
    let mut instantiating = Box::pin(instantiating);
    poll_fn(move |cx| {
        let polled = instantiating.as_mut().poll(cx);
        if polled.is_pending() {
            context.ready();
        }
        polled
    })
}

/// What a failed instantiation means: code of the guest may have run in it, which then has ended like any other.
pub(crate) async fn failed_start(
    error: wasmtime::Error,
    spec: &InstanceSpec,
) -> Result<ExitStatus, EngineError> {
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
