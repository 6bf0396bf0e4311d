//! Annotations `io.runwasi.*` of a container. An unknown one is refused: a misspelt
//! `io.runwasi.network.outbound` must not run with everything allowed.

use std::collections::HashMap;

use crate::{engine::error::EngineError, resources::memory::ON_LIMIT};

/// Prefix of all annotations of this project.
const PREFIX: &str = "io.runwasi.";

/// Refuses an unknown annotation. `engine` has the names that the engine reads.
pub(super) fn check(
    annotations: &HashMap<String, String>,
    engine: &[&str],
) -> Result<(), EngineError> {
    let known = || engine.iter().copied().chain([ON_LIMIT]);
    let is_known = |name: &str| {
        known().any(|known| match known.ends_with('.') {
            true => name.starts_with(known),
            false => name == known,
        })
    };
    let unknown =
        annotations.keys().filter(|name| name.starts_with(PREFIX) && !is_known(name)).min();
    match unknown {
        None => Ok(()),
        Some(name) => Err(EngineError::Annotation(format!(
            "annotation {name} is unknown; known are {}",
            known().map(shown).collect::<Vec<_>>().join(", ")
        ))),
    }
}

/// A name for users, with a star for the rest behind a prefix.
fn shown(name: &str) -> String {
    let rest = if name.ends_with('.') { "*" } else { "" };
    format!("{name}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENGINE: [&str; 2] = ["io.runwasi.config.", "io.runwasi.network.outbound"];

    fn checked(name: &str) -> Result<(), String> {
        let annotations = HashMap::from([(name.to_owned(), "none".to_owned())]);
        check(&annotations, &ENGINE).map_err(|error| error.to_string())
    }

    #[test]
    fn annotations_of_the_project_are_known_or_refused() {
        for name in [
            "io.runwasi.network.outbound",
            "io.runwasi.config.any.name",
            ON_LIMIT,
            "io.kubernetes.cri.sandbox-id",
            "com.example.io.runwasi.x",
        ] {
            checked(name).unwrap();
        }
        for name in [
            "io.runwasi.network.outbond",
            "io.runwasi.network.outbound.more",
            "io.runwasi.config",
            "io.runwasi.",
        ] {
            let error = checked(name).unwrap_err();
            let known = "known are io.runwasi.config.*, io.runwasi.network.outbound, io.runwasi.";
            assert!(error.contains(&format!("annotation {name} is unknown; {known}")), "{error}");
        }
    }
}
