//! Bundles of the containers that joined a sandbox as containerd 2.3 has them join: without an
//! action `start`, and without a `delete`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::id::Id;

/// File in the bundle of such a container: the id of the sandbox. containerd writes it.
const SANDBOX_FILE: &str = "sandbox";

/// Bundles of the containers that joined a sandbox. `bundle` is that of the sandbox. Blocks.
pub(crate) fn bundles(bundle: &Path, sandbox: &Id, namespace: &Id) -> Vec<PathBuf> {
    // containerd's state directory, with a directory of bundles for each plugin and namespace: the
    // bundle of a sandbox may be another plugin's than those of its containers.
    let Some(state) = bundle.ancestors().nth(3) else { return Vec::new() };
    let all = entries(state).flat_map(|plugin| entries(&plugin.join(namespace.as_str())));
    let joined = |bundle: &PathBuf| {
        fs::read_to_string(bundle.join(SANDBOX_FILE)).is_ok_and(|id| id.trim() == sandbox.as_str())
    };
    all.filter(joined).collect()
}

/// Paths in a directory. Empty if it cannot be read.
pub(crate) fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_containers_that_joined_the_sandbox_are_found() {
        let state = tempfile::tempdir().unwrap();
        let bundle = |plugin: &str, id: &str, sandbox: Option<&str>| {
            let bundle = state.path().join(plugin).join("n").join(id);
            fs::create_dir_all(&bundle).unwrap();
            if let Some(sandbox) = sandbox {
                fs::write(bundle.join(SANDBOX_FILE), sandbox).unwrap();
            }
            bundle
        };
        let id = |id: &str| Id::parse("id", id).unwrap();
        let pod = bundle("sandboxes", "pod", None);
        let joined = bundle("tasks", "joined", Some("pod"));
        bundle("tasks", "other", Some("pod2"));
        bundle("tasks", "alone", None);
        assert_eq!(bundles(&pod, &id("pod"), &id("n")), [joined]);
        assert!(bundles(&pod, &id("pod"), &id("m")).is_empty());
        assert!(bundles(Path::new("/"), &id("pod"), &id("n")).is_empty());
    }
}
