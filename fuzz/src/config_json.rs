//! `config.json` of a bundle.

use std::{path::Path, sync::Arc};

use oci_spec::runtime::Spec;
use runwasi_core::{Id, bundle::config::Config, fuzzing};

const PATH: &str = "/bundle/config.json";

/// An error names the file. What is accepted is accepted again after it was written anew, with the
/// same settings; and the thin shim, which reads less of it, finds the same group.
pub fn check(json: &[u8]) {
    let path = Path::new(PATH);
    let config = match fuzzing::config(path, json) {
        Ok(config) => config,
        Err(error) => return crate::check_error(&error, &format!("{PATH}: ")),
    };
    let id = Id::parse("container id", "c1").expect("a valid id");
    let group = fuzzing::group(path, json, &id).expect("the thin shim accepts it, too");
    assert_eq!(group, config.pod.clone().unwrap_or(id), "group");
    let spec: Spec = serde_json::from_slice(json).expect("an accepted config is a spec");
    let written = serde_json::to_vec(&spec).expect("a spec is JSON");
    let again = fuzzing::config(path, &written).expect("it is accepted again");
    assert_eq!(config.annotations, again.annotations);
    assert_eq!(shown(config), shown(again));
}

/// The settings without the annotations, which have no order.
fn shown(config: Config) -> String {
    format!("{:?}", Config { annotations: Arc::default(), ..config })
}
