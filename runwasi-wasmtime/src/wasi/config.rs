//! `wasi:config`: what a guest finds there.
//!
//! The container's annotations `io.runwasi.config.NAME`, and the process's environment under the names that these leave free. Guests
//! only read it.

use runwasi_core::InstanceSpec;
use wasmtime_wasi_config::WasiConfigVariables;

/// What is behind it is the value's name.
const ANNOTATION: &str = "io.runwasi.config.";

/// A process's values.
pub(crate) struct Values(pub(crate) WasiConfigVariables);

impl Values {
    pub(crate) fn of(spec: &InstanceSpec) -> Self {
        let annotated = spec
            .annotations
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(ANNOTATION)?, value.as_str())));
        let environment = spec.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        // A later one of a name replaces an earlier one.
        Self(environment.chain(annotated).collect())
    }
}
