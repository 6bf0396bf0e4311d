//! Values of `wasi:config` for a process.
//!
//! They are the container's annotations `io.runwasi.config.NAME`, and the process's environment
//! variables of all other names. Guests can only read them.

use runwasi_core::InstanceSpec;
use wasmtime_wasi_config::WasiConfigVariables;

/// Prefix of the annotations. The rest of the key is the value's name.
pub(crate) const ANNOTATION: &str = "io.runwasi.config.";

/// The values of a process.
pub(crate) struct Values(pub(crate) WasiConfigVariables);

impl Values {
    pub(crate) fn of(spec: &InstanceSpec) -> Self {
        let annotated = spec
            .annotations
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(ANNOTATION)?, value.as_str())));
        let environment = spec.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        // Annotations last: of equal names the later entry counts.
        Self(environment.chain(annotated).collect())
    }
}
