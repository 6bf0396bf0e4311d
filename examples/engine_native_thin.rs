//! The thin shim of `engine-native-daemon`, which containerd starts for each pod.
//!
//! Run with: `ctr run --runtime=io.containerd.natived.v1 …` and this program as
//! `containerd-shim-natived-v1` in containerd's `PATH`.

mod native_identity;

use std::process::ExitCode;

fn main() -> ExitCode {
    runwasi_daemon::thin::main(&native_identity::IDENTITY)
}
