//! wasmtime as the engine of a node, for the program `containerd-wasmtimed` (feature `wasmtime`).

use runwasi_core::{EngineError, settings::SettingsError};
use runwasi_wasmtime::{ABOUT, Settings, WasmtimeEngine};

use crate::{
    identity::Identity,
    serve::{EngineSettings, NodeEngine},
};

/// Names of `containerd-wasmtimed` and its shim `containerd-shim-wasmtimed-v1`.
pub const IDENTITY: Identity = Identity {
    program: "containerd-wasmtimed",
    runtime: "io.containerd.wasmtimed.v1",
    version: ABOUT.version,
    engine: ABOUT.engine,
    state_directory: "/run/io.containerd.wasmtime.v1",
    config_file: "/etc/containerd-wasmtimed.toml",
    environment_prefix: "CONTAINERD_WASMTIMED",
};

/// wasmtime as the engine of a node.
pub struct Wasmtime;

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
