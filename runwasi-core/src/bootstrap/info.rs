//! `-info`: the call of containerd 2.0 and later before it uses a runtime.
//!
//! The answer has the features of the OCI runtime spec (`features.md`), in the form of
//! `containerd-shim-runc-v2`: JSON under a name that containerd's clients know.

use containerd_shim_protos::{
    protobuf::{Message, MessageField, well_known_types::any::Any},
    types::introspection::{RuntimeInfo, RuntimeVersion},
};
use serde_json::{Value, json};

use super::{BootstrapError, invocation::About};
use crate::{
    bundle::{hooks, mount_options},
    resources::memory::ON_LIMIT,
};

/// Name of the features' type (`containerd/typeurl`).
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// A protobuf `RuntimeInfo` for stdout.
// The options on stdin do not change it, so they are not read.
pub fn runtime_info(about: &About) -> Result<Vec<u8>, BootstrapError> {
    let version = RuntimeVersion { version: about.version.to_owned(), ..RuntimeVersion::default() };
    let features = Any {
        type_url: FEATURES.to_owned(),
        value: features(about).to_string().into_bytes(),
        ..Any::default()
    };
    let info = RuntimeInfo {
        name: about.runtime.to_owned(),
        version: MessageField::some(version),
        features: MessageField::some(features),
        annotations: [("engine".to_owned(), about.engine.to_owned())].into(),
        ..RuntimeInfo::default()
    };
    info.write_to_bytes().map_err(|error| BootstrapError::Encode(error.to_string()))
}

/// The features. A name that is not there is not known, as the spec says it.
fn features(about: &About) -> Value {
    let off = json!({ "enabled": false });
    let mut annotations = about.annotations.to_vec();
    annotations.push(ON_LIMIT);
    annotations.sort_unstable();
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.3.0",
        "hooks": hooks::NAMES,
        "mountOptions": mount_options::names().collect::<Vec<_>>(),
        "linux": {
            // Also those of which a guest sees nothing.
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "uts"],
            "cgroup": {
                "v1": true, "v2": true, "systemd": true, "systemdUser": false, "rdma": false,
            },
            "seccomp": off,
            "apparmor": off,
            "selinux": off,
            "intelRdt": off,
            "mountExtensions": { "idmap": off },
            "netDevices": off,
        },
        "annotations": { "io.runwasi.version": about.version, "io.runwasi.engine": about.engine },
        // A name that ends with a dot stands for all that begin with it.
        "potentiallyUnsafeConfigAnnotations": annotations,
    })
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::Features;

    use super::*;

    #[test]
    fn features_are_those_of_the_spec() {
        let about = About {
            runtime: "io.containerd.test.v1",
            version: "1.2.3",
            engine: "test",
            annotations: &["io.runwasi.test."],
        };
        let told: Features = serde_json::from_value(features(&about)).unwrap();
        let has =
            |list: &Option<Vec<String>>, name: &str| list.iter().flatten().any(|one| one == name);
        assert!(has(told.mount_options(), "rro") && !has(told.mount_options(), "idmap"));
        assert!(has(told.hooks(), "poststop") && !has(told.hooks(), "startContainer"));
        let annotations = told.potentially_unsafe_config_annotations();
        assert!(has(annotations, "io.runwasi.test.") && has(annotations, ON_LIMIT));
        let linux = told.linux().as_ref().unwrap();
        assert_eq!(linux.seccomp().as_ref().unwrap().enabled(), &Some(false));
    }
}
