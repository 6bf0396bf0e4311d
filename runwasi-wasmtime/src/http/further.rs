//! Further instances of a server: those for which the pool of its engine has no slot, or which are
//! beyond the container's share of it, lie in a second pool.
//!
//! The second pool is made when requests first need it, so a server without many requests at once
//! costs no more than another guest. Its slots are for requests alone: requests take no slot of a
//! container that starts.

use std::sync::Arc;

use runwasi_core::{EngineError, InstanceSpec, blocking::blocking, digest::Digest};
use tokio::sync::OnceCell;
use wasmtime::component::Component as Code;

use super::guest::Guest;
use crate::{module_cache::Ready, pool::Pool, shares::Shares};

/// The second pool for the instances of one server.
pub(crate) struct Further {
    pool: Arc<Pool>,
    code: Code,
    digest: Option<Digest>,
    shares: Shares,
    /// The guest, linked for the second pool. Absent if that cannot be.
    // Not tried again: what fails once, like the address space, fails each time, and costs more
    // than the requests that wait.
    guest: OnceCell<Option<Guest>>,
}

impl Further {
    /// Absent if the settings have no such slots, or too few of something for the program.
    pub(crate) fn of(pool: &Arc<Pool>, ready: &Arc<Ready>, spec: &InstanceSpec) -> Option<Self> {
        let Ready::Component(pre) = ready.as_ref() else { return None };
        let code = pre.component().clone();
        let shares = pool.shares_of_requests(code.resources_required().as_ref(), spec)?;
        let digest = pool.compiler.digest(ready);
        Some(Self { pool: pool.clone(), code, digest, shares, guest: OnceCell::new() })
    }

    /// The same for a guest with a heap of collected objects.
    pub(super) fn with_heap(self) -> Self {
        Self { shares: self.shares.with_heap(), ..self }
    }

    /// Shares of the second pool.
    pub(super) fn shares(&self) -> &Shares {
        &self.shares
    }

    /// The guest in the second pool. `first` is the one in the pool of its engine.
    pub(super) async fn guest(&self, first: &Guest) -> Option<&Guest> {
        let link = || async {
            let linked = self.link(first).await;
            let warn =
                |error: &EngineError| tracing::warn!(%error, "no further slots for requests");
            linked.inspect_err(warn).ok()
        };
        self.guest.get_or_init(link).await.as_ref()
    }

    async fn link(&self, first: &Guest) -> Result<Guest, EngineError> {
        let pool = self.pool.of_requests().await?;
        let code = self.code.clone();
        let digest = self.digest;
        let failed = |error: wasmtime::Error| EngineError::Failed(format!("{error:#}"));
        let work = move || {
            // Not from the code cache: it may be off, and the container may have changed its file.
            let bytes = code.serialize().map_err(failed)?;
            let digest = digest.unwrap_or_else(|| Digest::of(&bytes));
            pool.compiler.ready_from(&digest, bytes).map_err(failed)
        };
        let ready = blocking(work, |lost| EngineError::Failed(lost.to_string())).await?;
        match ready.as_ref() {
            Ready::Component(pre) => first.in_another_pool(pre.clone()).map_err(failed),
            Ready::Module(_) => {
                Err(EngineError::Failed("the code of a component is a module".into()))
            }
        }
    }
}
