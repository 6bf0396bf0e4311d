//! Cgroup version of the host.

use std::path::Path;

/// The mode in which the host mounts its cgroup controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupVersion {
    /// One hierarchy for every controller.
    V1,
    /// The unified hierarchy.
    V2,
}

/// The host's mode, by containerd's rule: v2 if the root of the hierarchy is a cgroup2 file system.
pub fn host_cgroups() -> CgroupVersion {
    cgroups_at(Path::new("/sys/fs/cgroup"))
}

fn cgroups_at(root: &Path) -> CgroupVersion {
    // This file exists in every cgroup of v2, and in no directory of v1.
    if root.join("cgroup.controllers").exists() { CgroupVersion::V2 } else { CgroupVersion::V1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_root() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(cgroups_at(root.path()), CgroupVersion::V1);
        std::fs::write(root.path().join("cgroup.controllers"), "cpu memory\n").unwrap();
        assert_eq!(cgroups_at(root.path()), CgroupVersion::V2);
    }
}
