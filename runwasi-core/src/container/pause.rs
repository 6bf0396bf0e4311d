//! The pause container of a pod.

use std::sync::Arc;

use async_trait::async_trait;

use crate::engine::{
    error::EngineError,
    exit::ExitStatus,
    instance::{GuestContext, Instance},
};

/// The CRI's pause container: it only holds the pod together, so there is nothing to run.
pub(super) struct Pause;

#[async_trait]
impl Instance for Pause {
    async fn run(self: Arc<Self>, context: GuestContext) -> Result<ExitStatus, EngineError> {
        context.ready();
        std::future::pending().await
    }
}
