//! Fuzz targets: each reads bytes that come from outside, as a shim or the daemon does, and checks
//! more than the absence of panics.
//!
//! | target | input |
//! |---|---|
//! | [`bootstrap_stdin`] | stdin of `start`: containerd's bootstrap params, or runtime options |
//! | [`cache_files`] | files of compiled code, links of the digest index |
//! | [`config_json`] | `config.json` of a bundle |
//! | [`daemon_config`] | the daemon's file, environment and command line |
//! | [`image_manifest`] | indexes and manifests of images |
//! | [`runtime_options`] | containerd's runtime options |
//! | [`settings_toml`] | settings as TOML |
//! | [`ttrpc_frames`] | bytes of a connection to a sandbox's socket |
//!
//! A target is a function over bytes here and a program in `targets`. `scripts/fuzz` runs them.

pub mod bootstrap_stdin;
pub mod cache_files;
pub mod config_json;
pub mod daemon_config;
pub mod image_manifest;
mod memory;
pub mod runtime_options;
pub mod settings_toml;
pub mod ttrpc_frames;

// The file itself: its crate compiles wasmtime, which nothing here needs.
#[path = "../../runwasi-wasmtime/src/settings.rs"]
#[allow(dead_code, reason = "the engine uses the rest")]
mod settings;
// The values in force of absent ones.
#[path = "../../runwasi-wasmtime/src/pool_sizes.rs"]
#[allow(dead_code, reason = "the engine uses the rest")]
mod pool_sizes;
// A constant of it bounds one of these settings.
#[path = "../../runwasi-wasmtime/src/maps.rs"]
#[allow(dead_code, reason = "the engine uses the rest")]
mod maps;

// Names that one of these settings has.
#[path = "../../runwasi-wasmtime/src/proposals.rs"]
mod proposals;

pub use memory::bounded;

/// A directory for the files of this process, in the temporary directory that `scripts/fuzz` removes:
/// libFuzzer ends the process without its destructors.
fn directory() -> std::path::PathBuf {
    let directory = std::env::temp_dir().join(format!("runwasi-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("directory of the target");
    directory
}

/// Checks that an error has its place at the beginning, and a reason after it.
fn check_error(error: &impl std::fmt::Display, place: &str) {
    let text = error.to_string();
    let reason = text.strip_prefix(place);
    let named = reason.is_some_and(|reason| !reason.trim_matches([':', ' ']).is_empty());
    assert!(named, "no place {place:?} or no reason: {text:?}");
}
