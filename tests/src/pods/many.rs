//! Many pods, some of them under way at a time, as on a node that is filled or emptied; called by tests and benchmarks of
//! crowded nodes.

use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, anyhow};

use super::{Pod, Pods};
use crate::cri::Cri;
use crate::cri::messages::{ContainerConfig, NamespaceMode, PodSandboxConfig};

/// A pod with one container, which was started.
#[derive(Debug)]
pub struct Started {
    /// The pod.
    pub pod: Pod,
    /// The CRI's id of its container.
    pub container: String,
    /// The pod's address.
    pub address: String,
}

impl Pods {
    /// Makes a pod for each of these names, and starts a container of this configuration in it.
    pub fn start_many(
        &self,
        names: &[String],
        at_a_time: usize,
        container: &ContainerConfig,
    ) -> Result<Vec<Started>> {
        let config = |name: &String| self.pod_config(name, NamespaceMode::Pod);
        let configs: Vec<PodSandboxConfig> = names.iter().map(config).collect();
        let socket = self.fixture.address();
        let handler = &self.handler;
        let started = each(&socket, at_a_time, &configs, |cri, config| {
            let pod = Pod { id: cri.run_pod(config, handler)?, config: config.clone() };
            let id = cri.create(&pod.id, container.clone(), config)?;
            cri.start(&id)?;
            let status = cri.pod_status(&pod.id)?.status.context("no status of a new pod")?;
            let address = status.network.unwrap_or_default().ip;
            Ok(Started { pod, container: id, address })
        });
        // Also those beside one that failed: the end of the fixture looks for what they leave.
        let there = self.cri.pods()?.into_iter().map(|pod| pod.id);
        self.ever.borrow_mut().extend(there);
        started
    }

    /// Stops and removes pods with their containers.
    pub fn finish_many(&self, pods: &[Started], at_a_time: usize) -> Result<()> {
        let done = each(&self.fixture.address(), at_a_time, pods, |cri, one| {
            cri.stop_pod(&one.pod.id)?;
            cri.remove_pod(&one.pod.id)
        });
        done.map(drop)
    }
}

/// Calls `work` for each item, on `at_a_time` threads with a client each. All items are tried; the first error is given.
pub(super) fn each<T: Sync, R: Send>(
    socket: &Path,
    at_a_time: usize,
    items: &[T],
    work: impl Fn(&Cri, &T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let todo = Mutex::new(items.iter().enumerate());
    let next = || todo.lock().map_err(|_| anyhow!("another thread panicked")).map(|mut i| i.next());
    let worker = || -> Result<Vec<(usize, Result<R>)>> {
        let cri = Cri::new(socket)?;
        let mut done = Vec::new();
        while let Some((n, item)) = next()? {
            done.push((n, work(&cri, item)));
        }
        Ok(done)
    };
    let mut all = thread::scope(|scope| {
        let threads: Vec<_> = (0..at_a_time).map(|_| scope.spawn(worker)).collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        joined.collect::<Result<Vec<_>>>()
    })?
    .into_iter()
    .flatten()
    .collect::<Vec<_>>();
    all.sort_by_key(|(n, _)| *n);
    all.into_iter().map(|(_, result)| result).collect()
}
