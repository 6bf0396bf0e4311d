//! [`Builder`] of an engine with host functions of the embedder.

use std::sync::Arc;

use runwasi_core::{EngineError, InstanceSpec};
use wasmtime::{Linker, component};

use crate::{
    component::store::Component, engine::WasmtimeEngine, hooks::Hooks, module::store::Guest,
    settings::Settings,
};

/// Builder of a [`WasmtimeEngine`]: settings, and hooks for host functions.
///
/// Host functions are called by the future of their guest. They must not block its thread, and
/// hand long work to async functions of the linker. A dropped guest drops them at any await.
/// Compiled code does not depend on host functions, so engines with different ones share the code
/// cache.
#[must_use = "a builder without `build` has no effect"]
pub struct Builder {
    settings: Settings,
    for_pod: bool,
    hooks: Hooks,
}

// Here and not beside the engine, which does not know its builder.
impl WasmtimeEngine {
    /// Begins an engine with hooks for host functions.
    pub fn builder(settings: &Settings) -> Builder {
        Builder { settings: settings.clone(), for_pod: false, hooks: Hooks::default() }
    }
}

impl Builder {
    /// Lets the runtime options of a pod's first container override the settings. Without it they
    /// are fixed, as on a node.
    pub fn for_pod(self) -> Self {
        Self { for_pod: true, ..self }
    }

    /// Adds host functions for core modules. Called by [`Builder::build`], and again whenever the
    /// engine is rebuilt after a change of settings or to return its memory. A second definition of
    /// a name is an error; it fails the build.
    pub fn module_imports(
        mut self,
        hook: impl Fn(&mut Linker<Guest>) -> wasmtime::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.hooks.modules.push(Box::new(hook));
        self
    }

    /// Adds host functions for components. Called when an engine loads its first component, perhaps
    /// by several threads. An error refuses every component.
    pub fn component_imports<F>(mut self, hook: F) -> Self
    where
        F: Fn(&mut component::Linker<Component>) -> wasmtime::Result<()> + Send + Sync + 'static,
    {
        self.hooks.components.push(Box::new(hook));
        self
    }

    /// Adds a step before the preparation of each process, on the control runtime: it must not
    /// block. It can put values of the container into [`InstanceSpec::extensions`]. An error
    /// refuses containerd's `Create` or `Exec`.
    pub fn on_prepare(
        mut self,
        hook: impl Fn(&InstanceSpec) -> Result<(), EngineError> + Send + Sync + 'static,
    ) -> Self {
        self.hooks.preparations.push(Box::new(hook));
        self
    }

    /// Builds the engine. Starts its ticker thread, which sleeps as long as no guest runs.
    pub fn build(self) -> Result<WasmtimeEngine, EngineError> {
        let base = self.for_pod.then(|| self.settings.clone());
        WasmtimeEngine::with_hooks(self.settings, base, Arc::new(self.hooks))
    }
}
