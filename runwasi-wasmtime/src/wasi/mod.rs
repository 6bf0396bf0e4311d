//! WASI for a process.
//!
//! | module | one thing |
//! |---|---|
//! | `context` | the WASI context of a process |
//! | `directory` | entries of a directory, in batches |
//! | `errno` | errors of the kernel in all versions of WASI |
//! | `open` | opening of files, without waiting |
//! | `paths` | calls with a path |
//! | `polled` | the process's streams with hand-written polls |
//! | `sink` | writes of a stream to a file |
//! | `stdio` | the process's streams as WASI streams |
//! | `sync` | `fsync(2)` and `fdatasync(2)` |
//! | `config` | values of `wasi:config` of a process |
//! | `keyvalue` | data of `wasi:keyvalue` of a container |
//! | `nn` (feature `wasi-nn`) | `wasi:nn`: models that a component runs |

pub(crate) mod config;
pub(crate) mod context;
pub(crate) mod directory;
pub(crate) mod errno;
pub(crate) mod keyvalue;
#[cfg(feature = "wasi-nn")]
pub(crate) mod nn;
pub(crate) mod open;
pub(crate) mod paths;
pub(crate) mod polled;
pub(crate) mod sink;
pub(crate) mod stdio;
pub(crate) mod sync;
