//! The thin shim `containerd-shim-wasmtimed-v1`. Started by containerd.

use std::process::ExitCode;

fn main() -> ExitCode {
    runwasi_daemon::thin::main(&runwasi_daemon::wasmtime::IDENTITY)
}
