//! Blocking part of a creation: reads the config, mounts, locates the program.

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

/// File in the bundle with the pid that was reported to containerd. `delete` reads it after the
/// server's death.
pub(crate) const PID_FILE: &str = "init.pid";

/// Result of [`prepare`].
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

/// Reads the config, mounts the file systems and locates the program.
pub(super) async fn prepare(
    request: &CreateRequest,
    pid: u32,
    roots: Arc<[PathBuf]>,
) -> Result<Prepared, CreateError> {
    let bundle = request.bundle.clone();
    let mounts = request.mounts.clone();
    let options = request.options.clone();
    let blocking = move || {
        // Before the first access to the bundle.
        if !roots.is_empty() {
            allowed_roots::check(&bundle, &roots)?;
        }
        let config = Config::load(&bundle)?;
        let settings = options.read()?;
        let files = match config.kind {
            ContainerKind::Sandbox => None,
            ContainerKind::Container => Some(files(&bundle, &config, &mounts)?),
        };
        // Last, when the file systems stand: a failure before it leaves no file.
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

/// Context that all processes of a container share.
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
