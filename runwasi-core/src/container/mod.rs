//! One container: its bundle, its file systems and its processes (the init and the execs).

mod annotations;
pub mod error;
mod home;
mod hook_runs;
pub mod host;
pub(crate) mod left_exit;
mod pause;
pub mod pod_files;
pub(crate) mod prepare;
mod refused;
pub mod request;

use std::{
    path::PathBuf,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use self::{
    error::{CreateError, ExecError},
    host::Host,
    pod_files::PodFiles,
    prepare::{Files, NativeProgram, Outcome, PreparedInit, ProcessContext, prepare},
    request::{CreateRequest, ExecRequest},
};
use crate::{
    artifact::file,
    blocking::blocking,
    bundle::{
        hooks::{HookError, HooksConfig},
        process::ProcessConfig,
        resources::{Bandwidth, ResourcesConfig},
    },
    cgroups::{KernelLimits, oom_scores::OomScore},
    engine::{error::EngineError, notes::Notes},
    events::Event,
    id::Id,
    lock::Mutex,
    metrics::lives::{self, Phase},
    observe::{self, Kind, Subject},
    process::{
        Info, Process, driver,
        execs::Execs,
        state::{Request, State},
    },
    resources::usage::Usage,
    rootfs::{Rootfs, RootfsError},
    scheduler::group::{CpuLimits, Group},
};

/// Result of a creation.
pub(crate) enum Created {
    /// A container that the engine runs.
    Guest(Container),
    /// A container that the engine does not run. Nothing of it exists yet.
    Native(Box<NativeProgram>),
}

/// A container.
pub struct Container {
    /// Its bundle directory.
    pub bundle: PathBuf,
    /// Its init process.
    pub init: Process,
    execs: Arc<Execs>,
    context: ProcessContext,
    hooks: Option<Arc<HooksConfig>>,
    kernel_limits: Option<Arc<KernelLimits>>,
    /// Its part of the OOM score of this process.
    _oom_score: Option<OomScore>,
    /// CPU quota and period that further updates complete. Locked for one update of the scheduler,
    /// so that of two updates at once the second one reads what the first one has set.
    bandwidth: Mutex<Bandwidth>,
    // Weak, because only the processes hold the file systems: they are unmounted after the last
    // one.
    rootfs: Weak<Rootfs>,
    /// True once a client has asked about its end during a stop (`sandbox::stop`).
    asked_about: AtomicBool,
}

impl Container {
    /// Prepares the container and starts the driver of its init. The guest does not run yet.
    pub(crate) async fn create(
        host: &Host,
        request: CreateRequest,
        pod_files: Option<Arc<PodFiles>>,
        on_deleted: Box<dyn FnOnce() + Send>,
    ) -> Result<Created, CreateError> {
        let begun = Instant::now();
        let roots = (host.bundle_roots.clone(), host.engine.replaces_sync());
        let span = request.trace.part("prepare");
        let prepared = match prepare(&request, host.network.pid(), roots, pod_files).await? {
            Outcome::Guest(prepared) => *prepared,
            Outcome::Native(program) => return Ok(Created::Native(program)),
        };
        lives::took_since(Phase::Prepare, begun);
        drop(span);
        // Before `Engine::prepare`, which may depend on them.
        if !prepared.settings.entries.is_empty() {
            host.engine.configure(&prepared.settings).await?;
        }
        let init = PreparedInit::new(host, &request, prepared).await?;
        // After everything that can fail: a refused container gets no hooks.
        if let Some(hooks) = init.hooks.clone() {
            let state = init.context.state(&init.process.info, &request.bundle);
            let bundle = request.bundle.clone();
            let limits = init.kernel_limits.clone();
            // No await between this one and the container.
            hook_runs::begin(hooks, state, bundle, limits).await?.keep();
        }
        let container = Self::start_driver(host, request, (init, begun), on_deleted);
        Ok(Created::Guest(container))
    }

    /// Publishes the creation and starts the driver of the init.
    fn start_driver(
        host: &Host,
        request: CreateRequest,
        (init, begun): (PreparedInit, Instant),
        on_deleted: Box<dyn FnOnce() + Send>,
    ) -> Self {
        let PreparedInit {
            process,
            context,
            hooks,
            kernel_limits,
            oom_score,
            limits,
            rootfs,
            kind,
            files,
            unmounted,
        } = init;
        // Before the driver starts, which publishes the later events of the process.
        host.publisher.publish(Event::Created {
            process: process.info.clone(),
            bundle: request.bundle.display().to_string(),
            rootfs: request.mounts,
        });
        observe::created(&context.subject, None, kind, begun.elapsed());
        let group = Group::new(host.guests.clone(), &limits, process.credentials.clone())
            .of(context.subject.clone())
            .charged_to(context.memory.clone())
            .with_files(files);
        let execs = Arc::<Execs>::default();
        let parts = driver::Parts {
            unmounted,
            execs: Some(execs.clone()),
            trace: request.trace,
            ..process.into_parts(&context, host, group, on_deleted)
        };
        let init = driver::spawn(parts, &host.tasks);
        let bundle = request.bundle;
        let bandwidth = Mutex::new(limits.bandwidth);
        let asked_about = AtomicBool::new(false);
        Self {
            bundle,
            init,
            execs,
            context,
            hooks,
            kernel_limits,
            _oom_score: oom_score,
            bandwidth,
            rootfs,
            asked_about,
        }
    }

    /// Its id.
    pub(crate) fn id(&self) -> &Id {
        &self.init.info().container
    }

    /// True if programs are run at points of its life.
    pub(crate) fn has_hooks(&self) -> bool {
        self.hooks.is_some()
    }

    /// Notes that a client asks about its end.
    // Relaxed: the flag guards no other data.
    pub(crate) fn note_question(&self) {
        self.asked_about.store(true, Ordering::Relaxed);
    }

    /// True once a client has asked about its end.
    pub(crate) fn is_asked_about(&self) -> bool {
        self.asked_about.load(Ordering::Relaxed)
    }

    /// The container in the log.
    pub(crate) fn subject(&self) -> &Subject {
        &self.context.subject
    }

    /// Runs the `poststart` hooks.
    pub(crate) async fn started(&self) -> Result<(), HookError> {
        let Some(hooks) = self.hooks.clone() else { return Ok(()) };
        let state = self.context.state(self.init.info(), &self.bundle);
        hook_runs::started(hooks, state).await
    }

    /// Removes the container's cgroup and runs its `poststop` hooks, after the deletion of the
    /// init. The hooks have `patience` together.
    pub(crate) async fn deleted(&self, patience: Option<Duration>) {
        release(self.kernel_limits.clone()).await;
        if self.hooks.is_some() {
            hook_runs::ended(self.bundle.clone(), patience).await;
        }
    }

    /// Prepares a further process. Its guest does not run yet; one that is refused fails at its
    /// start. Dropping the future undoes the preparation.
    pub(crate) async fn exec(&self, host: &Host, request: ExecRequest) -> Result<(), ExecError> {
        // Reserves the id, so that a concurrent request with the same id fails at once.
        let begun = Instant::now();
        let place = self.execs.reserve(&request.id)?;
        self.init.request(Request::Exec).await.map_err(ExecError::Init)?;
        let config = ProcessConfig::parse(&request.spec, self.context.root_lacks)?;
        let span = request.trace.part("prepare");
        let (config, found) = self.find(config).await?;
        drop(span);
        let init = self.init.info();
        let info = Info {
            container: init.container.clone(),
            exec: Some(request.id.clone()),
            pid: init.pid,
            stdio: request.stdio,
        };
        let found = (found, &request.trace);
        let process = self.context.exec(host, info, config, found).await?;
        // Weak, because the process in the table would hold its own table.
        let execs = Arc::downgrade(&self.execs);
        let id = request.id;
        let on_deleted = move || {
            if let Some(execs) = execs.upgrade() {
                execs.forget(&id);
            }
        };
        let info = process.info.clone();
        let group =
            self.init.group().sibling(process.credentials.clone()).with_slow(process.slow());
        let parts = driver::Parts {
            trace: request.trace,
            ..process.into_parts(&self.context, host, group, Box::new(on_deleted))
        };
        // Under the lock of the table: the init either has ended before, which is an error here, or
        // it ends this process, too.
        place.fill(|| {
            let exec = info.exec.clone();
            host.publisher.publish(Event::ExecAdded { process: info });
            let subject = &self.context.subject;
            observe::created(subject, exec.as_ref(), Kind::Wasm, begun.elapsed());
            driver::spawn(parts, &host.tasks)
        })?;
        Ok(())
    }

    /// Changes the limits that are set in `limits`.
    pub(crate) async fn update(&self, mut limits: ResourcesConfig) {
        // Before the change here: the last of several is the last for the kernel, too.
        let turn = match &self.kernel_limits {
            Some(kernel_limits) => Some(kernel_limits.turn().await),
            None => None,
        };
        // The scheduler applies the limits at once; the kernel only backs them.
        self.limit_cpu(&mut limits);
        if let Some(limit) = limits.memory {
            self.context.memory.set_limit(limit.get());
        }
        if let Some(kernel_limits) = self.kernel_limits.clone() {
            // After the change of the limit: from now on the use does not grow beyond it.
            let limits = limits.with_used(self.context.memory.usage().used);
            let work = move || {
                kernel_limits.limit(&limits);
                drop(turn);
                Ok(())
            };
            // An error means that this process is ending, and all guests with it.
            let _: Result<(), ()> = blocking(work, drop).await;
        }
    }

    /// Has the scheduler apply an update, which gets the parts of the quota that stay.
    fn limit_cpu(&self, limits: &mut ResourcesConfig) {
        let mut bandwidth = self.bandwidth.lock();
        limits.change(&mut bandwidth);
        self.init.group().limit(limits);
    }

    /// Resource usage, also after the container's end.
    pub(crate) fn usage(&self) -> Usage {
        let running = self.processes().filter(Process::is_running).count();
        Usage {
            cpu: self.init.group().cpu(),
            memory: self.context.memory.usage(),
            processes: running as u64,
        }
    }

    /// The CPU limits in force.
    pub(crate) fn cpu_limits(&self) -> CpuLimits {
        self.init.group().limits()
    }

    /// The engine's notes about the container, if it has made any.
    pub(crate) fn notes(&self) -> Option<Arc<Notes>> {
        self.context.extensions.get()
    }

    /// The init and the execs that have not been deleted. The init comes first.
    pub(crate) fn processes(&self) -> impl Iterator<Item = Process> + use<> {
        [self.init.clone()].into_iter().chain(self.execs.all())
    }

    /// State of a process. All processes of a paused container are paused, as with runc.
    pub(crate) fn state_of(&self, process: &Process) -> State {
        match self.init.status().state {
            State::Paused => State::Paused,
            _ => process.status().state,
        }
    }

    /// The processes besides the init.
    pub(crate) fn execs(&self) -> &Execs {
        &self.execs
    }

    /// Checks the working directory of a further process, completes its environment and locates its
    /// program. The inner error is for the start.
    async fn find(
        &self,
        mut config: ProcessConfig,
    ) -> Result<(ProcessConfig, Result<Files, RootfsError>), ExecError> {
        // A reference that never had a target: the pause container of a pod.
        if self.rootfs.ptr_eq(&Weak::new()) {
            return Err(ExecError::NoPrograms);
        }
        let rootfs = self.rootfs.upgrade().ok_or(ExecError::Ended)?;
        // System calls on file systems may block for long, so not on a worker of the runtime.
        let work = move || {
            if let Err(error) = rootfs.check_cwd(&config.cwd) {
                return Ok((config, Err(error)));
            }
            home::set(&mut config, &rootfs);
            let program = file::locate(&config.args, &config.cwd, config.env("PATH"), &rootfs);
            Ok((config, Ok(Files { rootfs, program })))
        };
        blocking(work, |error| EngineError::Failed(error.to_string()).into()).await
    }
}

/// Leaves and removes the cgroup of a container on the blocking pool.
async fn release(kernel_limits: Option<Arc<KernelLimits>>) {
    if let Some(kernel_limits) = kernel_limits {
        let work = move || {
            kernel_limits.release();
            Ok(())
        };
        // An error means that this process is ending. Then `bootstrap::delete` does the same work.
        let _: Result<(), ()> = blocking(work, drop).await;
    }
}
