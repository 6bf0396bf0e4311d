//! One container: its bundle, its file systems and its processes, the init and the execs.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use async_trait::async_trait;
use tokio::task::spawn_blocking;

use crate::{
    artifact::{self, ArtifactError, Program, oci::Images},
    bundle::{
        allowed_roots::{self, BundleError},
        cgroups_path::CgroupsPath,
        config::{Config, ConfigError, ContainerKind},
        hooks::{self, ContainerState, HookError, HooksConfig},
        process::{ProcessConfig, ProcessConfigError},
        resources::{Limit, ResourcesConfig},
    },
    cgroups::{Backing, Cgroups},
    engine::{
        Engine, EngineError,
        exit::ExitStatus,
        extensions::Kept,
        instance::{GuestContext, Instance, InstanceSpec},
    },
    events::{Event, Publisher},
    id::Id,
    network::Network,
    options::{OptionsError, RuntimeOptions},
    process::{Info, Process, ProcessError, StdioPaths, driver, state::Request},
    resources::memory::Memory,
    rootfs::{Gone, MountConfig, Rootfs, RootfsError},
    runtime::Guests,
    scheduler::group::Group,
    service::metrics::Usage,
    settings::Written,
    shutdown::Tasks,
    stdio::{Owner, Stdio, StdioError},
};

pub(crate) use crate::process::execs::Execs;

/// What containerd's `Create` says.
#[derive(Clone, Debug)]
pub struct CreateRequest {
    /// The container's id.
    pub id: Id,
    /// The bundle directory.
    pub bundle: PathBuf,
    /// What to mount as root file system; empty if the bundle's root is ready to use.
    pub mounts: Vec<MountConfig>,
    /// The init's streams.
    pub stdio: StdioPaths,
    /// Settings for the engine.
    pub options: RuntimeOptions,
}

/// What containerd's `Exec` says.
#[derive(Clone, Debug)]
pub struct ExecRequest {
    /// The process's id, unlike any other of its container.
    pub id: Id,
    /// Its specification, JSON.
    pub spec: Vec<u8>,
    /// Its streams.
    pub stdio: StdioPaths,
}

/// A container.
pub struct Container {
    /// Its bundle directory.
    pub bundle: PathBuf,
    /// Its init process.
    pub init: Process,
    execs: Arc<Execs>,
    annotations: Arc<HashMap<String, String>>,
    memory: Arc<Memory>,
    kept: Arc<Kept>,
    hooks: Option<Arc<HooksConfig>>,
    backing: Option<Arc<Backing>>,
    /// Held by the processes: the file systems go with the last of them.
    rootfs: Weak<Rootfs>,
}

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

/// Why a container could not be created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// `config.json` is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A mount failed, or the working directory is missing.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// A stream could not be opened.
    #[error(transparent)]
    Stdio(#[from] StdioError),
    /// The engine refuses.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A hook refuses.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The bundle does not lie where bundles may.
    #[error(transparent)]
    Place(#[from] BundleError),
    /// The runtime options cannot be read.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// A file of the bundle could not be written.
    #[error("{}: {source}", path.display())]
    Bundle {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Why a process could not be added to a container.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The container has a process of that id, or it is being made.
    #[error("already exists")]
    AlreadyExists,
    /// The container's init is in no state for it.
    #[error(transparent)]
    Init(ProcessError),
    /// The init has ended meanwhile.
    #[error("the container has ended")]
    Ended,
    /// The pause container of a pod has no file systems.
    #[error("a container of type sandbox runs no programs")]
    NoPrograms,
    /// Its specification is wrong.
    #[error(transparent)]
    Config(#[from] ProcessConfigError),
    /// The working directory is missing.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// A stream could not be opened.
    #[error(transparent)]
    Stdio(#[from] StdioError),
    /// The engine refuses.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Host {
    /// Opens the streams of a process.
    async fn stdio(&self, container: &Id, paths: &StdioPaths, process: &ProcessConfig) -> Result<Stdio, StdioError> {
        let stdio = Stdio::open(paths, Owner { container, namespace: &self.namespace, tasks: &self.tasks }).await?;
        if let (Some(terminal), Some(size)) = (stdio.terminal().upgrade(), process.console_size) {
            terminal.resize(size).map_err(StdioError::Terminal)?;
        }
        Ok(stdio)
    }

    /// Has the kernel back a container's limits, if this process is the sandbox's own. Nobody waits until it does.
    fn back(
        &self,
        path: Option<CgroupsPath>,
        bundle: &Path,
        limits: ResourcesConfig,
        lone: bool,
    ) -> Option<Arc<Backing>> {
        let (cgroups, path) = self.cgroups.clone().zip(path)?;
        let backing = Arc::new(Backing::new(cgroups, path, bundle, lone));
        if backing.is_needed(&limits) {
            let backed = backing.clone();
            // Its end waits for what is begun here.
            drop(spawn_blocking(move || backed.limit(&limits)));
        }
        Some(backing)
    }
}

impl Container {
    /// Prepares everything and starts the init's driver. Nothing of the guest runs yet.
    pub(crate) async fn create(
        host: &Host,
        request: CreateRequest,
        on_deleted: Box<dyn FnOnce() + Send>,
    ) -> Result<Self, CreateError> {
        let pid = host.network.pid();
        let Prepared { config, settings, files } = prepare(&request, pid, host.bundle_roots.clone()).await?;
        if !settings.is_empty() {
            host.engine.configure(&settings).await?;
        }
        let limits = config.resources;
        let memory = Arc::new(Memory::new(limits.memory.and_then(Limit::get), config.refuse_memory));
        let kept = Arc::<Kept>::default();
        let stdio = host.stdio(&request.id, &request.stdio, &config.process).await?;
        let unmounted = files.as_ref().map_or_else(Gone::already, |files| files.rootfs.gone());
        let rootfs = files.as_ref().map_or_else(Weak::new, |files| Arc::downgrade(&files.rootfs));
        let annotations = config.annotations;
        let identity = config.process.identity.clone();
        let info = Arc::new(Info { container: request.id, exec: None, pid, stdio: request.stdio });
        let instance: Arc<dyn Instance> = match files {
            None => Arc::new(Pause),
            Some(files) => {
                let of = Of { annotations: &annotations, memory: &memory, kept: &kept, host };
                let spec = of.spec(&info, config.process, files, &stdio);
                host.engine.instance(spec).await?
            }
        };
        let lone = config.pod.is_none();
        let backing = host.back(config.cgroup, &request.bundle, limits.clone(), lone);
        let hooks = (!config.hooks.is_empty()).then(|| Arc::new(config.hooks));
        if let Some(hooks) = hooks.clone() {
            let state = ContainerState::new(info.container.as_str(), pid, &request.bundle, &annotations);
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
            group: Group::new(host.guests.clone(), &limits, identity),
            execs: Some(execs.clone()),
            memory: memory.clone(),
            publisher: host.publisher.clone(),
            on_deleted,
        };
        let init = driver::spawn(parts, &host.tasks);
        Ok(Self { bundle: request.bundle, init, execs, annotations, memory, kept, hooks, backing, rootfs })
    }

    /// Runs the hooks that follow the init's start.
    pub(crate) async fn started(&self) -> Result<(), HookError> {
        let Some(hooks) = self.hooks.clone() else { return Ok(()) };
        let init = self.init.info();
        let state = ContainerState::new(init.container.as_str(), init.pid, &self.bundle, &self.annotations);
        run_hooks(move || hooks.started(state)).await
    }

    /// What follows the init's deletion: its cgroup goes, its hooks run.
    pub(crate) async fn deleted(&self) {
        if self.hooks.is_none() && self.backing.is_none() {
            return;
        }
        let (bundle, backing) = (self.bundle.clone(), self.backing.clone());
        let blocking = move || {
            if let Some(backing) = backing {
                backing.end();
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
        let identity = config.identity.clone();
        let of = Of { annotations: &self.annotations, memory: &self.memory, kept: &self.kept, host };
        let spec = of.spec(&info, config, files, &stdio);
        let instance = host.engine.instance(spec).await?;
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
            group: self.init.group().sibling(identity),
            execs: None,
            memory: self.memory.clone(),
            publisher: host.publisher.clone(),
            on_deleted: Box::new(on_deleted),
        };
        place.fill(|| {
            host.publisher.publish(Event::ExecAdded { process: info });
            driver::spawn(parts, &host.tasks)
        })
    }

    /// Changes its limits, as far as `limits` speak of them.
    pub(crate) async fn update(&self, limits: ResourcesConfig) {
        self.init.group().limit(&limits);
        if let Some(limit) = limits.memory {
            self.memory.set_limit(limit.get());
        }
        if let Some(backing) = self.backing.clone() {
            // An error: the process is ending.
            let _ = spawn_blocking(move || backing.limit(&limits)).await;
        }
    }

    /// What it has used; also after its end.
    pub(crate) fn usage(&self) -> Usage {
        let running = self.processes().filter(Process::is_running).count();
        Usage { cpu: self.init.group().cpu(), memory: self.memory.usage(), processes: running as u64 }
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
            let program = artifact::locate(&config.args, &config.cwd, config.env("PATH"), &rootfs);
            Ok((config, Files { rootfs, program }))
        };
        let lost = |error: tokio::task::JoinError| EngineError::Failed(error.to_string());
        spawn_blocking(blocking).await.map_err(lost)?
    }
}

/// Off the runtime's workers. Should the caller go away, they run to their end.
async fn run_hooks(run: impl FnOnce() -> Result<(), HookError> + Send + 'static) -> Result<(), HookError> {
    match spawn_blocking(run).await {
        Ok(result) => result,
        // Answered by the call that runs them (`panics`).
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is going, and this future with it.
        Err(_) => std::future::pending().await,
    }
}

/// In the bundle: the pid that was reported, for `delete` after the server's death.
pub(crate) const PID_FILE: &str = "init.pid";

/// What is done before anything else, on the blocking pool.
struct Prepared {
    config: Config,
    /// What the runtime options say.
    settings: Written,
    /// A container of type `sandbox` gets none.
    files: Option<Files>,
}

struct Files {
    rootfs: Arc<Rootfs>,
    /// The file to run, if there is one.
    program: Result<Program, ArtifactError>,
}

/// The part that blocks: reads the config, mounts, looks for the program.
async fn prepare(request: &CreateRequest, pid: u32, roots: Arc<[PathBuf]>) -> Result<Prepared, CreateError> {
    let (bundle, mounts, options) = (request.bundle.clone(), request.mounts.clone(), request.options.clone());
    let blocking = move || {
        if !roots.is_empty() {
            allowed_roots::check(&bundle, &roots)?;
        }
        let config = Config::load(&bundle)?;
        let settings = options.read()?;
        let files = match config.kind {
            ContainerKind::Sandbox => None,
            ContainerKind::Container => Some(files(&bundle, &config, &mounts)?),
        };
        let path = bundle.join(PID_FILE);
        fs::write(&path, pid.to_string()).map_err(|source| CreateError::Bundle { path, source })?;
        Ok(Prepared { config, settings, files })
    };
    let lost = |error| CreateError::Bundle { path: request.bundle.clone(), source: io::Error::other(error) };
    spawn_blocking(blocking).await.map_err(lost)?
}

fn files(bundle: &Path, config: &Config, mounts: &[MountConfig]) -> Result<Files, CreateError> {
    let rootfs = Rootfs::mount(bundle, config, mounts)?;
    let process = &config.process;
    rootfs.check_cwd(&process.cwd)?;
    let program = artifact::locate(&process.args, &process.cwd, process.env("PATH"), &rootfs);
    Ok(Files { rootfs: Arc::new(rootfs), program })
}

/// What the instances of all processes of a container have in common.
struct Of<'a> {
    annotations: &'a Arc<HashMap<String, String>>,
    memory: &'a Arc<Memory>,
    kept: &'a Arc<Kept>,
    host: &'a Host,
}

impl Of<'_> {
    fn spec(&self, info: &Info, config: ProcessConfig, files: Files, stdio: &Stdio) -> InstanceSpec {
        InstanceSpec {
            container: info.container.clone(),
            args: config.args,
            env: config.env,
            cwd: config.cwd,
            identity: config.identity,
            open_files: config.open_files,
            annotations: self.annotations.clone(),
            rootfs: files.rootfs,
            file: files.program,
            images: self.host.images.clone(),
            stdio: stdio.clone(),
            memory: self.memory.clone(),
            kept: self.kept.clone(),
            network: self.host.network.clone(),
        }
    }
}

/// The CRI's pause container: it only holds the pod together, so there is nothing to run.
struct Pause;

#[async_trait]
impl Instance for Pause {
    async fn run(self: Arc<Self>, context: GuestContext) -> Result<ExitStatus, EngineError> {
        context.ready();
        std::future::pending().await
    }
}
