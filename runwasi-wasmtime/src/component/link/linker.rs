//! Linker of components: WASI p2 and p3, `wasi:http`, `wasi:config` and `wasi:keyvalue`, with our
//! functions in place of some of wasmtime-wasi's.
//!
//! It is built once for each engine, when the first component is loaded, because this takes longer
//! than the start of a core module.

use wasmtime::{Engine, component::Linker};
use wasmtime_wasi::{p2, p3};
use wasmtime_wasi_http::{p2 as http_p2, p3 as http_p3};

use super::{
    clocks, config, files, flags, keyvalue, names, parts, paths, poll, sockets, streams_p2,
    streams_p3, sync, tcp_p3,
};
use crate::component::store::Component;

/// Builds a linker with all interfaces.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Component>> {
    let mut linker = Linker::new(engine);
    p2::add_to_linker_async(&mut linker)?;
    http_p2::add_only_http_to_linker_async(&mut linker)?;
    p3::add_to_linker(&mut linker)?;
    http_p3::add_to_linker(&mut linker)?;
    // Only for our replacements: any other duplicate definition is a mistake.
    linker.allow_shadowing(true);
    files::link(&mut linker)?;
    paths::link(&mut linker)?;
    sync::link(&mut linker)?;
    flags::link(&mut linker)?;
    streams_p2::link(&mut linker)?;
    sockets::link(&mut linker)?;
    tcp_p3::link(&mut linker)?;
    names::link(&mut linker)?;
    clocks::link(&mut linker)?;
    poll::link(&mut linker)?;
    parts::link(&mut linker)?;
    streams_p3::link(&mut linker)?;
    linker.allow_shadowing(false);
    config::link(&mut linker)?;
    keyvalue::link(&mut linker)?;
    #[cfg(feature = "wasi-nn")]
    super::nn::link(&mut linker)?;
    Ok(linker)
}
