//! Proposals to WebAssembly that wasmtime can do and has not finished. A setting turns them on.
//!
//! Three more have no setting. Shared-everything threads need shared memories, which could not be
//! limited; stack switching needs stacks beside those that the pool counts; exceptions in their old
//! form have no code in wasmtime's compiler.

use serde::{Deserialize, Serialize};
use wasmtime::Config;

/// Makes the enum of proposals: name in the file, variant, function of `Config`, and what it is.
macro_rules! unfinished {
    ($($name:literal $variant:ident $enable:ident $what:literal)*) => {
        /// A proposal that wasmtime has off by default.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
        pub enum Unfinished {
            $(#[doc = $what] #[serde(rename = $name)] $variant,)*
        }

        impl Unfinished {
            /// Their names in a file.
            #[cfg(test)]
            pub(crate) const NAMES: &[&str] = &[$($name),*];

            /// Lets guests use it.
            pub(crate) fn enable(self, config: &mut Config) {
                match self {
                    $(Self::$variant => config.$enable(true),)*
                };
            }
        }
    };
}

unfinished! {
    "branch-hinting" BranchHinting wasm_branch_hinting "Hints for the layout of code."
    "custom-page-sizes" CustomPageSizes wasm_custom_page_sizes "Memories with pages of one byte."
    "component-async-builtins" AsyncBuiltins wasm_component_model_more_async_builtins
        "More functions for asynchronous components."
    "component-async-stackful" AsyncStackful wasm_component_model_async_stackful
        "Asynchronous functions of components without a callback."
    "component-error-context" ErrorContext wasm_component_model_error_context
        "Errors as handles of components."
    "component-fixed-length-lists" FixedLengthLists wasm_component_model_fixed_length_lists
        "Lists of a fixed length in components."
    "component-gc" ComponentGc wasm_component_model_gc "Collected objects in calls of components."
    "component-implements" Implements wasm_component_model_implements
        "Several imports of one interface in components."
    "component-maps" Maps wasm_component_model_map "Maps in components."
    "component-memory64" ComponentMemory64 wasm_component_model_memory64
        "Memories with 64-bit addresses behind calls of components."
    "component-threads" Threads wasm_component_model_threading "Green threads of components."
}

#[cfg(test)]
mod tests {
    use serde::de::value::{Error, StrDeserializer};

    use super::*;
    use crate::{config::config, settings::Settings};

    #[test]
    fn an_engine_can_be_made_with_each_and_with_all() {
        let read = |name| Unfinished::deserialize(StrDeserializer::<Error>::new(name)).unwrap();
        let all: Vec<_> = Unfinished::NAMES.iter().map(|name| read(name)).collect();
        for proposals in all.iter().map(|one| vec![*one]).chain([all.clone()]) {
            let unfinished_proposals = proposals.into_iter().collect();
            let settings = Settings { unfinished_proposals, ..Settings::default() };
            wasmtime::Engine::new(&config(&settings)).unwrap();
        }
    }
}
