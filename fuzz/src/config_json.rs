//! `config.json` of a bundle.

use std::{path::Path, sync::Arc};

use runwasi_core::{Id, bundle::config::Config, fuzzing};
use serde_json::Value;

const PATH: &str = "/bundle/config.json";

/// An error names the file. What is accepted is accepted again after it was written anew, with the
/// same settings; and the thin shim, which reads less of it, finds no other group.
pub fn check(json: &[u8]) {
    let path = Path::new(PATH);
    let config = match fuzzing::config(path, json) {
        Ok(config) => config,
        Err(error) => return crate::check_error(&error, &format!("{PATH}: ")),
    };
    let id = Id::parse("container id", "c1").expect("a valid id");
    // The thin shim may refuse more: it takes no field that is there twice.
    if let Ok(group) = fuzzing::group(path, json, &id) {
        assert_eq!(group, config.pod.clone().unwrap_or(id), "group");
    }
    // Not as a spec: values without an effect need not be known. Fields that are passed over may hold
    // bytes that are no text.
    let Ok(value) = serde_json::from_slice::<Value>(json) else { return };
    let written = serde_json::to_vec(&value).expect("a value is JSON");
    let again = fuzzing::config(path, &written).expect("it is accepted again");
    assert_eq!(config.annotations, again.annotations);
    assert_eq!(shown(config), shown(again));
}

/// The settings without the annotations, which have no order.
fn shown(config: Config) -> String {
    format!("{:?}", Config { annotations: Arc::default(), ..config })
}
