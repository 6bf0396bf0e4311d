//! Pause container of a pod.

use std::sync::Arc;

use async_trait::async_trait;

use crate::engine::{
    error::EngineError,
    exit::ExitStatus,
    instance::{GuestContext, Instance},
};

/// Instance of the CRI's pause container. It only represents the pod and runs no guest code.
pub(super) struct Pause;

#[async_trait]
impl Instance for Pause {
    async fn run(self: Arc<Self>, context: GuestContext) -> Result<ExitStatus, EngineError> {
        context.ready();
        // Runs until the pod is stopped, which drops this future.
        std::future::pending().await
    }
}
