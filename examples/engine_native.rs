//! An engine with a plain async Rust function as its guest: with the two traits it is a complete
//! containerd shim.
//!
//! Run with: `ctr run --runtime=io.containerd.native.v1 …` and this program as
//! `containerd-shim-native-v1` in containerd's `PATH`.

mod native;

use std::process::ExitCode;

use runwasi_core::cli::{self, About};

use crate::native::Native;

fn main() -> ExitCode {
    let about = About {
        runtime: "io.containerd.native.v1",
        version: env!("CARGO_PKG_VERSION"),
        engine: "native",
        annotations: &[],
    };
    cli::main(about, || Ok(Native))
}
