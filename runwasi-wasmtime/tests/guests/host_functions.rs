//! Hooks of an embedder: host functions, and the step before a preparation. Part of `guests.rs`.

use runwasi_core::{EngineError, testing::Harness};
use runwasi_wasmtime::{Settings, WasmtimeEngine, builder::Builder};

use super::Result;

const CALLER: &str = r#"(module (import "own" "f" (func $f)) (memory (export "memory") 1)
    (func (export "_start") (call $f)))"#;

fn builder() -> Builder {
    WasmtimeEngine::builder(&Settings { cache: None, slots: 10, ..Settings::default() })
}

/// Error of containerd's `Create` for a container that runs `guest`.
async fn refusal(engine: WasmtimeEngine, guest: &str) -> Result<String> {
    let harness = Harness::start(engine)?;
    let client = harness.client().await?;
    let bundle = harness.bundle("c", &["/c"]).file("/c", guest).write()?;
    let created = client.create("c", &bundle, &Default::default(), &[]).await;
    Ok(created.err().map(|error| error.to_string()).unwrap_or_default())
}

#[tokio::test]
async fn a_module_import_without_its_hook_is_refused() -> Result {
    let error = refusal(builder().build()?, CALLER).await?;
    assert!(error.contains("own"), "{error}");
    let linked = builder().module_imports(|linker| linker.func_wrap("own", "f", || ()).map(|_| ()));
    assert_eq!(refusal(linked.build()?, CALLER).await?, "");
    Ok(())
}

#[test]
fn a_second_definition_of_a_name_fails_the_build() {
    let taken = builder().module_imports(|linker| {
        linker.func_wrap("wasi_snapshot_preview1", "proc_exit", |_: i32| ()).map(|_| ())
    });
    assert!(taken.build().is_err_and(|error| error.to_string().contains("proc_exit")));
}

#[tokio::test]
async fn an_error_of_on_prepare_refuses_the_container() -> Result {
    let refusing = builder()
        .on_prepare(|spec| Err(EngineError::Failed(format!("no place for {}", spec.container))));
    let error = refusal(refusing.build()?, "(module (func (export \"_start\")))").await?;
    assert!(error.contains("no place for c"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_component_import_without_its_hook_is_refused() -> Result {
    let component = r#"(component
        (import "own:host/api" (instance $api (export "f" (func))))
        (core module $m (func (export "run") (result i32) (i32.const 0)))
        (core instance $i (instantiate $m))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $exported (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $exported)))"#;
    let error = refusal(builder().build()?, component).await?;
    assert!(error.contains("own:host/api"), "{error}");
    let linked = builder().component_imports(|linker| {
        linker.instance("own:host/api")?.func_wrap("f", |_, ()| Ok(()))
    });
    assert_eq!(refusal(linked.build()?, component).await?, "");
    Ok(())
}
