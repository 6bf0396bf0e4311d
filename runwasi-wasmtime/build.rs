//! Run by cargo: how the programs of this crate are linked.
//!
//! At fixed addresses, since a position independent program of this size has 73,000 addresses in
//! its data for the loader to correct: 0.8 ms of each start, and 1.1 MB that no two processes
//! share. What this gives up: docs/security.md, "Addresses". `RUNWASI_PIE=1` links as Rust does by
//! default.
//!
//! With the unwinder in the program: its library asks the processor for its features before `main`,
//! which a virtual machine answers slowly. To load and prepare it was a fourth of the CPU time of a
//! process that does nothing, and a container has two such processes of a shim.

use std::{env, fs, io, path::Path};

/// Contents of a file that the linker takes for the library of the unwinder.
const UNWINDER: &str = "INPUT ( -lgcc_eh )";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RUNWASI_PIE");
    // Another C library has other start files, which the compiler chooses before it sees this.
    let gnu = env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu");
    let pie = env::var("RUNWASI_PIE").is_ok_and(|value| value == "1");
    if gnu && !pie {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
    if gnu && let Some(directory) = env::var_os("OUT_DIR") {
        let directory = Path::new(&directory);
        fs::write(directory.join("libgcc_s.so"), UNWINDER)?;
        println!("cargo::rustc-link-arg-bins=-L{}", directory.display());
    }
    Ok(())
}
