//! The thin shim of the daemon: `ctr run --runtime=io.containerd.wasmid.v1 …`

fn main() -> std::process::ExitCode {
    runwasi_daemon::thin::main(&shim_wasmi::IDENTITY)
}
