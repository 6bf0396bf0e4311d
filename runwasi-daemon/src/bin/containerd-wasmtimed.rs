//! The node daemon `containerd-wasmtimed`. Started by systemd or by hand.

use std::process::ExitCode;

use runwasi_core::{EngineError, resources::allocator::Charging, settings::SettingsError};
use runwasi_daemon::{
    serve::{EngineSettings, NodeEngine},
    wasmtime::IDENTITY,
};
use runwasi_wasmtime::{Settings, WasmtimeEngine};

#[global_allocator]
static ALLOCATOR: Charging = Charging;

/// wasmtime as the engine of a node.
struct Wasmtime;

impl NodeEngine for Wasmtime {
    type Engine = WasmtimeEngine;

    fn table(settings: &EngineSettings) -> Result<String, SettingsError> {
        of_node(settings)?.to_toml()
    }

    fn make(settings: &EngineSettings) -> Result<WasmtimeEngine, EngineError> {
        WasmtimeEngine::new(&of_node(settings)?)
    }
}

/// The engine's settings of a node: the daemon's own, under those that the user gave.
fn of_node(settings: &EngineSettings) -> Result<Settings, SettingsError> {
    let EngineSettings { slots, cache_size, .. } = *settings;
    let node = Settings { slots, cache: settings.cache.clone(), cache_size, ..Settings::default() };
    settings.written.read(&node)
}

fn main() -> ExitCode {
    if let Some(end) = runwasi_wasmtime::answer_as_compiler() {
        return end;
    }
    runwasi_daemon::main::<Wasmtime>(&IDENTITY)
}
