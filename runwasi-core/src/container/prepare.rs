//! Steps of a creation before the driver: the files of a container, then the instance of a process.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Instant,
};

use rustix::thread::CapabilitySet;

use super::{
    annotations, error::CreateError, home, host::Host, pause::Pause, pod_files::PodFiles,
    refused::Refused, request::CreateRequest,
};
use crate::{
    artifact::{ArtifactError, Program, file},
    blocking::blocking,
    bundle::{
        allowed_roots,
        config::{Config, ContainerKind, annotations as annotations_of},
        hooks::{ContainerState, HooksConfig},
        process::ProcessConfig,
        program::ProgramConfig,
        resources::{Limit, ResourcesConfig},
    },
    cgroups::{KernelLimits, oom_scores::OomScore},
    engine::{
        error::EngineError, extensions::Extensions, fault::FaultRecord, instance::Instance,
        spec::InstanceSpec,
    },
    metrics::lives::{self, Phase},
    native::{detect, setting::NativeRuntime},
    observe::{Kind, Subject},
    process::{Info, driver},
    resources::memory::Memory,
    rootfs::{Gone, MountConfig, Rootfs, RootfsError},
    scheduler::{file_calls::FileCalls, group::Group},
    settings::{Entry, RawSettings},
    stdio::{Stdio, error::StdioError},
    sys::credentials::Credentials,
    traces::start::StartTrace,
};

/// File in the bundle with the pid that was reported to containerd. `delete` reads it after the
/// server's death.
pub(crate) const PID_FILE: &str = "init.pid";

/// Result of [`prepare`].
pub(super) enum Outcome {
    /// The engine runs the container.
    Guest(Box<Prepared>),
    /// Its program is native. Nothing of ours is left in its bundle, and nothing is mounted.
    Native(Box<NativeProgram>),
}

/// A container whose program the engine does not run.
#[derive(Debug)]
pub(crate) struct NativeProgram {
    /// Path of the program in the container.
    pub(crate) path: PathBuf,
    /// Its runtime by the runtime options, if they name one, and where they do.
    pub(crate) runtime: Option<(NativeRuntime, Entry)>,
    /// True if systemd makes its cgroup.
    pub(crate) systemd_cgroup: bool,
    /// The PID namespace that it joins.
    pub(crate) pid_namespace: Option<PathBuf>,
    /// The annotations of its `config.json`.
    pub(crate) annotations: HashMap<String, String>,
}

/// A container with file systems and settings.
pub(super) struct Prepared {
    pub(super) config: Config,
    /// Settings from the runtime options.
    pub(super) settings: RawSettings,
    /// Absent in a container of type `sandbox`.
    pub(super) files: Option<Files>,
}

/// File systems and program of a process.
pub(super) struct Files {
    pub(super) rootfs: Arc<Rootfs>,
    /// The file to run. An error may still be replaced by a layer of the image.
    pub(super) program: Result<Program, ArtifactError>,
}

/// Reads the config, mounts the file systems and locates the program. `volatile` is true if the
/// root file system may ignore `fsync(2)`.
pub(super) async fn prepare(
    request: &CreateRequest,
    pid: u32,
    (roots, volatile): (Arc<[PathBuf]>, bool),
    pod_files: Option<Arc<PodFiles>>,
) -> Result<Outcome, CreateError> {
    let bundle = request.bundle.clone();
    let mounts = request.mounts.clone();
    let options = request.options.clone();
    let checkpoint = request.checkpoint;
    let work = move || {
        // Before the first access to the bundle.
        if !roots.is_empty() {
            allowed_roots::check(&bundle, &roots)?;
        }
        let mut settings = options.read()?;
        let runtime = NativeRuntime::take_from(&mut settings)?;
        let (config, files) = match container(&bundle, &mounts, pod_files.as_deref(), volatile) {
            Ok(Found::Guest(config, files)) => (config, files),
            Ok(Found::Native(path, gone)) => {
                return native(&bundle, path, runtime).map(|native| (native, gone));
            }
            Err(error) => {
                let (path, gone) = native_anyway(&bundle, &mounts, volatile).ok_or(error)?;
                return native(&bundle, path, runtime).map(|native| (native, gone));
            }
        };
        if checkpoint {
            return Err(CreateError::Checkpoint);
        }
        // Last, when the file systems stand: a failure before it leaves no file.
        let path = bundle.join(PID_FILE);
        fs::write(&path, pid.to_string()).map_err(|source| CreateError::Bundle { path, source })?;
        let prepared = Prepared { config: *config, settings, files };
        Ok((Outcome::Guest(Box::new(prepared)), Gone::already()))
    };
    let lost = |source| CreateError::Bundle { path: request.bundle.clone(), source };
    let (outcome, mut gone) = blocking(work, lost).await?;
    // runc mounts the same layers, and a directory for writes belongs to one mount at a time.
    gone.wait().await;
    Ok(outcome)
}

/// A container as its bundle describes it.
enum Found {
    /// With file systems, unless it is of type `sandbox`.
    Guest(Box<Config>, Option<Files>),
    /// With the path of its program, and file systems that are being unmounted.
    Native(PathBuf, Gone),
}

fn container(
    bundle: &Path,
    mounts: &[MountConfig],
    pod_files: Option<&PodFiles>,
    volatile: bool,
) -> Result<Found, CreateError> {
    let mut config = Box::new(Config::load(bundle)?);
    if config.kind == ContainerKind::Sandbox {
        return Ok(Found::Guest(config, None));
    }
    if let Some(pod_files) = pod_files {
        pod_files.add_to(&mut config);
    }
    let memory = pod_files.and_then(PodFiles::memory);
    let rootfs = Rootfs::mount_in_pod(bundle, &config, mounts, (memory, volatile))?;
    let process = &mut config.process;
    rootfs.check_cwd(&process.cwd)?;
    home::set(process, &rootfs);
    let program = file::locate(&process.args, &process.cwd, process.env("PATH"), &rootfs);
    if let Ok(located) = &program
        && let Some(path) = native_path(located, process, &rootfs)
    {
        return Ok(Found::Native(path, rootfs.gone()));
    }
    Ok(Found::Guest(config, Some(Files { rootfs: Arc::new(rootfs), program })))
}

fn native_path(program: &Program, process: &ProcessConfig, rootfs: &Rootfs) -> Option<PathBuf> {
    detect::native(program, &process.args, &process.cwd, process.env("PATH"), rootfs)
}

/// The same for a container that no engine could run: its file systems, its working directory or
/// fields of its `config.json` are refused. runc may take them if the program is native.
fn native_anyway(bundle: &Path, mounts: &[MountConfig], volatile: bool) -> Option<(PathBuf, Gone)> {
    let ProgramConfig { config, is_sandbox, .. } = ProgramConfig::load(bundle).ok()?;
    // A pause program is native, but the pod is ours: refused fields of it are the pod's.
    if is_sandbox {
        return None;
    }
    let rootfs = Rootfs::mount_in_pod(bundle, &config, mounts, (None, volatile)).ok()?;
    let process = &config.process;
    let program = file::locate(&process.args, &process.cwd, process.env("PATH"), &rootfs).ok()?;
    let path = native_path(&program, process, &rootfs)?;
    Some((path, rootfs.gone()))
}

fn native(
    bundle: &Path,
    path: PathBuf,
    runtime: Option<(NativeRuntime, Entry)>,
) -> Result<Outcome, CreateError> {
    let ProgramConfig { systemd_cgroup, pid_namespace, .. } = ProgramConfig::load(bundle)?;
    let annotations = annotations_of(bundle);
    let native = NativeProgram { path, runtime, systemd_cgroup, pid_namespace, annotations };
    Ok(Outcome::Native(Box::new(native)))
}

/// A process without a driver: its streams are open, and the engine has prepared its instance.
pub(super) struct PreparedProcess {
    pub(super) info: Arc<Info>,
    pub(super) credentials: Option<Arc<Credentials>>,
    instance: Arc<dyn Instance>,
    faults: Arc<FaultRecord>,
    stdio: Stdio,
}

impl PreparedProcess {
    /// Addresses of the files of its output that are on no local disk: writes may wait for long.
    pub(super) fn slow(&self) -> Vec<PathBuf> {
        self.stdio.slow()
    }

    /// Parts of the driver of an exec; an init has more.
    pub(super) fn into_parts(
        self,
        context: &ProcessContext,
        host: &Host,
        group: Group,
        on_deleted: Box<dyn FnOnce() + Send>,
    ) -> driver::Parts {
        driver::Parts {
            info: self.info,
            subject: context.subject.clone(),
            faults: self.faults,
            instance: self.instance,
            stdio: self.stdio,
            // The container's file systems outlive an exec; only the init waits for their end.
            unmounted: Gone::already(),
            group,
            // Only the end of the init ends other processes.
            execs: None,
            trace: StartTrace::default(),
            memory: context.memory.clone(),
            publisher: host.publisher.clone(),
            on_deleted,
        }
    }
}

/// The init of a new container without a driver, with all that its container keeps.
pub(super) struct PreparedInit {
    pub(super) process: PreparedProcess,
    pub(super) context: ProcessContext,
    pub(super) hooks: Option<Arc<HooksConfig>>,
    pub(super) kernel_limits: Option<Arc<KernelLimits>>,
    /// Held as long as the container.
    pub(super) oom_score: Option<OomScore>,
    pub(super) limits: ResourcesConfig,
    /// Never had a target if the container has no file systems.
    pub(super) rootfs: Weak<Rootfs>,
    /// Its program, in the log.
    pub(super) kind: Kind,
    /// Bound of its file calls.
    pub(super) files: FileCalls,
    /// Resolves when the file systems are gone.
    pub(super) unmounted: Gone,
}

impl PreparedInit {
    /// Has the engine prepare the instance, and mirrors the limits into cgroups.
    pub(super) async fn new(
        host: &Host,
        request: &CreateRequest,
        prepared: Prepared,
    ) -> Result<Self, CreateError> {
        let Prepared { config, files, .. } = prepared;
        annotations::check(&config.annotations, host.engine.annotations())?;
        let limits = config.resources;
        let memory = Memory::new(limits.memory.and_then(Limit::get), config.refuse_memory);
        let ids = (&host.namespace, &host.sandbox);
        let context = ProcessContext {
            subject: Arc::new(Subject::new(ids, &request.id, &config.annotations)),
            annotations: config.annotations,
            memory: Arc::new(memory),
            extensions: Arc::default(),
            root_lacks: config.process.root_lacks,
        };
        let unmounted = files.as_ref().map_or_else(Gone::already, |files| files.rootfs.gone());
        let kind = if files.is_some() { Kind::Wasm } else { Kind::Pause };
        let mut slow = files.as_ref().map(|files| files.rootfs.slow().to_vec()).unwrap_or_default();
        let rootfs = files.as_ref().map_or_else(Weak::new, |files| Arc::downgrade(&files.rootfs));
        let info = Info {
            container: request.id.clone(),
            exec: None,
            pid: host.network.pid(),
            stdio: request.stdio.clone(),
        };
        request.trace.describe(&context.subject);
        // The pause container has the score of a process that is never to go, and no memory.
        let score = files.as_ref().and(config.process.oom_score);
        let process = context.init(host, info, config.process, (files, &request.trace)).await?;
        slow.extend(process.slow());
        let single = config.pod.is_none();
        let kernel_limits =
            host.mirror_limits(config.cgroup, &request.bundle, limits.clone(), single);
        let oom_score = host.mirror_oom_score(score);
        let hooks = (!config.hooks.is_empty()).then(|| Arc::new(config.hooks));
        // After `Engine::configure`, which may have changed the bound.
        let threads = host.engine.file_threads().await;
        let files = FileCalls::new(request.id.clone(), threads, slow);
        Ok(Self {
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
        })
    }
}

/// Context that all processes of a container share.
pub(super) struct ProcessContext {
    /// The container in the log.
    pub(super) subject: Arc<Subject>,
    pub(super) annotations: Arc<HashMap<String, String>>,
    pub(super) memory: Arc<Memory>,
    pub(super) extensions: Arc<Extensions>,
    /// Capabilities over files that the root of an exec lacks if it has no list of its own.
    pub(super) root_lacks: CapabilitySet,
}

impl ProcessContext {
    /// The container as its hooks are told.
    pub(super) fn state(&self, init: &Info, bundle: &Path) -> ContainerState {
        ContainerState::new(init.container.as_str(), init.pid, bundle, &self.annotations)
    }

    /// Opens the streams of an init and has the engine prepare its instance. An init without file
    /// systems is the pause container of a pod.
    async fn init(
        &self,
        host: &Host,
        info: Info,
        config: ProcessConfig,
        (files, trace): (Option<Files>, &StartTrace),
    ) -> Result<PreparedProcess, CreateError> {
        let span = trace.part("streams");
        let stdio = host.stdio(&info.container, &info.stdio, &config).await?;
        drop(span);
        let credentials = config.credentials.clone();
        let faults = Arc::<FaultRecord>::default();
        let instance: Arc<dyn Instance> = match files {
            None => Arc::new(Pause),
            Some(files) => {
                let spec = self.spec(host, (&info, &faults), config, files, &stdio);
                let begun = Instant::now();
                let _span = trace.part("engine");
                let instance = host.engine.prepare(spec).await?;
                lives::took_since(Phase::Engine, begun);
                instance
            }
        };
        Ok(PreparedProcess { info: Arc::new(info), credentials, instance, faults, stdio })
    }

    /// Opens the streams of a further process and has the engine prepare its instance. A process
    /// that is refused fails at its start.
    pub(super) async fn exec(
        &self,
        host: &Host,
        info: Info,
        config: ProcessConfig,
        (found, trace): (Result<Files, RootfsError>, &StartTrace),
    ) -> Result<PreparedProcess, StdioError> {
        let span = trace.part("streams");
        let stdio = host.stdio(&info.container, &info.stdio, &config).await?;
        drop(span);
        let credentials = config.credentials.clone();
        let faults = Arc::<FaultRecord>::default();
        let prepared = match found {
            Ok(files) => {
                let spec = self.spec(host, (&info, &faults), config, files, &stdio);
                let _span = trace.part("engine");
                host.engine.prepare(spec).await
            }
            Err(error) => Err(EngineError::Failed(error.to_string())),
        };
        let instance = prepared.unwrap_or_else(|error| Arc::new(Refused::new(error)));
        Ok(PreparedProcess { info: Arc::new(info), credentials, instance, faults, stdio })
    }

    fn spec(
        &self,
        host: &Host,
        (info, faults): (&Info, &Arc<FaultRecord>),
        config: ProcessConfig,
        files: Files,
        stdio: &Stdio,
    ) -> InstanceSpec {
        InstanceSpec {
            container: info.container.clone(),
            args: config.args,
            env: config.env,
            cwd: config.cwd,
            credentials: config.credentials,
            open_files: config.open_files,
            annotations: self.annotations.clone(),
            rootfs: files.rootfs,
            file: files.program,
            images: host.images.clone(),
            stdio: stdio.clone(),
            memory: self.memory.clone(),
            extensions: self.extensions.clone(),
            network: host.network.clone(),
            subject: self.subject.clone(),
            faults: faults.clone(),
        }
    }
}
