//! Native containers of a sandbox, and the delegate that runs them.
//!
//! ```text
//! first container ─▶ delegate starts ─▶ further containers join ─▶ last is deleted ─▶ it ends
//!                                         │ it is killed
//!                                         ▼
//!                    its containers are killed, their exits published, and they wait for Delete
//! ```

use std::{
    fmt::Display,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use super::{
    Reservation, Sandbox, Shared, Slot,
    error::SandboxError,
    native_container::{Current, NativeContainer},
    pid_namespace::PidNamespace,
};
use crate::{
    blocking::blocking,
    bundle::{
        config::ConfigError,
        native_config::{add_mounts, join_pid_namespace},
    },
    cgroups::kills::OomKills,
    container::{error::CreateError, pod_files::PodFiles, prepare::NativeProgram},
    engine::{
        exit::{Exit, ExitStatus},
        signal::Signal,
    },
    events::Event,
    id::Id,
    native::{
        NativeHost,
        delegate::Delegate,
        error::NativeError,
        launcher::Launcher,
        record::Record,
        setting::{KEY, NativeRuntime},
    },
    observe::{self, Cause, Kind, Step, Subject},
    settings::SettingsError,
    stdio::paths::StdioPaths,
    traces::{Span, start::StartTrace},
};

/// Time to remove what is left of one container of a delegate that was killed.
const REMOVAL: Duration = Duration::from_secs(10);

/// A native container that is being created. Its id is reserved, and its delegate runs.
pub(crate) struct NativePlace {
    sandbox: Sandbox,
    reservation: Reservation,
    /// The container in the log.
    subject: Arc<Subject>,
    /// Time of the request.
    begun: Instant,
    /// Trace of the start.
    trace: StartTrace,
    /// The delegate that is to create it.
    pub(crate) delegate: Arc<Delegate>,
    /// Its bundle directory.
    pub(crate) bundle: PathBuf,
    /// True if systemd makes its cgroup.
    pub(crate) systemd_cgroup: bool,
    /// The PID namespace that it joins, open until then.
    _pids: Option<Arc<PidNamespace>>,
}

impl NativePlace {
    /// Enters the container that the delegate has created.
    pub(crate) async fn fill(self, pid: u32, stdio: StdioPaths) {
        // Before its start, and so before its end. An error: this process is ending.
        let kills: Result<_, ()> = blocking(move || Ok(OomKills::of(pid)), drop).await;
        let init = (pid, kills.ok().flatten());
        let Self { sandbox, mut reservation, subject, begun, trace, delegate, bundle, .. } = self;
        let Some(id) = reservation.id.take() else { return };
        observe::created(&subject, None, Kind::Native, begun.elapsed());
        let container = NativeContainer::new((subject, trace), bundle, delegate, init, stdio);
        let container = Arc::new(container);
        let slot = Slot::Native(container.clone());
        sandbox.shared.change(|containers| containers.insert(id, slot));
        sandbox.tasks().spawn(follow_exit(container));
    }

    /// Begins a part of the start.
    pub(crate) fn part(&self, name: &'static str) -> Span {
        self.trace.part(name)
    }

    /// Attaches the shared memory of the pod for its native containers.
    async fn attach(&self, files: Arc<PodFiles>) -> Result<PathBuf, CreateError> {
        let attached = self.delegate.attach(move |place| files.attach_memory(place)).await;
        attached.map_err(|source| CreateError::Bundle { path: self.bundle.clone(), source })
    }

    /// Gives the place up: the delegate has not created the container.
    pub(crate) async fn give_up(self, reason: &(dyn Display + Sync)) {
        observe::refused(&self.subject, None, Step::Create, reason);
        self.trace.failed(reason);
        self.leave().await;
    }

    async fn leave(self) {
        let Self { sandbox, reservation, delegate, bundle, .. } = self;
        remove_record(bundle).await;
        drop(reservation);
        sandbox.release(&delegate).await;
    }
}

impl Sandbox {
    pub(super) fn natives(&self) -> Vec<Arc<NativeContainer>> {
        self.shared.natives()
    }

    /// Notes that a client asks about the end of a native container (`sandbox::stop`).
    pub(crate) fn note_native_question(&self, container: &NativeContainer) {
        if self.tasks().is_stopped() {
            container.note_question();
        }
    }

    /// The place of a native container with the delegate that is to create it.
    pub(super) async fn native_place(
        &self,
        reservation: Reservation,
        (bundle, trace): (PathBuf, &StartTrace),
        program: NativeProgram,
        options: Vec<u8>,
    ) -> Result<NativePlace, CreateError> {
        let begun = Instant::now();
        let NativeProgram { path, runtime, systemd_cgroup, pid_namespace, annotations } = program;
        let id = reservation.id.clone().ok_or(CreateError::Lost)?;
        let runtime = self.native_runtime(runtime)?;
        let pids = match pid_namespace {
            Some(wanted) => self.join_pid_namespace(&bundle, &wanted).await?,
            None => None,
        };
        let failed = |source| CreateError::Native { path, source };
        let sandbox = self.clone();
        let host = &self.shared.host;
        let subject = Subject::new((&host.namespace, &host.sandbox), &id, &annotations);
        trace.describe(&subject);
        let subject = Arc::new(subject);
        // Short if there is a delegate: the first container of a sandbox waits for its start.
        let span = trace.part("delegate");
        let delegate = self.acquire(&id, runtime, options).await.map_err(failed)?;
        drop(span);
        let trace = trace.clone();
        let place = NativePlace {
            sandbox,
            reservation,
            subject,
            begun,
            trace,
            delegate,
            bundle,
            systemd_cgroup,
            _pids: pids,
        };
        match self.prepare_bundle(&place).await {
            Ok(()) => Ok(place),
            Err(error) => {
                place.leave().await;
                Err(error)
            }
        }
    }

    /// Gives the container the files of its pod, and leaves the record of its delegate.
    async fn prepare_bundle(&self, place: &NativePlace) -> Result<(), CreateError> {
        if let Some(files) = self.pod_files() {
            let memory = match files.memory() {
                Some(_) => Some(place.attach(files.clone()).await?),
                None => None,
            };
            let mounts = files.for_native(memory);
            change_config(&place.bundle, move |bundle| add_mounts(bundle, &mounts)).await?;
        }
        // Before the container exists: `delete` finds its delegate at any time.
        let record = place.delegate.record();
        let directory = place.bundle.clone();
        let write = move || record.write(&directory);
        let failed = |source| CreateError::Bundle { path: place.bundle.clone(), source };
        blocking(write, |lost| lost).await.map_err(failed)
    }

    /// Gives a container that joins the PID namespace of the sandbox's process the one that is shared.
    async fn join_pid_namespace(
        &self,
        bundle: &Path,
        wanted: &Path,
    ) -> Result<Option<Arc<PidNamespace>>, CreateError> {
        let of_sandbox = format!("/proc/{}/ns/pid", self.pid());
        if wanted != Path::new(&of_sandbox) || self.network().has_host_pids() {
            return Ok(None);
        }
        let shared = self.shared.pids.get().await?;
        let path = shared.path();
        change_config(bundle, move |bundle| join_pid_namespace(bundle, &path)).await?;
        Ok(Some(shared))
    }

    /// The setting in force for a container.
    fn native_runtime(&self, option: Option<NativeRuntime>) -> Result<NativeRuntime, CreateError> {
        let NativeHost { runtime, fixed, .. } = &self.shared.host.native;
        match option {
            Some(option) if *fixed && option != *runtime => {
                let reason =
                    "this node's daemon, whose own configuration decides, has another value";
                Err(CreateError::Options(SettingsError::new(KEY, reason)))
            }
            option => Ok(option.unwrap_or_else(|| runtime.clone())),
        }
    }

    /// The delegate for a further container. Starts it for the first one.
    async fn acquire(
        &self,
        id: &Id,
        runtime: NativeRuntime,
        options: Vec<u8>,
    ) -> Result<Arc<Delegate>, NativeError> {
        // Held during the start: of two first containers one starts the delegate.
        let mut current = self.shared.delegate.lock().await;
        if let Some(Current { delegate, users }) = current.as_mut()
            && !delegate.has_ended()
        {
            *users += 1;
            return Ok(delegate.clone());
        }
        let program = blocking(
            move || runtime.find(),
            |source| NativeError::Directory { path: PathBuf::from("PATH"), source },
        )
        .await?;
        let host = &self.shared.host;
        let launcher = Launcher {
            program,
            namespace: host.namespace.clone(),
            grpc_address: host.native.grpc_address.clone(),
            ttrpc_address: host.native.ttrpc_address.clone(),
            options,
            keeps_oom_score: host.native.is_shim,
        };
        let delegate = Delegate::start(launcher, id, self.tasks()).await?;
        self.tasks().spawn(follow_end(Arc::downgrade(&self.shared), delegate.clone()));
        *current = Some(Current { delegate: delegate.clone(), users: 1 });
        Ok(delegate)
    }

    /// Ends the delegate after its last container.
    async fn release(&self, delegate: &Arc<Delegate>) {
        let mut current = self.shared.delegate.lock().await;
        // Another one has taken the place of a delegate that was killed.
        let own = |current: &&mut Current| Arc::ptr_eq(&current.delegate, delegate);
        let Some(Current { users, .. }) = current.as_mut().filter(own) else { return };
        *users -= 1;
        if *users == 0 {
            *current = None;
            // Under the lock: a new delegate of the same name starts after the end of this one.
            delegate.shut_down().await;
        }
    }

    /// Forgets a native container that its delegate has deleted.
    pub(crate) async fn native_deleted(&self, container: &Arc<NativeContainer>) {
        container.deleted.cancel();
        remove_record(container.bundle.clone()).await;
        let removed = self.shared.change(|containers| containers.remove(&container.id));
        // Of several deletions one has removed it.
        if removed.is_some() {
            observe::deleted(&container.subject, None);
            let sandbox = self.clone();
            let delegate = container.delegate.clone();
            // Not awaited: containerd need not wait for the end of the delegate. The end of this
            // server does.
            self.tasks().spawn(async move { sandbox.release(&delegate).await });
        }
    }

    /// Deletes a container whose delegate was killed. Its leftovers are gone already.
    pub(crate) async fn delete_orphan(&self, container: &Arc<NativeContainer>) -> Option<Exit> {
        // After `follow_end` has removed what was left of it.
        let exit = container.wait().await?;
        let process = container.info(None);
        self.shared.host.publisher.publish(Event::Deleted { process, exit });
        self.native_deleted(container).await;
        Some(exit)
    }

    /// Ends a native container in any state and forgets it.
    pub(super) async fn end_native(
        &self,
        container: &Arc<NativeContainer>,
    ) -> Result<(u32, Exit), SandboxError> {
        let id = container.id.clone();
        match container.delegate.client.end(id.as_str()).await {
            Ok(ended) => {
                container.set_exit(ended.1, None);
                self.native_deleted(container).await;
                Ok(ended)
            }
            Err(_) if container.delegate.is_ending().await => {
                let exit = self.delete_orphan(container).await;
                let exit = exit.ok_or(SandboxError::NotFound { id })?;
                Ok((container.pid, exit))
            }
            Err(error) => Err(SandboxError::Native { id, reason: error.to_string() }),
        }
    }
}

/// Changes the `config.json` of a bundle.
async fn change_config(
    bundle: &Path,
    change: impl FnOnce(&Path) -> Result<(), ConfigError> + Send + 'static,
) -> Result<(), CreateError> {
    let place = bundle.to_owned();
    let work = move || Ok(change(&place)?);
    blocking(work, |source| CreateError::Bundle { path: bundle.to_owned(), source }).await
}

impl Shared {
    pub(super) fn natives(&self) -> Vec<Arc<NativeContainer>> {
        let containers = self.containers.lock();
        let native = |slot: &Slot| match slot {
            Slot::Native(container) => Some(container.clone()),
            Slot::Creating | Slot::Ready(_) => None,
        };
        containers.values().filter_map(native).collect()
    }
}

/// Waits for the exit of a container's init.
async fn follow_exit(container: Arc<NativeContainer>) {
    let delegate = &container.delegate;
    let exit = tokio::select! {
        exit = delegate.client.wait(container.id.as_str()) => exit,
        () = container.deleted.cancelled() => return,
        // Told by `follow_end`, or not any more.
        () = delegate.ended() => return,
        () = delegate.left() => return,
    };
    match exit {
        Ok(exit) => {
            // Before containerd deletes it, and its cgroup with it.
            container.look_for_oom().await;
            container.set_exit(exit, None);
        }
        // The container is being deleted, or its delegate is ending.
        Err(error) => tracing::debug!(%error, container = %container.id, "no exit"),
    }
}

/// Waits for a delegate that ends without being asked to, by SIGKILL for example. Kills its
/// containers, removes what is left of them and tells their exits.
async fn follow_end(shared: Weak<Shared>, delegate: Arc<Delegate>) {
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
        remove_orphan(&container).await;
        tell_exits(&shared, &container);
    }
    delegate.remove_traces().await;
    delegate.leave();
}

async fn remove_orphan(container: &NativeContainer) {
    let launcher = container.delegate.launcher.clone();
    let id = container.id.clone();
    let bundle = container.bundle.clone();
    let remove = move || launcher.delete(&id, &bundle, REMOVAL).map_err(|error| error.to_string());
    if let Err(error) = blocking(remove, |error| error.to_string()).await {
        tracing::error!(%error, container = %container.id, "a native container stays behind");
    }
}

fn tell_exits(shared: &Shared, container: &NativeContainer) {
    let killed = Exit::now(ExitStatus::KILLED);
    let cause = Some(Cause::Signal(Signal::KILL));
    let publish = |exec: Option<Id>| {
        let process = container.info(exec);
        let cause = "its native runtime has ended".into();
        shared.host.publisher.publish(Event::Exited { process, exit: killed, cause });
    };
    for exec in container.execs.lock().keys() {
        // Always an id: containerd has made the exec by it.
        let exec = Id::parse("exec id", exec).ok();
        if let Some(exec) = &exec {
            container.tell_exec_exit(exec, killed, cause);
        }
        publish(exec);
    }
    if container.exit().is_none() {
        publish(None);
        container.set_exit(killed, cause);
    }
}

async fn remove_record(bundle: PathBuf) {
    let work = move || {
        Record::remove(&bundle);
        Ok(())
    };
    // An error: this process is ending. `delete` then finds a record without a container.
    let _: Result<(), ()> = blocking(work, drop).await;
}
