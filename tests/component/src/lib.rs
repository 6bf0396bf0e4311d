//! From modules to components, without tools that a machine would have to install. Called by the binary `wasm-component`,
//! and so by `scripts/guests`, and by tests that need a component of their own.

use std::borrow::Cow;

use anyhow::{Context, Result};
use wasi_preview1_component_adapter_provider as adapters;
use wit_component::ComponentEncoder;

/// What translates a module's preview 1 to the WASI of components.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adapter {
    /// For a module with `_start`, which becomes `wasi:cli/run`.
    Command,
    /// For a module whose bindings declare its exports.
    Reactor,
    /// The same with no more of WASI than an HTTP handler has.
    Proxy,
}

impl Adapter {
    fn bytes(self) -> &'static [u8] {
        match self {
            Self::Command => adapters::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
            Self::Reactor => adapters::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
            Self::Proxy => adapters::WASI_SNAPSHOT_PREVIEW1_PROXY_ADAPTER,
        }
    }
}

/// The binary form of a module or component.
pub fn assemble(wasm_or_text: &[u8]) -> Result<Vec<u8>> {
    Ok(wat::parse_bytes(wasm_or_text).map(Cow::into_owned)?)
}

/// The component of a module. Of the adapter, only what the module imports is kept.
pub fn wrap(wasm_or_text: &[u8], adapter: Adapter) -> Result<Vec<u8>> {
    let module = assemble(wasm_or_text)?;
    let encoder = ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .context("no module for a component")?;
    let encoder =
        encoder.adapter(adapters::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, adapter.bytes())?;
    { encoder }.encode().context("no component of this module")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMAND: &str = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (func (export "_start") (call $exit (i32.const 0))))"#;

    /// The version field of what is in no module: a component.
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
    const MODULE: &[u8] = b"\0asm\x01\0\0\0";

    #[test]
    fn command_becomes_a_component() {
        assert!(assemble(COMMAND.as_bytes()).unwrap().starts_with(MODULE));
        assert!(wrap(COMMAND.as_bytes(), Adapter::Command).unwrap().starts_with(COMPONENT));
    }

    #[test]
    fn binary_and_text_give_the_same() {
        let binary = assemble(COMMAND.as_bytes()).unwrap();
        assert_eq!(
            wrap(&binary, Adapter::Command).unwrap(),
            wrap(COMMAND.as_bytes(), Adapter::Command).unwrap()
        );
    }

    #[test]
    fn what_is_no_module_is_refused() {
        assert!(assemble(b"(module (nonsense))").is_err());
        assert!(wrap(COMPONENT, Adapter::Reactor).is_err());
        let unknown = r#"(module (import "env" "f" (func)) (func (export "_start")))"#;
        assert!(
            format!("{:#}", wrap(unknown.as_bytes(), Adapter::Command).unwrap_err())
                .contains("env")
        );
    }
}
