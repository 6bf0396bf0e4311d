//! The node daemon: all containers of a node in one process.

fn main() -> std::process::ExitCode {
    runwasi_daemon::main::<shim_wasmi::Wasmi>(&shim_wasmi::IDENTITY)
}
