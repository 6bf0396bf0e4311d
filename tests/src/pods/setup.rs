//! What pods need before there are any: containerd's configuration and their own image; called by [`Pods::start`](super::Pods::start).

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::cni::{self, Network};
use crate::command::Command;
use crate::runtime::{Runtime, target_dir};

/// The pods' own image: like Kubernetes' pause it has a native program, which a wasm runtime must not need.
pub(super) const PAUSE: &str = "docker.io/library/pause:latest";
/// The name of the runtime under test in containerd's configuration.
pub(super) const HANDLER: &str = "under-test";

/// The CRI's part of containerd's configuration, without NRI, whose socket is one for the whole machine. Network namespaces are
/// mounted in the fixture, not in `/run/netns`: so it sees what is left of them.
pub(super) fn configuration(runtime: Runtime, network: &Network) -> String {
    let (name, plugins, configurations) = (runtime.name(), cni::PLUGINS, network.configurations());
    let configurations = configurations.display();
    format!(
        "[plugins.\"io.containerd.grpc.v1.cri\"]\n\
         sandbox_image = \"{PAUSE}\"\n\
         restrict_oom_score_adj = true\n\
         disable_apparmor = true\n\
         netns_mounts_under_state_dir = true\n\
         [plugins.\"io.containerd.nri.v1.nri\"]\n\
         disable = true\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\n\
         bin_dir = \"{plugins}\"\n\
         conf_dir = \"{configurations}\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd]\n\
         default_runtime_name = \"{HANDLER}\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.{HANDLER}]\n\
         runtime_type = \"{name}\"\n\
         pod_annotations = [\"io.runwasi.*\"]\n"
    )
}

/// Whether a containerd of this version pulls the pods' own image also for pods that the shim makes: from 2.3 on, see
/// docs/kubernetes.md.
pub(super) fn pulls_in_vain(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split('.').map_while(|n| n.parse().ok());
    let major_minor: (u32, u32) =
        (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    major_minor >= (2, 3)
}

/// Writes the pods' own image: the native guest, asleep. runc runs it.
pub(super) fn pause_image(dir: &Path) -> Result<PathBuf> {
    let (tool, tar) = (target_dir().join("release/oci-image"), dir.join("pause.tar"));
    let guest = target_dir().join("guests/wasmtest-native");
    for file in [&tool, &guest] {
        ensure!(file.exists(), "{} is missing: `make images` makes it", file.display());
    }
    let (output, file) = (tar.to_string_lossy(), format!("{}:/pause:755", guest.display()));
    let what =
        ["linux", "--name", PAUSE, "--output", &output, "--entrypoint", "/pause", "--file", &file];
    Command::new(tool).args(what).args(["--cmd", "sleep", "--cmd", "100000"]).run()?.ok()?;
    Ok(tar)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (version, pulls) in
            [("v2.3.4", true), ("2.10.0-rc.0", true), ("2.1.9~ds", false), ("1.7.24", false)]
        {
            assert_eq!(pulls_in_vain(version), pulls, "{version}");
        }
    }
}
