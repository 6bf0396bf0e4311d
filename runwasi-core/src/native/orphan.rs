//! A native container whose server was killed: `delete` ends it, and its delegate after the last one.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use containerd_shim_protos::ttrpc;
use tokio::time::{sleep, timeout};

use super::{delegate, launcher::Launcher, record::Record, socket};
use crate::{containerd::shim_client::ShimClient, engine::exit::Exit, id::Id, runtime};

/// Time between two looks whether a delegate has ended.
const POLL: Duration = Duration::from_millis(10);

/// A container with the record that its server has left.
pub(crate) struct Orphan {
    id: Id,
    namespace: Id,
    bundle: PathBuf,
    record: Record,
}

impl Orphan {
    /// The container of a bundle, if it is native and was not deleted.
    pub(crate) fn find(bundle: &Path, id: &Id, namespace: &Id) -> Option<Self> {
        let record = Record::read(bundle)?;
        Some(Self {
            id: id.clone(),
            namespace: namespace.clone(),
            bundle: bundle.to_owned(),
            record,
        })
    }

    /// Ends the container in any state until the deadline. Its delegate ends it if it lives, else
    /// the delegate's program. Blocks.
    pub(crate) fn end(&self, grpc_address: &str, deadline: Instant) -> Option<(u32, Exit)> {
        let left = || deadline.saturating_duration_since(Instant::now());
        let ended = self.by_delegate(left()).or_else(|| self.by_program(grpc_address, left()));
        if ended.is_some() {
            Record::remove(&self.bundle);
        }
        if !socket::is_served(&self.record.address) {
            delegate::remove_traces(&self.record);
        }
        ended
    }

    fn by_delegate(&self, limit: Duration) -> Option<(u32, Exit)> {
        if !socket::is_served(&self.record.address) {
            return None;
        }
        let control = runtime::control().ok()?;
        let ended = control.block_on(async { timeout(limit, self.call()).await });
        control.shutdown_background();
        match ended {
            Ok(Ok(ended)) => Some(ended),
            Ok(Err(error)) => {
                tracing::warn!(%error, container = %self.id, "its native runtime does not end it");
                None
            }
            Err(_) => None,
        }
    }

    async fn call(&self) -> ttrpc::Result<(u32, Exit)> {
        let client = ShimClient::connect(&self.record.address, &self.namespace).await?;
        let ended = client.end(self.id.as_str()).await?;
        // It ends only without containers. An error does not change this container's exit.
        let _ = client.shutdown(self.id.as_str()).await;
        // Bounded by the caller. A delegate with further containers is still asked by them.
        let _ = timeout(Duration::from_secs(1), self.delegate_ended()).await;
        Ok(ended)
    }

    async fn delegate_ended(&self) {
        while socket::is_served(&self.record.address) {
            sleep(POLL).await;
        }
    }

    fn by_program(&self, grpc_address: &str, limit: Duration) -> Option<(u32, Exit)> {
        let launcher = Launcher {
            program: self.record.program.clone(),
            namespace: self.namespace.clone(),
            grpc_address: grpc_address.to_owned(),
            // It tells no events: containerd does after its `delete`.
            ttrpc_address: String::new(),
        };
        let ended = launcher.delete(&self.id, &self.bundle, limit);
        if let Err(error) = &ended {
            tracing::error!(%error, container = %self.id, "a native container stays behind");
        }
        ended.ok()
    }
}
