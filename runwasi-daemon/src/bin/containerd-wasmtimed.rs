//! The node daemon `containerd-wasmtimed`. Started by systemd or by hand.

use std::process::ExitCode;

use runwasi_wasmtime::{ABOUT, Settings, WasmtimeEngine};

fn main() -> ExitCode {
    runwasi_daemon::main(ABOUT, |settings| {
        WasmtimeEngine::new(&Settings::for_node(settings.slots, settings.cache.clone()))
    })
}
