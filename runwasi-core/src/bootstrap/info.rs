//! `-info`: the call of containerd 2.0 and later before it uses a runtime.

use containerd_shim_protos::{
    protobuf::{Message, MessageField},
    types::introspection::{RuntimeInfo, RuntimeVersion},
};

use super::{BootstrapError, invocation::About};

/// A protobuf `RuntimeInfo` for stdout.
// The options on stdin do not change it, so they are not read.
pub fn runtime_info(about: &About) -> Result<Vec<u8>, BootstrapError> {
    let version = RuntimeVersion { version: about.version.to_owned(), ..RuntimeVersion::default() };
    let info = RuntimeInfo {
        name: about.runtime.to_owned(),
        version: MessageField::some(version),
        annotations: [("engine".to_owned(), about.engine.to_owned())].into(),
        ..RuntimeInfo::default()
    };
    info.write_to_bytes().map_err(|error| BootstrapError::Encode(error.to_string()))
}
