//! One container: its bundle, its file systems and its processes, the init and the execs.

pub mod error;
pub mod host;
mod pause;
pub(crate) mod prepare;
pub mod request;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Weak},
};

use tokio::task::spawn_blocking;

use self::{
    error::{CreateError, ExecError},
    host::Host,
    pause::Pause,
    prepare::{Files, Prepared, ProcessContext, prepare},
    request::{CreateRequest, ExecRequest},
};
use crate::{
    artifact::file,
    bundle::{
        hooks::{self, ContainerState, HookError, HooksConfig},
        process::ProcessConfig,
        resources::{Limit, ResourcesConfig},
    },
    cgroups::KernelLimits,
    engine::{error::EngineError, extensions::Extensions, instance::Instance},
    events::Event,
    process::{Info, Process, driver, execs::Execs, state::Request},
    resources::{memory::Memory, usage::Usage},
    rootfs::{Gone, Rootfs},
    scheduler::group::Group,
};

/// A container.
pub struct Container {
    /// Its bundle directory.
    pub bundle: PathBuf,
    /// Its init process.
    pub init: Process,
    execs: Arc<Execs>,
    annotations: Arc<HashMap<String, String>>,
    memory: Arc<Memory>,
    extensions: Arc<Extensions>,
    hooks: Option<Arc<HooksConfig>>,
    kernel_limits: Option<Arc<KernelLimits>>,
    /// Held by the processes: the file systems go with the last of them.
    rootfs: Weak<Rootfs>,
}

impl Container {
    /// Prepares everything and starts the init's driver. Nothing of the guest runs yet.
    pub(crate) async fn create(
        host: &Host,
        request: CreateRequest,
        on_deleted: Box<dyn FnOnce() + Send>,
    ) -> Result<Self, CreateError> {
        let pid = host.network.pid();
        let Prepared { config, settings, files } =
            prepare(&request, pid, host.bundle_roots.clone()).await?;
        if !settings.entries.is_empty() {
            host.engine.configure(&settings).await?;
        }
        let limits = config.resources;
        let memory =
            Arc::new(Memory::new(limits.memory.and_then(Limit::get), config.refuse_memory));
        let extensions = Arc::<Extensions>::default();
        let stdio = host.stdio(&request.id, &request.stdio, &config.process).await?;
        let unmounted = files.as_ref().map_or_else(Gone::already, |files| files.rootfs.gone());
        let rootfs = files.as_ref().map_or_else(Weak::new, |files| Arc::downgrade(&files.rootfs));
        let annotations = config.annotations;
        let credentials = config.process.credentials.clone();
        let info = Arc::new(Info { container: request.id, exec: None, pid, stdio: request.stdio });
        let instance: Arc<dyn Instance> = match files {
            None => Arc::new(Pause),
            Some(files) => {
                let of = ProcessContext {
                    annotations: &annotations,
                    memory: &memory,
                    extensions: &extensions,
                    host,
                };
                let spec = of.spec(&info, config.process, files, &stdio);
                host.engine.prepare(spec).await?
            }
        };
        let single = config.pod.is_none();
        let kernel_limits =
            host.mirror_limits(config.cgroup, &request.bundle, limits.clone(), single);
        let hooks = (!config.hooks.is_empty()).then(|| Arc::new(config.hooks));
        if let Some(hooks) = hooks.clone() {
            let state =
                ContainerState::new(info.container.as_str(), pid, &request.bundle, &annotations);
            run_hooks(move || hooks.create(state)).await?;
        }
        let created = Event::Created {
            process: info.clone(),
            bundle: request.bundle.display().to_string(),
            rootfs: request.mounts,
        };
        host.publisher.publish(created);
        let execs = Arc::<Execs>::default();
        let parts = driver::Parts {
            info,
            instance,
            stdio,
            unmounted,
            group: Group::new(host.guests.clone(), &limits, credentials),
            execs: Some(execs.clone()),
            memory: memory.clone(),
            publisher: host.publisher.clone(),
            on_deleted,
        };
        let init = driver::spawn(parts, &host.tasks);
        Ok(Self {
            bundle: request.bundle,
            init,
            execs,
            annotations,
            memory,
            extensions,
            hooks,
            kernel_limits,
            rootfs,
        })
    }

    /// Runs the hooks that follow the init's start.
    pub(crate) async fn started(&self) -> Result<(), HookError> {
        let Some(hooks) = self.hooks.clone() else { return Ok(()) };
        let init = self.init.info();
        let state =
            ContainerState::new(init.container.as_str(), init.pid, &self.bundle, &self.annotations);
        run_hooks(move || hooks.started(state)).await
    }

    /// What follows the init's deletion: its cgroup goes, its hooks run.
    pub(crate) async fn deleted(&self) {
        if self.hooks.is_none() && self.kernel_limits.is_none() {
            return;
        }
        let (bundle, kernel_limits) = (self.bundle.clone(), self.kernel_limits.clone());
        let blocking = move || {
            if let Some(kernel_limits) = kernel_limits {
                kernel_limits.end();
            }
            hooks::stopped(&bundle, None);
        };
        // An error: the process is ending. Whoever deletes the bundle does it then.
        let _ = spawn_blocking(blocking).await;
    }

    /// Prepares a further process. Nothing of its guest runs yet. Dropping the future undoes what was done.
    pub(crate) async fn exec(&self, host: &Host, request: ExecRequest) -> Result<(), ExecError> {
        let place = self.execs.reserve(&request.id)?;
        self.init.request(Request::Exec).await.map_err(ExecError::Init)?;
        let config = ProcessConfig::parse(&request.spec)?;
        let (config, files) = self.find(config).await?;
        let init = self.init.info();
        let stdio = host.stdio(&init.container, &request.stdio, &config).await?;
        let (container, exec, pid) = (init.container.clone(), Some(request.id.clone()), init.pid);
        let info = Arc::new(Info { container, exec, pid, stdio: request.stdio });
        let credentials = config.credentials.clone();
        let of = ProcessContext {
            annotations: &self.annotations,
            memory: &self.memory,
            extensions: &self.extensions,
            host,
        };
        let spec = of.spec(&info, config, files, &stdio);
        let instance = host.engine.prepare(spec).await?;
        let (execs, id) = (Arc::downgrade(&self.execs), request.id);
        let on_deleted = move || {
            if let Some(execs) = execs.upgrade() {
                execs.forget(&id);
            }
        };
        let parts = driver::Parts {
            info: info.clone(),
            instance,
            stdio,
            unmounted: Gone::already(),
            group: self.init.group().sibling(credentials),
            execs: None,
            memory: self.memory.clone(),
            publisher: host.publisher.clone(),
            on_deleted: Box::new(on_deleted),
        };
        place.fill(|| {
            host.publisher.publish(Event::ExecAdded { process: info });
            driver::spawn(parts, &host.tasks)
        })?;
        Ok(())
    }

    /// Changes its limits, as far as `limits` speak of them.
    pub(crate) async fn update(&self, limits: ResourcesConfig) {
        self.init.group().limit(&limits);
        if let Some(limit) = limits.memory {
            self.memory.set_limit(limit.get());
        }
        if let Some(kernel_limits) = self.kernel_limits.clone() {
            // An error: the process is ending.
            let _ = spawn_blocking(move || kernel_limits.limit(&limits)).await;
        }
    }

    /// What it has used; also after its end.
    pub(crate) fn usage(&self) -> Usage {
        let running = self.processes().filter(Process::is_running).count();
        Usage {
            cpu: self.init.group().cpu(),
            memory: self.memory.usage(),
            processes: running as u64,
        }
    }

    /// Its processes that have not been deleted, the init first.
    pub(crate) fn processes(&self) -> impl Iterator<Item = Process> + use<> {
        [self.init.clone()].into_iter().chain(self.execs.all())
    }

    /// Its processes besides the init.
    pub(crate) fn execs(&self) -> &Execs {
        &self.execs
    }

    /// Looks for the program of a further process.
    async fn find(&self, config: ProcessConfig) -> Result<(ProcessConfig, Files), ExecError> {
        if self.rootfs.ptr_eq(&Weak::new()) {
            return Err(ExecError::NoPrograms);
        }
        let rootfs = self.rootfs.upgrade().ok_or(ExecError::Ended)?;
        let blocking = move || {
            rootfs.check_cwd(&config.cwd)?;
            let program = file::locate(&config.args, &config.cwd, config.env("PATH"), &rootfs);
            Ok((config, Files { rootfs, program }))
        };
        let lost = |error: tokio::task::JoinError| EngineError::Failed(error.to_string());
        spawn_blocking(blocking).await.map_err(lost)?
    }
}

/// Off the runtime's workers. Should the caller go away, they run to their end.
async fn run_hooks(
    run: impl FnOnce() -> Result<(), HookError> + Send + 'static,
) -> Result<(), HookError> {
    match spawn_blocking(run).await {
        Ok(result) => result,
        // Answered by the call that runs them (`panics`).
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is going, and this future with it.
        Err(_) => std::future::pending().await,
    }
}
