//! A CycloneDX 1.6 document of the parts of a release.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::graph::{Graph, Package, Part};

/// The document for the programs of these packages, the first of which names version and licence.
pub(crate) fn document(graph: &Graph, names: &[String], time: &str) -> Result<Value> {
    let parts = graph.parts(names)?;
    let first = parts.iter().find(|part| names.first() == Some(&part.package.name));
    let first = first.context("no package is named")?.package;
    let components: Vec<_> = parts.iter().map(component).collect();
    let mut dependencies = vec![json!({
        "ref": "runwasi",
        "dependsOn": names_of(&parts, names),
    })];
    dependencies.extend(parts.iter().map(dependency));
    let product = json!({
        "type": "application",
        "bom-ref": "runwasi",
        "name": "runwasi",
        "version": first.version,
        "licenses": licenses(first),
    });
    Ok(json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": serial_number(&json!([product, components, dependencies])),
        "version": 1,
        "metadata": {"timestamp": time, "component": product},
        "components": components,
        "dependencies": dependencies,
    }))
}

fn component(part: &Part<'_>) -> Value {
    let package = part.package;
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    set("type", "library".into());
    set("bom-ref", reference(package).into());
    set("name", package.name.as_str().into());
    set("version", package.version.as_str().into());
    if let Some(description) = &package.description {
        set("description", description.trim().into());
    }
    // The specification's word for what is no part of the programs.
    set("scope", if part.is_linked { "required" } else { "excluded" }.into());
    if let Some(checksum) = part.checksum {
        set("hashes", json!([{"alg": "SHA-256", "content": checksum}]));
    }
    set("licenses", licenses(package));
    set("purl", reference(package).into());
    Value::Object(fields)
}

fn dependency(part: &Part<'_>) -> Value {
    let below: Vec<_> = part.depends_on.iter().map(|package| reference(package)).collect();
    json!({"ref": reference(part.package), "dependsOn": below})
}

fn names_of(parts: &[Part<'_>], names: &[String]) -> Vec<String> {
    let named = parts.iter().filter(|part| names.contains(&part.package.name));
    named.map(|part| reference(part.package)).collect()
}

/// The package's address in the registry, which also names it within the document.
fn reference(package: &Package) -> String {
    format!("pkg:cargo/{}@{}", package.name, package.version.replace('+', "%2B"))
}

/// The licences as an SPDX expression. Old crates have `/` for `OR`.
fn licenses(package: &Package) -> Value {
    match &package.license {
        Some(license) => json!([{"expression": license.replace('/', " OR ")}]),
        None => json!([]),
    }
}

/// A UUID of what the document says, so that the same release has the same one.
fn serial_number(content: &Value) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::digest(content.to_string())[..16]);
    // Version 8 is one of the application's own making.
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let [a, b, c, d] = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20]];
    format!("urn:uuid:{a}-{b}-{c}-{d}-{}", &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::tests::graph;

    fn of_app() -> Value {
        document(&graph(), &["app".to_owned()], "2026-01-31T12:00:00Z").unwrap()
    }

    #[test]
    fn document_has_the_fields_that_the_specification_requires() {
        let document = of_app();
        assert_eq!(document["bomFormat"], "CycloneDX");
        assert_eq!(document["specVersion"], "1.6");
        assert_eq!(document["metadata"]["component"]["version"], "1.0.0");
        let serial = document["serialNumber"].as_str().unwrap();
        assert!(serial.starts_with("urn:uuid:") && serial.len() == 45, "{serial}");
        for component in document["components"].as_array().unwrap() {
            for field in ["type", "name", "version", "bom-ref", "purl", "licenses"] {
                assert!(!component[field].is_null(), "{field}: {component}");
            }
        }
    }

    #[test]
    fn references_of_dependencies_are_those_of_components() {
        let document = of_app();
        let components = document["components"].as_array().unwrap();
        let known = |wanted: &Value| components.iter().any(|one| one["bom-ref"] == *wanted);
        for dependency in document["dependencies"].as_array().unwrap() {
            assert!(dependency["ref"] == "runwasi" || known(&dependency["ref"]), "{dependency}");
            assert!(dependency["dependsOn"].as_array().unwrap().iter().all(known), "{dependency}");
        }
    }

    #[test]
    fn what_only_builds_is_excluded_and_published_crates_have_hashes() {
        let document = of_app();
        let [a, _, b, _] = &document["components"].as_array().unwrap()[..] else { panic!() };
        assert_eq!((&a["scope"], &b["scope"]), (&json!("required"), &json!("excluded")));
        assert_eq!(a["hashes"], json!([{"alg": "SHA-256", "content": "abc"}]));
        assert_eq!(a["licenses"], json!([{"expression": "MIT OR Apache-2.0"}]));
    }

    #[test]
    fn same_input_gives_the_same_bytes() {
        assert_eq!(of_app().to_string(), of_app().to_string());
    }
}
