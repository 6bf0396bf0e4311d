//! Runs a wasm file through the full Task service, all in this process: no containerd, no root.
//!
//! Run with: `cargo run --release --bin run-module -- FILE.wasm [ARGS…]`

use std::{env, fs, io, process::ExitCode};

use anyhow::{Context, Result};
use runwasi_core::{logging, testing::Harness};
use runwasi_wasmtime::{Settings, WasmtimeEngine};

fn main() -> Result<ExitCode> {
    // First of all: modules are compiled by this program in another process.
    match runwasi_wasmtime::answer_as_compiler() {
        Some(end) => Ok(end),
        None => show(),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn show() -> Result<ExitCode> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let file = arguments.first().context("usage: run-module FILE.wasm [ARGS…]")?;
    let wasm = fs::read(file).with_context(|| format!("read {file}"))?;

    // The log of the server: the life of the container, and warnings.
    logging::to_stderr(false);
    // The same server that containerd talks to, on a socket in a temporary directory.
    let harness =
        Harness::start(WasmtimeEngine::new(&Settings { cache: None, ..Settings::default() })?)?;
    let containerd = harness.client().await?;

    let mut args = vec!["/module.wasm"];
    args.extend(arguments[1..].iter().map(String::as_str));
    let bundle = harness.bundle("example", &args).file("/module.wasm", wasm).write()?;
    let pipes = harness.pipes("example")?;
    let (stdout, stderr) =
        (copy(&pipes.paths.stdout, io::stdout()), copy(&pipes.paths.stderr, io::stderr()));

    let created = containerd.create("example", &bundle, &pipes.paths, &[]).await;
    if let Err(error) = created {
        eprintln!("{error}");
        return Ok(ExitCode::FAILURE);
    }
    containerd.close_stdin("example").await?;
    containerd.start("example").await?;
    let status = containerd.wait("example").await?;
    stdout.await??;
    stderr.await??;
    containerd.delete("example").await?;
    harness.stop().await;
    Ok(ExitCode::from(u8::try_from(status)?))
}

/// Copies a FIFO to one of our own streams until the guest closes it.
fn copy(
    fifo: &str,
    mut to: impl io::Write + Send + 'static,
) -> tokio::task::JoinHandle<io::Result<u64>> {
    let fifo = fifo.to_owned();
    tokio::task::spawn_blocking(move || io::copy(&mut fs::File::open(fifo)?, &mut to))
}
