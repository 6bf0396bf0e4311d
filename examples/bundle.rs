//! Runs an OCI bundle directory (`config.json` and `rootfs/`), without containerd.
//!
//! Run with: `cargo run --release --bin bundle -- BUNDLE`; without BUNDLE it writes one to show what is in it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use runwasi_core::testing::{BundleBuilder, Harness};
use runwasi_wasmtime::{Settings, WasmtimeEngine};

/// Prints a line and ends with status 3.
const GUEST: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\10\00\00\00\12\00\00\00")
    (data (i32.const 16) "Hello from bundle\n")
    (func (export "_start")
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (call $exit (i32.const 3))))"#;

fn main() -> Result<ExitCode> {
    // First of all: modules are compiled by this program in another process.
    match runwasi_wasmtime::answer_as_compiler() {
        Some(end) => Ok(end),
        None => show(),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn show() -> Result<ExitCode> {
    let own = tempfile::tempdir()?;
    let bundle = match env::args().nth(1) {
        Some(bundle) => fs::canonicalize(bundle)?,
        None => write_bundle(own.path())?,
    };
    let harness =
        Harness::start(WasmtimeEngine::new(&Settings { cache: None, ..Settings::default() })?)?;
    let containerd = harness.client().await?;
    let pipes = harness.pipes("bundle")?;
    let stdout = pipes.read_stdout();

    containerd.create("bundle", &bundle, &pipes.paths, &[]).await?;
    println!("created:  {:?}", containerd.state("bundle").await?);
    containerd.start("bundle").await?;
    let status = containerd.wait("bundle").await?;
    println!("printed:  {:?}", String::from_utf8_lossy(&stdout.await??));
    println!("ended:    {:?}", containerd.state("bundle").await?);
    containerd.delete("bundle").await?;
    harness.stop().await;
    Ok(ExitCode::from(u8::try_from(status)?))
}

fn write_bundle(directory: &Path) -> Result<PathBuf> {
    let bundle = BundleBuilder::new(&directory.join("bundle"), &["/guest.wat"])
        .file("/guest.wat", GUEST)
        .write()?;
    println!("bundle:   {}", bundle.display());
    println!("config:   {}", fs::read_to_string(bundle.join("config.json"))?);
    Ok(bundle)
}
