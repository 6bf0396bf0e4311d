//! A process in the terms of WASI.
//!
//! | module | one thing |
//! |---|---|
//! | `context` | the process → a WASI context |
//! | `stdio` | the process's streams as WASI streams |
//! | `config` | `wasi:config`: the process's values |
//! | `keyvalue` | `wasi:keyvalue`: the container's data |
//! | `nn` (feature `wasi-nn`) | `wasi:nn`: models that a component runs |

pub(crate) mod config;
pub(crate) mod context;
pub(crate) mod keyvalue;
#[cfg(feature = "wasi-nn")]
pub(crate) mod nn;
mod stdio;
