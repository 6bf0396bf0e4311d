//! wasmtime as the engine of a node, for the program `containerd-wasmtimed` (feature `wasmtime`).

use runwasi_core::{
    EngineError,
    settings::{RawSettings, SettingsError},
};
use runwasi_wasmtime::{Settings, WasmtimeEngine};

use crate::serve::{EngineSettings, NodeEngine};

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
