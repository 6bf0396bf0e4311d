//! containerd's runtime options: the message, then the TOML in it.

use containerd_shim_protos::protobuf::{Message, well_known_types::any::Any};
use runwasi_core::{fuzzing, options::RuntimeOptions};

use crate::settings_toml;

const TYPE: &str = "runtimeoptions.v1.Options";
/// Keys of containerd, which no engine gets.
const CONTAINERD_KEYS: [&str; 2] = ["TypeUrl", "ConfigPath"];

/// Reads the bytes as a message of any type, and as the content of one for us.
pub fn check(bytes: &[u8]) {
    let ours = Any { type_url: TYPE.to_owned(), value: bytes.to_owned(), ..Any::default() };
    check_message(&ours);
    if let Ok(any) = Any::parse_from_bytes(bytes) {
        check_message(&any);
    }
}

/// Options for other runtimes are none. Those in the message give settings without containerd's own
/// keys, or an error that names them as its place.
fn check_message(any: &Any) {
    let is_for_us = any.type_url.rsplit('/').next() == Some(TYPE);
    let options = match fuzzing::runtime_options(any) {
        Ok(options) => options,
        Err(error) => {
            assert!(is_for_us && !error.is_empty(), "{any:?}: {error}");
            return;
        }
    };
    assert!(is_for_us || options == RuntimeOptions::None, "{any:?}");
    // A file of the host, named by its administrator: its content is the target `settings_toml`.
    if let RuntimeOptions::File(path) = options {
        return assert!(!path.as_os_str().is_empty());
    }
    match fuzzing::read_options(&options) {
        Ok(raw) => {
            let mut keys = raw.entries.iter().map(|entry| entry.key.as_str());
            assert!(keys.all(|key| !CONTAINERD_KEYS.contains(&key)));
            if let Err(error) = settings_toml::check_settings(&raw) {
                crate::check_error(&error, "runtime options:");
            }
        }
        Err(error) => crate::check_error(&error, "runtime options:"),
    }
}
