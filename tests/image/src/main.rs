//! The binary `oci-image`: writes one image tar, as its arguments say. Called by `scripts/guests`.

use std::process::ExitCode;

use runwasi_image::cli;

fn main() -> ExitCode {
    match cli::run(std::env::args_os().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("oci-image: {error:#}");
            ExitCode::FAILURE
        }
    }
}
