//! Entries to what reads untrusted bytes, for the fuzz targets in `fuzz` (feature `fuzzing`).
//!
//! Each function passes its input to the function that a shim calls, and adds nothing.

use std::path::Path;

use containerd_shim_protos::protobuf::well_known_types::any::Any;

use crate::{
    artifact::{
        FileIdentity,
        oci::{self, Images, blob::Layer, error::ImageError},
    },
    bootstrap::{invocation::Invocation, protocol::StartInput},
    bundle::config::{self, Config, ConfigError},
    digest::Digest,
    id::Id,
    options::RuntimeOptions,
    service,
    settings::{RawSettings, SettingsError},
};

/// Checks the content of a `config.json`.
pub fn config(path: &Path, bytes: &[u8]) -> Result<Config, ConfigError> {
    Config::from_json(path, bytes)
}

/// Reads only the group from the content of a `config.json`, as the thin shim does.
pub fn group(path: &Path, bytes: &[u8], id: &Id) -> Result<Id, ConfigError> {
    config::group_in(path, bytes, id)
}

/// Decodes runtime options of a message.
pub fn runtime_options(any: &Any) -> Result<RuntimeOptions, String> {
    service::options::decode(any).map_err(|error| error.to_string())
}

/// Reads runtime options.
pub fn read_options(options: &RuntimeOptions) -> Result<RawSettings, SettingsError> {
    options.read()
}

/// Decodes the stdin of `start`.
pub fn start_input(bytes: &[u8], invocation: &Invocation) -> StartInput {
    StartInput::decode(bytes, invocation)
}

/// The wasm layer of a container's image that `name` selects.
pub async fn find_layer(
    images: &dyn Images,
    container: &Id,
    name: &str,
) -> Result<Layer, ImageError> {
    oci::named::find_layer(images, container, None, name).await
}

/// An identity of a file.
pub fn file_identity(layers: Digest, inode: u64, times: (i64, i64)) -> FileIdentity {
    FileIdentity { layers, inode, bytes: inode, modified: times, changed: times }
}
