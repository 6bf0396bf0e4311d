//! The node daemon `containerd-wasmtimed`. Started by systemd or by hand.

use std::process::ExitCode;

use runwasi_core::{
    EngineError,
    settings::{RawSettings, SettingsError},
};
use runwasi_daemon::serve::{EngineSettings, NodeEngine};
use runwasi_wasmtime::{ABOUT, Settings, WasmtimeEngine};

/// wasmtime as the engine of a node.
struct Wasmtime;

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

fn main() -> ExitCode {
    runwasi_daemon::main::<Wasmtime>(ABOUT)
}
