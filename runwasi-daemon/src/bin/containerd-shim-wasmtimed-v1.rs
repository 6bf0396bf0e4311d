//! The thin shim `containerd-shim-wasmtimed-v1`. Started by containerd.

use std::process::ExitCode;

use runwasi_core::cli::About;

fn main() -> ExitCode {
    runwasi_daemon::thin::main(About {
        runtime: "io.containerd.wasmtimed.v1",
        ..runwasi_wasmtime::ABOUT
    })
}
