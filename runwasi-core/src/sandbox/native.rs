//! Creation of native containers in a sandbox, and the delegate that runs them. Their ends are in
//! `native_end`.
//!
//! ```text
//! first container ─▶ delegate starts ─▶ further containers join ─▶ last is deleted ─▶ it ends
//!                                         │ it is killed
//!                                         ▼
//!                    its containers are killed, their exits published, and they wait for Delete
//! ```

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use containerd_shim_protos::ttrpc::{self, Code};
use tokio::time::timeout;

use super::{
    Reservation, Sandbox, Shared, Slot,
    error::SandboxError,
    native_container::{Current, NativeContainer},
    native_end::{REMOVAL, end_orphan, follow_end, follow_exit, remove_left, remove_record},
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
    containerd::shim_client::has_code,
    id::Id,
    native::{
        NativeHost,
        delegate::{self, Delegate},
        error::NativeError,
        launcher::Launcher,
        record::Record,
        setting::NativeRuntime,
    },
    observe::{self, Kind, Step, Subject},
    settings::Entry,
    stdio::paths::StdioPaths,
    traces::{Span, start::StartTrace},
};

/// A native container that is to be created. Its id is reserved, and nothing of it exists.
pub(crate) struct NativePlan {
    pub(super) sandbox: Sandbox,
    pub(super) id: Id,
    pub(super) reservation: Reservation,
    pub(super) trace: StartTrace,
    pub(super) bundle: PathBuf,
    pub(super) program: Box<NativeProgram>,
    /// Options of runc's type for the start of its delegate, as a protobuf `Any`.
    pub(super) options: Vec<u8>,
}

impl NativePlan {
    /// The place of the container with the delegate that is to create it. Not to be dropped before
    /// its end: the delegate would be left.
    pub(crate) async fn place(self) -> Result<NativePlace, SandboxError> {
        let sandbox = self.sandbox.clone();
        let id = self.id.clone();
        let trace = self.trace.clone();
        let bundle = self.bundle.clone();
        let source = match self.acquire().await {
            Ok(place) => return Ok(place),
            Err(source) => source,
        };
        let error = SandboxError::Create { id: id.clone(), source };
        trace.failed(&error);
        sandbox.tell_refused(&id, bundle, &error).await;
        Err(error)
    }

    async fn acquire(self) -> Result<NativePlace, CreateError> {
        let begun = Instant::now();
        let Self { sandbox, id, reservation, trace, bundle, program, options } = self;
        let NativeProgram { path, runtime, systemd_cgroup, pid_namespace, annotations } = *program;
        let runtime = sandbox.native_runtime(runtime)?;
        let pids = match pid_namespace {
            Some(wanted) => sandbox.join_pid_namespace(&bundle, &wanted).await?,
            None => None,
        };
        let host = &sandbox.shared.host;
        let subject = Subject::new((&host.namespace, &host.sandbox), &id, &annotations);
        trace.describe(&subject);
        let subject = Arc::new(subject);
        // Short if there is a delegate: the first container of a sandbox waits for its start.
        let span = trace.part("delegate");
        let acquired = sandbox.acquire((&id, &bundle), runtime, options).await;
        let delegate = acquired.map_err(|source| CreateError::Native { path, source })?;
        drop(span);
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
        match place.prepare_bundle().await {
            Ok(()) => Ok(place),
            Err(error) => {
                place.leave(true).await;
                Err(error)
            }
        }
    }
}

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
        if container.delegate.has_ended() {
            // `follow_end` may have looked for its containers before.
            end_orphan(&sandbox.shared, &container).await;
        }
        sandbox.tasks().spawn(follow_exit(container));
    }

    /// Checks that the sandbox still takes the container: a stop does not know it yet.
    pub(crate) fn check_ready(&self) -> Result<(), SandboxError> {
        self.sandbox.is_ready_for(&self.subject.container)
    }

    /// Begins a part of the start.
    pub(crate) fn part(&self, name: &'static str) -> Span {
        self.trace.part(name)
    }

    /// Gives the container the files of its pod, and leaves the record of its delegate.
    async fn prepare_bundle(&self) -> Result<(), CreateError> {
        if let Some(files) = self.sandbox.pod_files() {
            let memory = match files.memory() {
                Some(_) => Some(self.attach(files.clone()).await?),
                None => None,
            };
            let mounts = files.for_native(memory);
            change_config(&self.bundle, move |bundle| add_mounts(bundle, &mounts)).await?;
        }
        // Before the container exists: `delete` finds its delegate at any time.
        let written = write_record(self.delegate.record(), self.bundle.clone()).await;
        written.map_err(|source| CreateError::Bundle { path: self.bundle.clone(), source })
    }

    /// Attaches the shared memory of the pod for its native containers.
    async fn attach(&self, files: Arc<PodFiles>) -> Result<PathBuf, CreateError> {
        let attached = self.delegate.attach(move |place| files.attach_memory(place)).await;
        attached.map_err(|source| CreateError::Bundle { path: self.bundle.clone(), source })
    }

    /// Gives the place up: the delegate has not created the container, or it is not wanted any
    /// more.
    pub(crate) async fn give_up(self, reason: &ttrpc::Error) {
        observe::refused(&self.subject, None, Step::Create, reason);
        self.trace.failed(reason);
        // Another container of this id stays.
        let removed = has_code(reason, Code::ALREADY_EXISTS) || self.undo().await;
        self.leave(removed).await;
    }

    /// Removes what the creation has left. True if nothing is left.
    async fn undo(&self) -> bool {
        let Self { subject, delegate, bundle, .. } = self;
        let id = &subject.container;
        // The delegate has the container if it has created it too late.
        let ended = timeout(REMOVAL, delegate.client.end(id.as_str())).await;
        matches!(ended, Ok(Ok(_)))
            || remove_left(delegate.launcher.clone(), id.clone(), bundle.clone()).await
    }

    /// Forgets the container. Without the record `delete` would not find what is left of it.
    async fn leave(self, removed: bool) {
        let Self { sandbox, reservation, delegate, bundle, .. } = self;
        if removed {
            remove_record(bundle).await;
        }
        drop(reservation);
        sandbox.release(&delegate).await;
    }
}

impl Sandbox {
    pub(crate) fn natives(&self) -> Vec<Arc<NativeContainer>> {
        self.shared.natives()
    }

    /// Notes that a client asks about the end of a native container (`sandbox::stop`).
    pub(crate) fn note_native_question(&self, container: &NativeContainer) {
        if self.tasks().is_stopped() {
            container.note_question();
        }
    }

    /// Gives a container that joins the PID namespace of the sandbox's process the one that is
    /// shared.
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
        if let Some(cgroups) = &self.shared.host.cgroups {
            let first = Arc::downgrade(shared.first());
            let living = move || first.upgrade().filter(|first| !first.has_ended());
            cgroups.set_first(move || Some(living()?.pid()));
        }
        let path = shared.path();
        change_config(bundle, move |bundle| join_pid_namespace(bundle, &path)).await?;
        Ok(Some(shared))
    }

    /// The setting in force for a container.
    fn native_runtime(
        &self,
        option: Option<(NativeRuntime, Entry)>,
    ) -> Result<NativeRuntime, CreateError> {
        let NativeHost { runtime, fixed, .. } = &self.shared.host.native;
        match option {
            None => Ok(runtime.clone()),
            Some((option, entry)) if *fixed && option != *runtime => {
                Err(CreateError::Options(runtime.decides_over(&entry)))
            }
            Some((option, _)) => Ok(option),
        }
    }

    /// The delegate for a further container. Starts it for the first one.
    async fn acquire(
        &self,
        (id, bundle): (&Id, &Path),
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
        let delegate = self.start_delegate(launcher, id, bundle).await?;
        self.tasks().spawn(follow_end(Arc::downgrade(&self.shared), delegate.clone()));
        *current = Some(Current { delegate: delegate.clone(), users: 1 });
        Ok(delegate)
    }

    async fn start_delegate(
        &self,
        launcher: Launcher,
        id: &Id,
        bundle: &Path,
    ) -> Result<Arc<Delegate>, NativeError> {
        // Before the start: `delete` finds the delegate also if this process is killed during it.
        let written = write_record(delegate::planned(&launcher, id), bundle.to_owned()).await;
        written.map_err(|source| NativeError::Directory { path: Record::path(bundle), source })?;
        let started = Delegate::start(launcher, id, self.tasks()).await;
        if started.is_err() {
            remove_record(bundle.to_owned()).await;
        }
        started
    }

    /// Detaches the shared memory of the pod from its native containers, which have ended.
    pub(super) async fn detach_memory(&self) {
        if let Some(Current { delegate, .. }) = &*self.shared.delegate.lock().await {
            delegate.detach().await;
        }
    }

    /// Ends the delegate after its last container.
    pub(super) async fn release(&self, delegate: &Arc<Delegate>) {
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

async fn write_record(record: Record, bundle: PathBuf) -> io::Result<()> {
    blocking(move || record.write(&bundle), |lost| lost).await
}

impl Shared {
    pub(super) fn natives(&self) -> Vec<Arc<NativeContainer>> {
        self.containers.lock().values().filter_map(Slot::native).collect()
    }
}
