//! The PID namespace that the native containers of a pod share.
//!
//! The sandbox's process is in the host's: no guest sees a process, and most pods do not share. So
//! the first native container that shares makes the namespace. The end of its first process kills
//! all containers in it, and the next container makes another one.

use std::{os::fd::AsRawFd, path::PathBuf, process, sync::Arc};

use tokio::sync::Mutex;

use super::pod_init::PodInit;
use crate::{blocking::blocking, network::NetworkError};

/// Its first process, which ends with the value.
pub(super) struct PidNamespace {
    first: Arc<PodInit>,
}

impl PidNamespace {
    /// Blocks as long as it takes to start a thread and a program.
    fn make() -> Result<Self, NetworkError> {
        let failed =
            |source| NetworkError::Enter { what: "first process of a PID namespace", source };
        let first = Arc::new(PodInit::start().map_err(failed)?);
        tracing::debug!(pid = first.pid(), "a PID namespace has its first process");
        Ok(Self { first })
    }

    /// Its first process.
    pub(super) fn first(&self) -> &Arc<PodInit> {
        &self.first
    }

    /// A path to it, as long as the value lives.
    // Not by the pid of the first process, which another process may have after its end.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", process::id(), self.first.namespace().as_raw_fd()).into()
    }
}

/// The namespace of a sandbox, once a container shares it.
// Locked during the making: of two first containers one makes it.
#[derive(Default)]
pub(super) struct SharedPids(Mutex<Option<Arc<PidNamespace>>>);

impl SharedPids {
    /// The namespace for a container. The caller keeps it until the container exists.
    pub(super) async fn get(&self) -> Result<Arc<PidNamespace>, NetworkError> {
        let mut current = self.0.lock().await;
        if let Some(living) = current.as_ref().filter(|current| !current.first.has_ended()) {
            return Ok(living.clone());
        }
        let lost = |source| NetworkError::Enter { what: "PID namespace", source };
        let made = Arc::new(blocking(PidNamespace::make, lost).await?);
        *current = Some(made.clone());
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::MetadataExt,
        path::Path,
        time::{Duration, Instant},
    };

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;
    use crate::sys;

    fn inode(path: &Path) -> u64 {
        fs::metadata(path).unwrap().ino()
    }

    fn kill(namespace: &PidNamespace) {
        let pid = Pid::from_raw(namespace.first.pid().cast_signed()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !namespace.first.has_ended() {
            assert!(Instant::now() < deadline, "it lives");
            sys::pause(Duration::from_millis(10));
        }
    }

    /// Runs a program in a PID namespace, by util-linux.
    fn takes_a_process(namespace: &PidNamespace) -> bool {
        let flag = format!("--pid={}", namespace.path().display());
        std::process::Command::new("nsenter").args([&flag, "true"]).status().unwrap().success()
    }

    #[tokio::test]
    async fn a_namespace_without_its_first_process_is_replaced() {
        let shared = SharedPids::default();
        let first = shared.get().await.unwrap();
        assert_eq!(shared.get().await.unwrap().path(), first.path());
        assert!(takes_a_process(&first));
        kill(&first);
        let second = shared.get().await.unwrap();
        assert!(!takes_a_process(&first) && takes_a_process(&second));
        // The path of the first leads to no other namespace.
        assert_ne!(inode(&first.path()), inode(&second.path()));
    }
}
