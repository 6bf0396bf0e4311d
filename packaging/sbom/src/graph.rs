//! The packages of a workspace and what they depend on, of cargo's metadata and `Cargo.lock`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context, Result};
use serde::Deserialize;

/// All packages, by cargo's id.
pub(crate) struct Graph {
    packages: HashMap<String, Package>,
    nodes: HashMap<String, Node>,
    checksums: HashMap<(String, String), String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    pub(crate) description: Option<String>,
    /// Absent for packages of the workspace.
    source: Option<String>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    /// `dev`, `build`, or absent.
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// A package that a release is made of.
pub(crate) struct Part<'a> {
    pub(crate) package: &'a Package,
    /// SHA-256 of the published archive.
    pub(crate) checksum: Option<&'a str>,
    /// Its code is in a program; otherwise it only takes part in the build.
    pub(crate) is_linked: bool,
    /// Packages that it depends on, sorted.
    pub(crate) depends_on: Vec<&'a Package>,
}

impl Graph {
    pub(crate) fn read(metadata: &str, lock: &str) -> Result<Self> {
        let metadata: Metadata = serde_json::from_str(metadata).context("cargo's metadata")?;
        let lock: Lock = toml::from_str(lock).context("Cargo.lock")?;
        let checksums = lock.package.into_iter();
        let checksums =
            checksums.filter_map(|locked| Some(((locked.name, locked.version), locked.checksum?)));
        let packages = metadata.packages.into_iter();
        let nodes = metadata.resolve.nodes.into_iter();
        Ok(Self {
            packages: packages.map(|package| (package.id.clone(), package)).collect(),
            nodes: nodes.map(|node| (node.id.clone(), node)).collect(),
            checksums: checksums.collect(),
        })
    }

    /// All parts of the packages with these names, and these themselves, by name and version.
    pub(crate) fn parts(&self, names: &[String]) -> Result<Vec<Part<'_>>> {
        let mut linked = BTreeSet::new();
        for name in names {
            self.collect(&self.workspace_package(name)?.id, &mut linked, |kind| kind.is_none())?;
        }
        let mut all = BTreeSet::new();
        for id in &linked {
            self.collect(id, &mut all, |kind| kind != Some("dev"))?;
        }
        let parts = all.iter().map(|id| {
            let package = self.package(id)?;
            let is_linked = linked.contains(id);
            let mut below = BTreeMap::new();
            for id in self.below(id, |kind| kind != Some("dev"))? {
                let package = self.package(id)?;
                below.insert((&package.name, &package.version), package);
            }
            let key = (package.name.clone(), package.version.clone());
            let checksum = self.checksums.get(&key).filter(|_| package.source.is_some());
            let depends_on = below.into_values().collect();
            Ok(Part { package, checksum: checksum.map(String::as_str), is_linked, depends_on })
        });
        let mut parts = parts.collect::<Result<Vec<_>>>()?;
        parts.sort_by(|a, b| {
            (&a.package.name, &a.package.version).cmp(&(&b.package.name, &b.package.version))
        });
        Ok(parts)
    }

    fn workspace_package(&self, name: &str) -> Result<&Package> {
        let mut packages = self.packages.values();
        let found = packages.find(|package| package.name == name && package.source.is_none());
        found.with_context(|| format!("no package {name:?} in the workspace"))
    }

    fn package(&self, id: &str) -> Result<&Package> {
        self.packages.get(id).with_context(|| format!("no package with the id {id:?}"))
    }

    /// Adds a package and all that it depends on by edges of the right kind.
    fn collect<'a>(
        &'a self,
        id: &'a str,
        found: &mut BTreeSet<&'a str>,
        follows: fn(Option<&str>) -> bool,
    ) -> Result<()> {
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            if found.insert(id) {
                open.extend(self.below(id, follows)?);
            }
        }
        Ok(())
    }

    fn below(&self, id: &str, follows: fn(Option<&str>) -> bool) -> Result<Vec<&str>> {
        let node = self.nodes.get(id).with_context(|| format!("no node with the id {id:?}"))?;
        let followed = node.deps.iter().filter(|dependency| {
            dependency.dep_kinds.iter().any(|kind| follows(kind.kind.as_deref()))
        });
        Ok(followed.map(|dependency| dependency.pkg.as_str()).collect())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A workspace whose package `app` needs `a`, for its build `b`, and for its tests `t`.
    pub(crate) fn graph() -> Graph {
        let package = |name: &str, source: &str| {
            format!(
                "{{\"id\":\"{name}\",\"name\":\"{name}\",\"version\":\"1.0.0\",\
                 \"license\":\"MIT/Apache-2.0\",\"description\":null,\"source\":{source}}}"
            )
        };
        let registry = "\"registry+https://registry.example/index\"";
        let packages = [
            package("app", "null"),
            package("a", registry),
            package("b", registry),
            package("c", registry),
            package("t", registry),
        ];
        let deps = "[{\"pkg\":\"a\",\"dep_kinds\":[{\"kind\":null}]},\
            {\"pkg\":\"b\",\"dep_kinds\":[{\"kind\":\"build\"}]},\
            {\"pkg\":\"t\",\"dep_kinds\":[{\"kind\":\"dev\"}]}]";
        let of_b = "[{\"pkg\":\"c\",\"dep_kinds\":[{\"kind\":null}]}]";
        let nodes = [("app", deps), ("a", "[]"), ("b", of_b), ("c", "[]"), ("t", "[]")];
        let nodes = nodes.map(|(id, deps)| format!("{{\"id\":\"{id}\",\"deps\":{deps}}}"));
        let metadata = format!(
            "{{\"packages\":[{}],\"resolve\":{{\"nodes\":[{}]}}}}",
            packages.join(","),
            nodes.join(",")
        );
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"abc\"\n\
            [[package]]\nname = \"app\"\nversion = \"1.0.0\"\n";
        Graph::read(&metadata, lock).unwrap()
    }

    #[test]
    fn parts_are_what_is_linked_and_what_builds_but_no_tests() {
        let graph = graph();
        let parts = graph.parts(&["app".to_owned()]).unwrap();
        let found: Vec<_> =
            parts.iter().map(|part| (part.package.name.as_str(), part.is_linked)).collect();
        assert_eq!(found, [("a", true), ("app", true), ("b", false), ("c", false)]);
        assert_eq!(parts[0].checksum, Some("abc"));
        let below: Vec<_> = parts[1].depends_on.iter().map(|package| &package.name).collect();
        assert_eq!(below, ["a", "b"]);
    }

    #[test]
    fn packages_that_are_not_in_the_workspace_are_refused() {
        let error = graph().parts(&["a".to_owned()]).err().unwrap();
        assert_eq!(error.to_string(), "no package \"a\" in the workspace");
    }
}
