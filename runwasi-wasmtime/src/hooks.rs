//! Hooks of an embedder: host functions for both linkers, and a step before each preparation.

use runwasi_core::{EngineError, InstanceSpec};
use wasmtime::{Linker, component};

use crate::{component::store::Component, module::store::Guest};

type ModuleHook = Box<dyn Fn(&mut Linker<Guest>) -> wasmtime::Result<()> + Send + Sync>;
type ComponentHook =
    Box<dyn Fn(&mut component::Linker<Component>) -> wasmtime::Result<()> + Send + Sync>;
type PrepareHook = Box<dyn Fn(&InstanceSpec) -> Result<(), EngineError> + Send + Sync>;

/// Hooks in the order of their registration.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) modules: Vec<ModuleHook>,
    pub(crate) components: Vec<ComponentHook>,
    pub(crate) preparations: Vec<PrepareHook>,
}

impl Hooks {
    /// Adds the embedder's functions to the linker of core modules.
    pub(crate) fn link_modules(&self, linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
        self.modules.iter().try_for_each(|hook| hook(linker))
    }

    /// Adds the embedder's functions to the linker of components.
    pub(crate) fn link_components(
        &self,
        linker: &mut component::Linker<Component>,
    ) -> wasmtime::Result<()> {
        self.components.iter().try_for_each(|hook| hook(linker))
    }

    /// Runs the steps before the preparation of a process. The first error refuses it.
    pub(crate) fn prepare(&self, spec: &InstanceSpec) -> Result<(), EngineError> {
        self.preparations.iter().try_for_each(|hook| hook(spec))
    }
}
