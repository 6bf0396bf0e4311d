//! Parts of a managed sandbox besides its containers: its life, the files of its pod, and access to
//! containerd's record of it.

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;

use super::lifecycle::Lifecycle;
use crate::{container::pod_files::PodFiles, id::Id, lock::Mutex};

/// containerd's records of sandboxes in one of its namespaces.
#[async_trait]
pub trait SandboxRecords: Debug + Send + Sync + 'static {
    /// True if containerd has a record of the sandbox. No result if it does not answer.
    async fn has(&self, sandbox: &Id) -> Option<bool>;
}

/// The parts of a managed sandbox.
pub(super) struct Managed {
    pub(super) lifecycle: Lifecycle,
    pub(super) records: Arc<dyn SandboxRecords>,
    /// Set by the creation. Taken by the stop, after which the sandbox has no containers to come.
    pub(super) files: Mutex<Option<Arc<PodFiles>>>,
}

impl Managed {
    pub(super) fn new(records: Arc<dyn SandboxRecords>) -> Self {
        Self { lifecycle: Lifecycle::default(), records, files: Mutex::default() }
    }

    /// Files that its containers share.
    pub(super) fn files(&self) -> Option<Arc<PodFiles>> {
        self.files.lock().clone()
    }
}
