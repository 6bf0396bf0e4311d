//! Further process of a container whose program cannot run.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    engine::{
        error::EngineError,
        exit::ExitStatus,
        instance::{GuestContext, Instance},
    },
    lock::Mutex,
};

/// Instance in place of one that the engine has refused. Its start fails.
// As with containerd's own shims, `Exec` only adds a process: clients take the reason from `Start`,
// and delete the process after it.
pub(super) struct Refused {
    /// Taken by the run.
    error: Mutex<Option<EngineError>>,
}

impl Refused {
    pub(super) fn new(error: EngineError) -> Self {
        Self { error: Mutex::new(Some(error)) }
    }
}

#[async_trait]
impl Instance for Refused {
    async fn run(self: Arc<Self>, _: GuestContext) -> Result<ExitStatus, EngineError> {
        let error = self.error.lock().take();
        Err(error.unwrap_or_else(|| EngineError::Failed("the process was refused".into())))
    }
}
