//! The shim `containerd-shim-wasmtime-v1`, which containerd starts for each pod.

use std::process::ExitCode;

use runwasi_core::resources::allocator::Charging;
use runwasi_wasmtime::{ABOUT, Settings, WasmtimeEngine};

#[global_allocator]
static ALLOCATOR: Charging = Charging;

fn main() -> ExitCode {
    if let Some(end) = runwasi_wasmtime::answer_as_compiler() {
        return end;
    }
    let engine = |settings| WasmtimeEngine::for_pod(&settings);
    runwasi_core::cli::main_with_settings(ABOUT, Settings::for_shim, engine)
}
