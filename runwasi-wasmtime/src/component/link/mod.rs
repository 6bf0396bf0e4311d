//! What components may import.
//!
//! | module | one thing |
//! |---|---|
//! | `linker` | all of it |
//! | `files` | the file calls that stand in front of the library's own |
//! | `sockets` | the functions that make sockets, in front of the library's own |
//! | `names` | `wasi:sockets/ip-name-lookup` of both previews |
//! | `keyvalue`, `config`, `nn` (feature `wasi-nn`) | the interfaces of these names |

mod config;
mod files;
mod keyvalue;
pub(crate) mod linker;
mod names;
#[cfg(feature = "wasi-nn")]
mod nn;
mod sockets;

/// The version of WASI p2 under which the library links its functions: ours must stand in front of these. Should they ever part,
/// guests get no sockets: the library's own functions are allowed nothing.
const P2_VERSION: &str = "0.2.12";
