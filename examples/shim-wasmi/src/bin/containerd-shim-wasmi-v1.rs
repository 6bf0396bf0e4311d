//! The shim, which containerd starts for each pod: `ctr run --runtime=io.containerd.wasmi.v1 …`

use runwasi_core::cli::{self, About};
use shim_wasmi::{IDENTITY, Wasmi};

fn main() -> std::process::ExitCode {
    cli::main(About { runtime: "io.containerd.wasmi.v1", ..IDENTITY.about() }, || Ok(Wasmi))
}
