//! Ends of native containers: by their deletion, with their own exit, and after their delegate was
//! killed.

use std::{
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use containerd_shim_protos::ttrpc::{self, Code};
use tokio::time::timeout;

use super::{Member, Sandbox, Shared, error::SandboxError, native_container::NativeContainer};
use crate::{
    blocking::blocking,
    container::left_exit,
    containerd::shim_client::has_code,
    engine::{
        exit::{Exit, ExitStatus},
        signal::Signal,
    },
    events::Event,
    id::Id,
    native::{delegate::Delegate, launcher::Launcher, record::Record},
    observe::{self, Cause},
};

/// Time to remove what is left of one container without its delegate.
pub(super) const REMOVAL: Duration = Duration::from_secs(10);

impl Sandbox {
    /// Forgets a native container that its delegate has deleted.
    pub(crate) async fn native_deleted(&self, container: &Arc<NativeContainer>) {
        // A file left in the bundle after this would be found in the next one of its name.
        let leaving = container.leaving.lock().await;
        container.deleted.cancel();
        if !self.has_native(container) {
            // Another deletion has removed it. There may be a new container of its name.
            return;
        }
        remove_record(container.bundle.clone()).await;
        let removed = self.shared.change(|containers| {
            let removed = containers.remove(&container.id);
            if removed.is_some() {
                // Under the lock: its counters are counted either there or here.
                self.shared.past.add(&container.told.last());
            }
            removed
        });
        drop(leaving);
        if removed.is_some() {
            observe::deleted(&container.subject, None);
            let sandbox = self.clone();
            let delegate = container.delegate.clone();
            // Not awaited: containerd need not wait for the end of the delegate. The end of this
            // server does.
            self.tasks().spawn(async move { sandbox.release(&delegate).await });
        }
    }

    fn has_native(&self, container: &Arc<NativeContainer>) -> bool {
        let present = self.find(container.id.as_str());
        matches!(present, Some(Member::Native(present)) if Arc::ptr_eq(&present, container))
    }

    /// Forgets a native container that its delegate does not know any more: the answer to an
    /// earlier deletion was lost.
    pub(crate) async fn native_unknown(&self, container: &Arc<NativeContainer>) -> Exit {
        let exit = container.exit().unwrap_or_else(|| Exit::now(ExitStatus::KILLED));
        container.set_exit(exit, None);
        self.native_deleted(container).await;
        exit
    }

    /// Deletes a container of a killed delegate. Its leftovers are gone already.
    pub(crate) async fn delete_orphan(&self, container: &Arc<NativeContainer>) -> Option<Exit> {
        // Its exit may have been known before.
        end_orphan(&self.shared, container).await;
        let exit = container.wait().await?;
        let process = container.info(None);
        self.shared.host.publisher.publish(Event::Deleted { process, exit });
        self.native_deleted(container).await;
        Some(exit)
    }

    /// Ends a native container in any state and forgets it. An end that has begun runs to
    /// completion even if the future is dropped.
    pub(super) async fn end_native(
        &self,
        container: &Arc<NativeContainer>,
    ) -> Result<(u32, Exit), SandboxError> {
        let sandbox = self.clone();
        let ending = container.clone();
        let work = async move { sandbox.end_by_delegate(&ending).await };
        let lost = |_| SandboxError::Stopping { id: container.id.clone() };
        self.run_to_completion(work).await.map_err(lost)?
    }

    /// Ends a container after its `Create` has lost its caller.
    pub(crate) async fn end_unclaimed(&self, id: &str) {
        // Without a result: a `delete` has ended it meanwhile.
        let Some(Member::Native(container)) = self.find(id) else { return };
        tracing::info!(container = id, "ended: the caller of its creation has gone");
        if let Err(error) = self.end_by_delegate(&container).await {
            tracing::error!(%error, container = id, "a native container stays behind");
        }
    }

    async fn end_by_delegate(
        &self,
        container: &Arc<NativeContainer>,
    ) -> Result<(u32, Exit), SandboxError> {
        let id = container.id.clone();
        let end = container.delegate.client.end(id.as_str());
        // An init that no signal ends, in a call of the kernel for example, must not keep this
        // task.
        let Ok(ended) = timeout(REMOVAL, end).await else {
            let reason = format!("it does not end within {REMOVAL:?}");
            return Err(SandboxError::Native { id, reason });
        };
        match ended {
            Ok(ended) => {
                container.set_exit(ended.1, None);
                self.native_deleted(container).await;
                Ok(ended)
            }
            Err(error) if has_code(&error, Code::NOT_FOUND) => {
                Ok((container.pid, self.native_unknown(container).await))
            }
            Err(_) if container.delegate.is_ending().await => {
                let exit = self.delete_orphan(container).await;
                let exit = exit.ok_or(SandboxError::NotFound { id })?;
                Ok((container.pid, exit))
            }
            Err(error) => Err(SandboxError::Native { id, reason: error.to_string() }),
        }
    }

    /// Learns of the exit of an exec that was started.
    pub(crate) fn follow_exec(&self, container: &Arc<NativeContainer>, exec: &str) {
        self.tasks().spawn(follow_exec(container.clone(), exec.to_owned()));
    }
}

/// Waits for the exit of a container's init.
pub(super) async fn follow_exit(container: Arc<NativeContainer>) {
    match wait(&container, "").await {
        Some(Ok(exit)) => {
            container.keep_exit(exit);
            // Before containerd deletes it, and its cgroup with it.
            container.look_for_oom().await;
            container.set_exit(exit, None);
            leave_exit(&container).await;
        }
        // The container is being deleted, or its delegate is ending.
        Some(Err(error)) => tracing::debug!(%error, container = %container.id, "no exit"),
        None => {}
    }
}

async fn follow_exec(container: Arc<NativeContainer>, exec: String) {
    // Without a result: it is being deleted, or told by `follow_end`.
    if let Some(Ok(exit)) = wait(&container, &exec).await {
        container.exec_ended(&exec, exit);
    }
}

/// Waits for the exit of a process by its delegate. No result after the deletion of the container,
/// and without the delegate.
async fn wait(container: &NativeContainer, exec: &str) -> Option<ttrpc::Result<Exit>> {
    let delegate = &container.delegate;
    tokio::select! {
        // First: an answer counts also if the delegate has ended since.
        biased;
        exit = delegate.client.wait(container.id.as_str(), exec) => Some(exit),
        () = container.deleted.cancelled() => None,
        // Told by `follow_end`, or not any more.
        () = delegate.ended() => None,
        () = delegate.left() => None,
    }
}

/// Waits for a delegate that ends without being asked to, by SIGKILL for example. Kills its
/// containers, removes what is left of them and tells their exits.
pub(super) async fn follow_end(shared: Weak<Shared>, delegate: Arc<Delegate>) {
    tokio::select! {
        () = delegate.ended() => {}
        () = delegate.left() => return,
    }
    let Some(shared) = shared.upgrade() else { return };
    let mut orphans = shared.natives();
    orphans.retain(|container| Arc::ptr_eq(&container.delegate, &delegate));
    tracing::error!(
        pid = delegate.pid(),
        containers = orphans.len(),
        "a native runtime has ended: its containers are killed"
    );
    for container in orphans {
        end_orphan(&shared, &container).await;
    }
    delegate.remove_traces().await;
    delegate.leave();
}

/// Removes what is left of a container of a delegate that was killed, and tells its exits. Once:
/// another call waits for the first.
pub(super) async fn end_orphan(shared: &Shared, container: &NativeContainer) {
    if !container.claim_removal() {
        container.removed.cancelled().await;
        return;
    }
    let launcher = container.delegate.launcher.clone();
    // Without a result: an error is in the log.
    remove_left(launcher, container.id.clone(), container.bundle.clone()).await;
    tell_exits(shared, container);
    leave_exit(container).await;
    container.removed.cancel();
}

/// Leaves the exit of a container in its bundle for `delete`: this process and the delegate may
/// both be killed before the container is deleted.
async fn leave_exit(container: &NativeContainer) {
    let _leaving = container.leaving.lock().await;
    let Some(exit) = container.exit().filter(|_| !container.deleted.is_cancelled()) else { return };
    let bundle = container.bundle.clone();
    if let Err(error) = blocking(move || left_exit::write(&bundle, exit), |lost| lost).await {
        tracing::warn!(%error, container = %container.id, "cannot leave an exit");
    }
}

/// Has the program kill and remove what is left of a container. True if nothing is.
pub(super) async fn remove_left(launcher: Launcher, id: Id, bundle: PathBuf) -> bool {
    let container = id.clone();
    let remove = move || launcher.delete(&id, &bundle, REMOVAL).map_err(|error| error.to_string());
    let removed = blocking(remove, |error| error.to_string()).await;
    if let Err(error) = &removed {
        tracing::error!(%error, %container, "a native container stays behind");
    }
    removed.is_ok()
}

fn tell_exits(shared: &Shared, container: &NativeContainer) {
    let killed = Exit::now(ExitStatus::KILLED);
    let cause = Some(Cause::Signal(Signal::KILL));
    let publish = |exec: Option<Id>| {
        let process = container.info(exec);
        let cause = "its native runtime has ended".into();
        shared.host.publisher.publish(Event::Exited { process, exit: killed, cause });
    };
    for ended in container.execs.end(killed) {
        // Always an id: containerd has made the exec by it.
        let Ok(exec) = Id::parse("exec id", &ended.id) else { continue };
        container.tell_exec_exit(&exec, ended.exit, cause.filter(|_| !ended.told));
        if !ended.told {
            publish(Some(exec));
        }
    }
    match container.exit() {
        Some(told) => container.set_exit(told, None),
        None => {
            publish(None);
            container.set_exit(killed, cause);
        }
    }
}

/// Removes the record of a bundle.
pub(super) async fn remove_record(bundle: PathBuf) {
    let work = move || {
        Record::remove(&bundle);
        Ok(())
    };
    // An error: this process is ending. `delete` then finds a record without a container.
    let _: Result<(), ()> = blocking(work, drop).await;
}
