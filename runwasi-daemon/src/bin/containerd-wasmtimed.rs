//! The node daemon `containerd-wasmtimed`. Started by systemd or by hand.

use std::process::ExitCode;

use runwasi_daemon::wasmtime::{IDENTITY, Wasmtime};

fn main() -> ExitCode {
    runwasi_daemon::main::<Wasmtime>(&IDENTITY)
}
