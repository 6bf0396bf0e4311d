//! Proposals to WebAssembly that wasmtime can do and has not finished. A setting turns them on.
//!
//! Three more have no setting. Shared-everything threads need shared memories, which could not be
//! limited; stack switching needs stacks beside those that the pool counts; exceptions in their old
//! form have no code in wasmtime's compiler.

use serde::{Deserialize, Serialize};

/// Makes the enum of proposals: name in the file, variant, and what it is.
macro_rules! unfinished {
    ($($name:literal $variant:ident $what:literal)*) => {
        /// A proposal that wasmtime has off by default.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
        pub enum Unfinished {
            $(#[doc = $what] #[serde(rename = $name)] $variant,)*
        }

        impl Unfinished {
            /// Their names in a file.
            #[cfg(test)]
            pub(crate) const NAMES: &[&str] = &[$($name),*];
        }
    };
}

unfinished! {
    "branch-hinting" BranchHinting "Hints for the layout of code."
    "custom-page-sizes" CustomPageSizes "Memories with pages of one byte."
    "component-async-builtins" AsyncBuiltins "More functions for asynchronous components."
    "component-async-stackful" AsyncStackful "Asynchronous functions of components without a callback."
    "component-error-context" ErrorContext "Errors as handles of components."
    "component-fixed-length-lists" FixedLengthLists "Lists of a fixed length in components."
    "component-gc" ComponentGc "Collected objects in calls of components."
    "component-implements" Implements "Several imports of one interface in components."
    "component-maps" Maps "Maps in components."
    "component-memory64" ComponentMemory64 "Memories with 64-bit addresses behind calls of components."
    "component-threads" Threads "Green threads of components."
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
