//! How the host has its cgroup controllers mounted.

use std::path::Path;

/// How the host's cgroup controllers are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupVersion {
    /// A hierarchy for every controller.
    V1,
    /// The unified hierarchy.
    V2,
}

/// The host's mode, as containerd finds it: v2 if the root of the hierarchy is a cgroup2 file system.
pub fn host_cgroups() -> CgroupVersion {
    cgroups_at(Path::new("/sys/fs/cgroup"))
}

fn cgroups_at(root: &Path) -> CgroupVersion {
    if root.join("cgroup.controllers").exists() { CgroupVersion::V2 } else { CgroupVersion::V1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_is_read_off_the_hierarchys_root() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(cgroups_at(root.path()), CgroupVersion::V1);
        std::fs::write(root.path().join("cgroup.controllers"), "cpu memory\n").unwrap();
        assert_eq!(cgroups_at(root.path()), CgroupVersion::V2);
    }
}
