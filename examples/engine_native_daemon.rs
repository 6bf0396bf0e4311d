//! A node daemon with the native engine: all containers of a node in one process.
//!
//! Its thin shim is `engine-native-thin`, which containerd starts as
//! `containerd-shim-natived-v1`. Both have one identity. Its names differ from those of
//! `containerd-wasmtimed`, so that the two daemons run on one node.
//!
//! Run with: `cargo run --release --bin engine-native-daemon -- --socket /tmp/natived/manager.sock`

mod native;
mod native_identity;

use std::process::ExitCode;

use runwasi_core::{EngineError, settings::SettingsError};
use runwasi_daemon::serve::{EngineSettings, NodeEngine};

use crate::{native::Native, native_identity::IDENTITY};

/// The engine of a node.
struct NativeNode;

impl NodeEngine for NativeNode {
    type Engine = Native;

    fn table(settings: &EngineSettings) -> Result<String, SettingsError> {
        match settings.written.entries.first() {
            Some(entry) => Err(entry.unknown("none")),
            None => Ok("[engine]\n".to_owned()),
        }
    }

    fn make(_: &EngineSettings) -> Result<Native, EngineError> {
        Ok(Native)
    }
}

fn main() -> ExitCode {
    runwasi_daemon::main::<NativeNode>(&IDENTITY)
}
