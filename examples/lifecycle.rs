//! Drives create, start, pause, resume, kill and delete of a guest that loops for ever, and prints
//! the events as they come.
//!
//! Run with: `cargo run --release --bin lifecycle`

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;
use runwasi_core::testing::Harness;
use runwasi_wasmtime::{Settings, WasmtimeEngine};

const SPIN: &str = r#"(module (func (export "_start") (loop (br 0))))"#;
const SIGKILL: u32 = 9;

fn main() -> Result<ExitCode> {
    // First of all: modules are compiled by this program in another process.
    match runwasi_wasmtime::answer_as_compiler() {
        Some(end) => Ok(end),
        None => show(),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn show() -> Result<ExitCode> {
    let harness =
        Harness::start(WasmtimeEngine::new(&Settings { cache: None, ..Settings::default() })?)?;
    let containerd = harness.client().await?;
    let bundle = harness.bundle("spin", &["/spin.wat"]).file("/spin.wat", SPIN).write()?;

    let recorder = harness.events().clone();
    let printing = async {
        let mut printed = 0;
        loop {
            recorder.wait_for(printed + 1).await;
            for event in &recorder.summary()[printed..] {
                println!("  event: {event}");
                printed += 1;
            }
        }
    };
    let driving = async {
        containerd.create("spin", &bundle, &Default::default(), &[]).await?;
        println!("create -> {}", containerd.state("spin").await?.status);
        containerd.start("spin").await?;
        println!("start  -> {}", containerd.state("spin").await?.status);
        tokio::time::sleep(Duration::from_millis(100)).await;
        containerd.pause("spin").await?;
        println!("pause  -> {}", containerd.state("spin").await?.status);
        containerd.resume("spin").await?;
        println!("resume -> {}", containerd.state("spin").await?.status);

        let refused = containerd.delete("spin").await;
        println!(
            "delete -> {}",
            refused.map_or_else(|error| error.to_string(), |_| "deleted a running guest".into())
        );
        let asked = Instant::now();
        containerd.kill("spin", SIGKILL).await?;
        let status = containerd.wait("spin").await?;
        println!("kill   -> status {status} after {:?}", asked.elapsed());
        containerd.delete("spin").await?;
        recorder.wait_for(6).await;
        // Lets the printer have its turn.
        tokio::time::sleep(Duration::from_millis(10)).await;
        anyhow::Ok(())
    };
    tokio::select! {
        driven = driving => driven?,
        () = printing => {}
    }
    harness.stop().await;
    Ok(ExitCode::SUCCESS)
}
