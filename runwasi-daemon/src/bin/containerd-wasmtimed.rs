//! The node daemon `containerd-wasmtimed`. Started by systemd or by hand.

use std::process::ExitCode;

use runwasi_daemon::wasmtime::Wasmtime;
use runwasi_wasmtime::ABOUT;

fn main() -> ExitCode {
    runwasi_daemon::main::<Wasmtime>(ABOUT)
}
