//! The part of a creation that blocks: config, mounts, the look for the program.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::task::spawn_blocking;

use super::{error::CreateError, host::Host, request::CreateRequest};
use crate::{
    artifact::{ArtifactError, Program, file},
    bundle::{
        allowed_roots,
        config::{Config, ContainerKind},
        process::ProcessConfig,
    },
    engine::{extensions::Extensions, spec::InstanceSpec},
    process::Info,
    resources::memory::Memory,
    rootfs::{MountConfig, Rootfs},
    settings::RawSettings,
    stdio::Stdio,
};

/// In the bundle: the pid that was reported, for `delete` after the server's death.
pub(crate) const PID_FILE: &str = "init.pid";

/// What is done before anything else, on the blocking pool.
pub(super) struct Prepared {
    pub(super) config: Config,
    /// What the runtime options say.
    pub(super) settings: RawSettings,
    /// A container of type `sandbox` gets none.
    pub(super) files: Option<Files>,
}

pub(super) struct Files {
    pub(super) rootfs: Arc<Rootfs>,
    /// The file to run, if there is one.
    pub(super) program: Result<Program, ArtifactError>,
}

/// The part that blocks: reads the config, mounts, looks for the program.
pub(super) async fn prepare(
    request: &CreateRequest,
    pid: u32,
    roots: Arc<[PathBuf]>,
) -> Result<Prepared, CreateError> {
    let (bundle, mounts, options) =
        (request.bundle.clone(), request.mounts.clone(), request.options.clone());
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
    let lost = |error| CreateError::Bundle {
        path: request.bundle.clone(),
        source: io::Error::other(error),
    };
    spawn_blocking(blocking).await.map_err(lost)?
}

fn files(bundle: &Path, config: &Config, mounts: &[MountConfig]) -> Result<Files, CreateError> {
    let rootfs = Rootfs::mount(bundle, config, mounts)?;
    let process = &config.process;
    rootfs.check_cwd(&process.cwd)?;
    let program = file::locate(&process.args, &process.cwd, process.env("PATH"), &rootfs);
    Ok(Files { rootfs: Arc::new(rootfs), program })
}

/// What the instances of all processes of a container have in common.
pub(super) struct ProcessContext<'a> {
    pub(super) annotations: &'a Arc<HashMap<String, String>>,
    pub(super) memory: &'a Arc<Memory>,
    pub(super) extensions: &'a Arc<Extensions>,
    pub(super) host: &'a Host,
}

impl ProcessContext<'_> {
    pub(super) fn spec(
        &self,
        info: &Info,
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
            images: self.host.images.clone(),
            stdio: stdio.clone(),
            memory: self.memory.clone(),
            extensions: self.extensions.clone(),
            network: self.host.network.clone(),
        }
    }
}
