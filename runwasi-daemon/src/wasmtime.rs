//! wasmtime as the engine of a node, for the program `containerd-wasmtimed` (feature `wasmtime`).

use runwasi_core::{
    EngineError,
    settings::{RawSettings, SettingsError},
};
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

    fn table(written: &RawSettings) -> Result<String, SettingsError> {
        // Any slots and cache will do: the keys of the table do not depend on them.
        Ok(Settings::for_node(1, None, 0).with(written)?.to_toml())
    }

    fn make(settings: &EngineSettings) -> Result<WasmtimeEngine, EngineError> {
        let node = Settings::for_node(settings.slots, settings.cache.clone(), settings.cache_bytes);
        WasmtimeEngine::new(&node.with(&settings.written)?)
    }
}
