//! What containers are made with.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::task::spawn_blocking;

use crate::{
    artifact::oci::Images,
    bundle::{cgroups_path::CgroupsPath, process::ProcessConfig, resources::ResourcesConfig},
    cgroups::{Cgroups, KernelLimits},
    engine::Engine,
    events::Publisher,
    id::Id,
    network::Network,
    scheduler::Guests,
    shutdown::Tasks,
    stdio::{Stdio, error::StdioError, owner::Owner, paths::StdioPaths},
};

/// What containers are made with; the same for all of a sandbox.
#[derive(Clone)]
pub struct Host {
    /// Makes their instances.
    pub engine: Arc<dyn Engine>,
    /// Is told what happens to them.
    pub publisher: Arc<dyn Publisher>,
    /// Where their guests run.
    pub guests: Guests,
    /// Where their drivers run. Stopping these tasks stops the sandbox's server.
    pub tasks: Tasks,
    /// Where bundles may lie; anywhere if none is given.
    pub bundle_roots: Arc<[PathBuf]>,
    /// The containerd namespace they are in.
    pub namespace: Id,
    /// The images they are made from.
    pub images: Arc<dyn Images>,
    /// The cgroups of the process, if it serves this sandbox alone.
    pub cgroups: Option<Arc<Cgroups>>,
    /// The sandbox's network; its pid is the one that containerd is told for every process.
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
        let stdio =
            Stdio::open(paths, Owner { container, namespace: &self.namespace, tasks: &self.tasks })
                .await?;
        if let (Some(terminal), Some(size)) = (stdio.terminal().upgrade(), process.console_size) {
            terminal.resize(size).map_err(StdioError::Terminal)?;
        }
        Ok(stdio)
    }

    /// Has the kernel back a container's limits, if this process is the sandbox's own. Nobody waits until it does.
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
            // Its end waits for what is begun here.
            drop(spawn_blocking(move || backed.limit(&limits)));
        }
        Some(kernel_limits)
    }
}
