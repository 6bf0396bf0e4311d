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

use crate::{native::Native, native_identity::IDENTITY};

fn main() -> ExitCode {
    runwasi_daemon::main::<Native>(&IDENTITY)
}
