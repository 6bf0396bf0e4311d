//! Environment in which the containers of a sandbox are created.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::runtime::Handle;

use crate::{
    artifact::oci::Images,
    blocking::eventually,
    bundle::{cgroups_path::CgroupsPath, process::ProcessConfig, resources::ResourcesConfig},
    cgroups::{Cgroups, KernelLimits, oom_scores::OomScore},
    engine::Engine,
    events::Publisher,
    id::Id,
    native::NativeHost,
    network::Network,
    scheduler::Guests,
    shutdown::Tasks,
    stdio::{Stdio, error::StdioError, owner::Owner, paths::StdioPaths},
};

/// Environment of containers, the same for all containers of a sandbox.
#[derive(Clone)]
pub struct Host {
    /// Creates their instances.
    pub engine: Arc<dyn Engine>,
    /// Receives their events.
    pub publisher: Arc<dyn Publisher>,
    /// Scheduler of their guests.
    pub guests: Guests,
    /// Tasks of their drivers. Stopping them stops the sandbox's server.
    pub tasks: Tasks,
    /// Directories that may contain bundles. An empty list allows all directories.
    pub bundle_roots: Arc<[PathBuf]>,
    /// Their containerd namespace.
    pub namespace: Id,
    /// Id of their sandbox.
    pub sandbox: Id,
    /// Access to their images.
    pub images: Arc<dyn Images>,
    /// The cgroups of the process, if it serves this sandbox alone.
    pub cgroups: Option<Arc<Cgroups>>,
    /// The runtime of its native containers.
    pub native: NativeHost,
    /// The sandbox's network. containerd gets its pid as the pid of every process.
    pub network: Network,
}

impl Host {
    /// Opens the streams of a process.
    pub(super) async fn stdio(
        &self,
        container: &Id,
        paths: &StdioPaths,
        process: &ProcessConfig,
    ) -> Result<Stdio, StdioError> {
        let guests = self.guests.runtime();
        let owner = Owner { container, namespace: &self.namespace, tasks: &self.tasks, guests };
        let stdio = Stdio::open(paths, owner).await?;
        // Before the start, so that the guest never sees another size.
        if let (Some(terminal), Some(size)) = (stdio.terminal().upgrade(), process.console_size) {
            terminal.resize(size).map_err(StdioError::Terminal)?;
        }
        Ok(stdio)
    }

    /// Gives this process the OOM score of its containers, if it serves only their sandbox, until
    /// the result is dropped.
    pub(super) fn mirror_oom_score(&self, score: Option<i32>) -> Option<OomScore> {
        self.cgroups.as_ref().zip(score).map(|(cgroups, score)| cgroups.oom_scores.add(score))
    }

    /// Mirrors a container's limits into cgroups, if this process serves only its sandbox. Returns
    /// before that is done.
    pub(super) fn mirror_limits(
        &self,
        path: Option<CgroupsPath>,
        bundle: &Path,
        limits: ResourcesConfig,
        single: bool,
    ) -> Option<Arc<KernelLimits>> {
        let (cgroups, path) = self.cgroups.clone().zip(path)?;
        let kernel_limits = Arc::new(KernelLimits::new(cgroups, path, bundle, single));
        if kernel_limits.is_needed(&limits) {
            let backed = kernel_limits.clone();
            // Taken here: an update that comes before the work begins is told to the kernel after
            // it.
            let turn = kernel_limits.first_turn();
            // Not awaited, since cgroups only back the limits of the scheduler. `KernelLimits::end`
            // waits for a call in progress, and a later call has no effect.
            eventually(&Handle::current(), move || {
                backed.limit(&limits);
                drop(turn);
            });
        }
        Some(kernel_limits)
    }
}
