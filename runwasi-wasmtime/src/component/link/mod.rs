//! Imports of components.
//!
//! | module | one thing |
//! |---|---|
//! | `linker` | the linker with all interfaces |
//! | `files` | replacements for wasmtime-wasi's opening of files |
//! | `place` | directory of a call with a path |
//! | `paths` | replacements for its other functions with a path |
//! | `sync` | replacements for its syncs of files |
//! | `flags` | replacements for its `get-flags` |
//! | `streams_p2` | replacements for wasmtime-wasi's streams of files of p2 |
//! | `sockets` | replacements for wasmtime-wasi's functions that create sockets |
//! | `tcp_p3` | the streams of TCP sockets of p3, in parts, and their count |
//! | `names` | `wasi:sockets/ip-name-lookup` of both previews |
//! | `clocks` | replacements for the waits of `wasi:clocks`, exact ones |
//! | `poll` | `poll` of p2, with a bound |
//! | `parts` | replacements for functions with long work, in parts |
//! | `streams_p3` | replacements for the file streams of p3, in parts |
//! | `keyvalue`, `config`, `nn` (feature `wasi-nn`) | the interfaces of these names |

mod clocks;
mod config;
mod files;
mod flags;
mod keyvalue;
pub(crate) mod linker;
mod names;
#[cfg(feature = "wasi-nn")]
mod nn;
mod parts;
mod paths;
mod place;
mod poll;
mod sockets;
mod streams_p2;
mod streams_p3;
mod sync;
mod tcp_p3;

/// Version of WASI p2 under which wasmtime-wasi links its functions. Ours replace them only under
/// the same version.
// If the versions ever differ, guests get no sockets: wasmtime-wasi's own functions are allowed
// nothing.
const P2_VERSION: &str = "0.2.12";
