//! The program `runwasi-node-installer`. Started by the DaemonSet in `deploy`, or by hand.

use std::process::ExitCode;

fn main() -> ExitCode {
    runwasi_installer::cli::main()
}
