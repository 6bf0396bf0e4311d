//! WASI contexts of a process.
//!
//! A guest gets its args and environment, the container's root file system preopened at `/`,
//! volumes at their destinations, and its three streams. It gets nothing else of the host. Clocks
//! and randomness are not restricted.
//!
//! Preview 1 has no working directory: the guest's libc starts at `/`. `PWD` is `process.cwd`,
//! unless the environment sets it.

use std::os::fd::AsRawFd;

use runwasi_core::{EngineError, InstanceSpec, credentials::as_host};
use wasmtime_wasi::{
    FsPerms, WasiCtx, WasiCtxBuilder, WasiView,
    filesystem::{Descriptor, WasiFilesystemCtx, WasiFilesystemView},
    p1::WasiP1Ctx,
    p2::bindings::filesystem::preopens,
};

use super::stdio::{Stdin, Stdout};

/// Most random bytes that wasmtime-wasi makes in one call: half a millisecond. Functions that give
/// more call it several times.
pub(crate) const RANDOM_PART: u64 = 128 << 10;

/// Creates the context for one run of a module.
pub(crate) fn module_context(spec: &InstanceSpec) -> Result<WasiP1Ctx, EngineError> {
    let mut wasi = builder(spec)?.build_p1();
    share_preopens(&mut wasi, spec)?;
    Ok(wasi)
}

/// Creates the context for one instance of a component. The caller shares its preopens later. It
/// allows no sockets; see `outbound`.
pub(crate) fn component_context(spec: &InstanceSpec) -> Result<WasiCtx, EngineError> {
    let mut builder = builder(spec)?;
    builder.initial_cwd(spec.cwd.to_string_lossy());
    Ok(builder.build())
}

/// Creates a further context for a component's process, with the directories of the first context.
pub(crate) fn further_context(spec: &InstanceSpec, directories: &WasiFilesystemCtx) -> WasiCtx {
    let mut builder = surroundings(spec);
    builder.initial_cwd(spec.cwd.to_string_lossy());
    let mut context = builder.build();
    // Copied, because opening the preopens again would take more file descriptors.
    *context.filesystem() = directories.clone();
    context
}

/// Prepares a context with the preopened directories.
fn builder(spec: &InstanceSpec) -> Result<WasiCtxBuilder, EngineError> {
    // As the host's user: a guest gets its preopens even if its own user may not open them. Calls
    // in them are checked against the guest's user.
    as_host(|| prepare(spec))
}

/// Prepares a context without directories.
fn surroundings(spec: &InstanceSpec) -> WasiCtxBuilder {
    let mut builder = WasiCtxBuilder::new();
    builder.args(&spec.args);
    for (name, value) in spec.environment() {
        builder.env(name, value);
    }
    builder.stdin(Stdin(spec.stdio.stdin.clone()));
    builder.stdout(Stdout::new(spec.stdio.stdout.clone()));
    builder.stderr(Stdout::new(spec.stdio.stderr.clone()));
    builder.max_random_size(RANDOM_PART);
    // Only the polling thread has the guest's credentials, and its CPU time is the container's. If
    // the calls may wait, `runwasi_core` polls the guest on a thread that no other guest needs.
    builder.allow_blocking_current_thread(true);
    builder
}

fn prepare(spec: &InstanceSpec) -> Result<WasiCtxBuilder, EngineError> {
    let mut builder = surroundings(spec);
    for preopen in spec.rootfs.preopens() {
        // The directory is a mount outside any mount table: only its descriptor names it.
        let host = format!("/proc/self/fd/{}", preopen.directory.as_raw_fd());
        let permissions = if preopen.read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
        let opened = builder.preopened_dir(host, preopen.path.to_string_lossy(), permissions);
        opened.map_err(|error| {
            EngineError::Failed(format!("preopen {}: {error:#}", preopen.path.display()))
        })?;
    }
    Ok(builder)
}

/// Replaces the container's descriptors of its preopens by those that wasmtime-wasi has opened.
pub(crate) fn share_preopens(
    wasi: &mut impl WasiView,
    spec: &InstanceSpec,
) -> Result<(), EngineError> {
    // wasmtime-wasi opens every preopen again. Without the duplicates a node has enough file
    // descriptors for ten thousand containers.
    share(wasi, spec).map_err(|error| EngineError::Failed(format!("preopens: {error:#}")))
}

fn share(wasi: &mut impl WasiView, spec: &InstanceSpec) -> wasmtime::Result<()> {
    let mut view = wasi.filesystem();
    // Only this host function gives access to the preopens of wasmtime-wasi.
    let opened = preopens::Host::get_directories(&mut view)?;
    for (n, (resource, _)) in opened.into_iter().enumerate() {
        // Deleted, since the guest gets resources of its own from its call.
        if let Descriptor::Dir(directory) = view.table.delete(resource)? {
            spec.rootfs.share(n, directory.dir);
        }
    }
    Ok(())
}
