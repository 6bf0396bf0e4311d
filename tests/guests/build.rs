//! Run by cargo for every guest. `WASI_CRT` is set by `scripts/guests` where the compiler has no start files of its own:
//! the directory that has them.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=../build.rs");
    println!("cargo::rerun-if-env-changed=WASI_CRT");
    if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "wasm32") {
        let (kind, start) = match Path::new("src/main.rs").exists() {
            true => ("bins", "command"),
            false => ("cdylib", "reactor"),
        };
        if let Ok(directory) = env::var("WASI_CRT") {
            println!("cargo::rustc-link-arg-{kind}={directory}/crt1-{start}.o");
        }
        // A command module exports nothing but `_start` unless the linker is told to.
        if env::var("CARGO_PKG_NAME").is_ok_and(|name| name == "wasmtest") {
            println!("cargo::rustc-link-arg-bins=--export=greet");
            println!("cargo::rustc-link-arg-bins=--export=cabi_realloc");
        }
    }
}
