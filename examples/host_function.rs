//! A core module and a component call a function of the embedder, without containerd.
//!
//! The function counts its calls in each container: the count is a value in the extensions of the
//! container, which the processes of the container share.
//!
//! Run with: `cargo run --release --bin host-function`

use std::{
    process::ExitCode,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::Result;
use runwasi_core::testing::{Harness, TaskClient};
use runwasi_wasmtime::{ComponentState, ModuleState, Settings, WasmtimeEngine, wasmtime};
use wasmtime::{Caller, Linker, StoreContextMut, component};

/// Calls `count` twice and ends with the second result.
const MODULE: &str = r#"(module
    (import "example" "count" (func $count (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (drop (call $count))
        (call $exit (call $count))))"#;

/// Calls `count` twice and fails, with status 1, unless the second result is 2.
const COMPONENT: &str = r#"(component
    (import "example:host/calls" (instance $calls (export "count" (func (result u32)))))
    (core func $count (canon lower (func $calls "count")))
    (core module $m
        (import "calls" "count" (func $count (result i32)))
        (func (export "run") (result i32)
            (drop (call $count))
            (i32.ne (call $count) (i32.const 2))))
    (core instance $lowered (export "count" (func $count)))
    (core instance $i (instantiate $m (with "calls" (instance $lowered))))
    (func $run (result (result)) (canon lift (core func $i "run")))
    (instance $exported (export "run" (func $run)))
    (export "wasi:cli/run@0.2.0" (instance $exported)))"#;

/// Calls of one container.
struct Calls(AtomicU32);

impl Calls {
    fn count(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

fn link_module(linker: &mut Linker<ModuleState>) -> wasmtime::Result<()> {
    linker.func_wrap("example", "count", |caller: Caller<'_, ModuleState>| {
        caller.data().extensions().get::<Calls>().map_or(0, |calls| calls.count())
    })?;
    Ok(())
}

fn link_component(linker: &mut component::Linker<ComponentState>) -> wasmtime::Result<()> {
    let mut calls = linker.instance("example:host/calls")?;
    calls.func_wrap("count", |store: StoreContextMut<'_, ComponentState>, ()| {
        Ok((store.data().extensions().get::<Calls>().map_or(0, |calls| calls.count()),))
    })
}

/// An engine with the function `count`.
fn engine() -> Result<WasmtimeEngine> {
    let settings = Settings { cache: None, ..Settings::default() };
    let engine = WasmtimeEngine::builder(&settings)
        .module_imports(link_module)
        .component_imports(link_component)
        .on_prepare(|spec| {
            // An exec in the same container finds the value of the first process.
            spec.extensions.get_or_make(|| Calls(AtomicU32::new(0)));
            Ok(())
        })
        .build()?;
    Ok(engine)
}

/// Runs one container to its end.
async fn run(harness: &Harness, containerd: &TaskClient, id: &str, guest: &str) -> Result<u32> {
    let bundle = harness.bundle(id, &["/guest.wat"]).file("/guest.wat", guest).write()?;
    containerd.create(id, &bundle, &Default::default(), &[]).await?;
    containerd.start(id).await?;
    let status = containerd.wait(id).await?;
    containerd.delete(id).await?;
    Ok(status)
}

fn main() -> Result<ExitCode> {
    // First of all: modules are compiled by this program in another process.
    match runwasi_wasmtime::answer_as_compiler() {
        Some(end) => Ok(end),
        None => show(),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn show() -> Result<ExitCode> {
    let harness = Harness::start(engine()?)?;
    let containerd = harness.client().await?;
    let module = run(&harness, &containerd, "module", MODULE).await?;
    println!("module: ended with {module}, its number of calls");
    let component = run(&harness, &containerd, "component", COMPONENT).await?;
    println!("component: ended with {component}");
    harness.stop().await;
    Ok(if module == 2 && component == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
