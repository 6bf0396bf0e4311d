//! `linux.cgroupsPath` of the OCI runtime spec, in the two forms of containerd's clients.
//! Untrusted: the path must not lead out of the cgroup file system.

use std::path::{Component, Path, PathBuf};

use super::error::{Wrong, wrong};

const FIELD: &str = "linux.cgroupsPath";

/// Configured place of a container's cgroup, the same in every hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CgroupsPath {
    /// Below the hierarchy's root.
    Root(PathBuf),
    /// Relative to the cgroup of this process.
    Own(PathBuf),
}

impl CgroupsPath {
    /// Parses the path. The result is empty for the root itself, since no container owns it.
    pub(super) fn parse(path: &Path) -> Result<Option<Self>, Wrong> {
        let text = path.to_str().ok_or_else(|| wrong(FIELD, "is not UTF-8"))?;
        if let Some([slice, prefix, name]) = systemd_parts(text) {
            return systemd(slice, prefix, name).map(Self::Root).map(Some);
        }
        let mut clean = PathBuf::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => clean.push(name),
                Component::RootDir | Component::CurDir => {}
                // Refused rather than resolved, since it could lead out of the hierarchy.
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(wrong(FIELD, format!("{text:?} holds ..")));
                }
            }
        }
        let place = if path.is_absolute() { Self::Root } else { Self::Own };
        Ok((!clean.as_os_str().is_empty()).then(|| place(clean)))
    }
}

/// The parts of systemd's form `SLICE:PREFIX:NAME`. No result for a path, which may hold colons.
pub(super) fn systemd_parts(text: &str) -> Option<[&str; 3]> {
    // Names of units hold no slash, and containerd's other form begins with one.
    let parts = text.split(':').collect::<Vec<_>>();
    parts.try_into().ok().filter(|_| !text.contains('/'))
}

/// Converts `SLICE:PREFIX:NAME` to the path that systemd would choose (`systemd.slice(5)`).
fn systemd(slice: &str, prefix: &str, name: &str) -> Result<PathBuf, Wrong> {
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    let nonsense = |what: &str| wrong(FIELD, format!("{what:?} is no name of a systemd unit"));
    // Both become part of a file name. They hold no slash.
    for part in [prefix, name] {
        if part == ".." || part == "." {
            return Err(nonsense(part));
        }
    }
    let stem = slice.strip_suffix(".slice").filter(|stem| !stem.is_empty());
    let stem = stem.ok_or_else(|| nonsense(slice))?;
    let mut path = PathBuf::new();
    // `-.slice` is the root. Each dash of another name is a level: `a-b.slice` lies in `a.slice`.
    if stem != "-" {
        let mut parent = String::new();
        for part in stem.split('-') {
            if part.is_empty() {
                return Err(nonsense(slice));
            }
            parent.push_str(part);
            path.push(format!("{parent}.slice"));
            parent.push('-');
        }
    }
    // A unit that is no slice itself is a scope.
    path.push(match (name.ends_with(".slice"), prefix) {
        (true, _) => name.to_owned(),
        (false, "") => format!("{name}.scope"),
        (false, prefix) => format!("{prefix}-{name}.scope"),
    });
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Result<Option<CgroupsPath>, String> {
        CgroupsPath::parse(Path::new(path)).map_err(|(field, reason)| format!("{field}: {reason}"))
    }

    #[test]
    fn both_forms_name_a_place_below_the_root() {
        let root = |path: &str| Ok(Some(CgroupsPath::Root(path.into())));
        assert_eq!(parse("/default/./x"), root("default/x"));
        assert_eq!(parse("x/y"), Ok(Some(CgroupsPath::Own("x/y".into()))));
        assert_eq!(parse("/"), Ok(None));
        assert_eq!(parse(""), Ok(None));
        assert_eq!(parse("/k8s/a:b:c"), root("k8s/a:b:c"));
        assert_eq!(parse("/a.slice:cri:x"), root("a.slice:cri:x"));
        assert_eq!(parse("/a:b"), root("a:b"));
        assert_eq!(parse("/a/b:c/d:e:f"), root("a/b:c/d:e:f"));
        assert_eq!(parse("a:b"), Ok(Some(CgroupsPath::Own("a:b".into()))));
        assert_eq!(parse("a/b:c:d"), Ok(Some(CgroupsPath::Own("a/b:c:d".into()))));
        assert_eq!(parse("a.slice:cri:x"), root("a.slice/cri-x.scope"));
        assert_eq!(parse(":cri:x"), root("system.slice/cri-x.scope"));
        assert_eq!(parse("-.slice:cri:x"), root("cri-x.scope"));
        let nested = "kubepods.slice/kubepods-burstable.slice/\
                      kubepods-burstable-pod1.slice/cri-containerd-x.scope";
        assert_eq!(parse("kubepods-burstable-pod1.slice:cri-containerd:x"), root(nested));
    }

    #[test]
    fn paths_out_of_the_hierarchy_are_refused() {
        for path in [
            "/a/../../etc",
            "..",
            "a.slice:x:../..",
            "a.slice:x:..",
            "/../a:b:c",
            "../x.slice:p:n",
            "a:b:c",
            "a--b.slice:p:n",
            ".slice:p:n",
        ] {
            assert!(parse(path).unwrap_err().starts_with("linux.cgroupsPath: "), "{path}");
        }
    }
}
