//! A process as a WASI context.
//!
//! What a guest has: its args and environment, the container's root file system preopened at `/`, volumes at their
//! destinations, and its three streams. What it has not: anything else of the host; no clocks or randomness are
//! restricted.
//!
//! Preview 1 has no working directory of its own: libc of a guest begins at `/`. It is told of `process.cwd` by `PWD`.

use std::os::fd::AsRawFd;

use runwasi_core::{EngineError, InstanceSpec, credentials::as_host};
use wasmtime_wasi::{
    FsPerms, WasiCtx, WasiCtxBuilder, WasiView,
    filesystem::{Descriptor, WasiFilesystemCtx, WasiFilesystemView},
    p1::WasiP1Ctx,
    p2::bindings::filesystem::preopens,
};

use super::stdio::{Stdin, Stdout};

/// The context of one run of a module.
pub(crate) fn module_context(spec: &InstanceSpec) -> Result<WasiP1Ctx, EngineError> {
    let mut wasi = builder(spec)?.build_p1();
    share_preopens(&mut wasi, spec)?;
    Ok(wasi)
}

/// The context of one instance of a component; its preopens are yet to be shared. It allows no sockets: see `outbound`.
pub(crate) fn component_context(spec: &InstanceSpec) -> Result<WasiCtx, EngineError> {
    let mut builder = builder(spec)?;
    builder.initial_cwd(spec.cwd.to_string_lossy());
    Ok(builder.build())
}

/// A further context of a component's process, with the directories of the first one.
pub(crate) fn further_context(spec: &InstanceSpec, directories: &WasiFilesystemCtx) -> WasiCtx {
    let mut builder = surroundings(spec);
    builder.initial_cwd(spec.cwd.to_string_lossy());
    let mut context = builder.build();
    *context.filesystem() = directories.clone();
    context
}

/// The preopens are opened as the host: the guest may see less of them, but has them.
fn builder(spec: &InstanceSpec) -> Result<WasiCtxBuilder, EngineError> {
    as_host(|| prepare(spec))
}

/// All but the directories.
fn surroundings(spec: &InstanceSpec) -> WasiCtxBuilder {
    let mut builder = WasiCtxBuilder::new();
    builder.args(&spec.args).envs(&spec.env);
    if spec.env("PWD").is_none() {
        builder.env("PWD", spec.cwd.to_string_lossy());
    }
    builder.stdin(Stdin(spec.stdio.stdin.clone()));
    builder.stdout(Stdout(spec.stdio.stdout.clone()));
    builder.stderr(Stdout(spec.stdio.stderr.clone()));
    // On a pool the identity of the poll does not hold. Root has none, and its slow files delay nobody there.
    builder.allow_blocking_current_thread(spec.credentials.is_some());
    builder
}

fn prepare(spec: &InstanceSpec) -> Result<WasiCtxBuilder, EngineError> {
    let mut builder = surroundings(spec);
    for preopen in spec.rootfs.preopens() {
        // The directory is a mount that is in no mount table: its fd is the only way to name it.
        let host = format!("/proc/self/fd/{}", preopen.directory.as_raw_fd());
        let permissions = if preopen.read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
        let opened = builder.preopened_dir(host, preopen.path.to_string_lossy(), permissions);
        opened.map_err(|error| {
            EngineError::Failed(format!("preopen {}: {error:#}", preopen.path.display()))
        })?;
    }
    Ok(builder)
}

/// The library has opened every preopen anew: its file descriptors become the container's, whose own are closed. A node of ten
/// thousand containers has none to spare.
pub(crate) fn share_preopens(
    wasi: &mut impl WasiView,
    spec: &InstanceSpec,
) -> Result<(), EngineError> {
    share(wasi, spec).map_err(|error| EngineError::Failed(format!("preopens: {error:#}")))
}

fn share(wasi: &mut impl WasiView, spec: &InstanceSpec) -> wasmtime::Result<()> {
    let mut view = wasi.filesystem();
    // The host function of the same name is the only way to the library's own.
    let opened = preopens::Host::get_directories(&mut view)?;
    for (n, (resource, _)) in opened.into_iter().enumerate() {
        if let Descriptor::Dir(directory) = view.table.delete(resource)? {
            spec.rootfs.share(n, directory.dir);
        }
    }
    Ok(())
}
