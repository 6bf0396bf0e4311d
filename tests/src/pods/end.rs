//! The end of a fixture with pods: what is left of them, and the removal of all.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rustix::mount::{UnmountFlags, unmount};

use super::{NAMESPACE, Pods};
use crate::network::same_links;
use crate::traces;

/// Where cgroups are mounted: version 2, or a directory for each hierarchy of version 1.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Where containerd has the networks of pods, below its state.
const NETWORKS: &str = "io.containerd.grpc.v1.cri/netns";

impl Pods {
    /// Waits until nothing of any pod is left, besides the bridge, and the host's links are what they were.
    pub fn becomes_clean(&self) -> Result<()> {
        traces::becomes_clean(|| self.leftovers())
    }

    /// What of pods is there, one a line.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left = self.fixture.leftovers();
        left.extend(traces::bundles_in(["s", "r"].map(|top| self.bundles(top)).as_flattened()));
        let sockets = self.ever.borrow().iter().map(|pod| self.socket(pod)).collect::<Vec<_>>();
        left.extend(
            sockets
                .iter()
                .filter(|file| file.exists())
                .map(|file| format!("socket {}", file.display())),
        );
        left.extend(self.sandboxes());
        left.extend(self.of_containers());
        left.extend(self.network.taken());
        let links =
            self.network.links_without_bridge().and_then(|now| same_links(&self.links, &now));
        left.extend(links.err().map(|error| format!("{error:#}")));
        left
    }

    /// Cgroups of containers, and the directories that runc and native runtimes have of them.
    fn of_containers(&self) -> Vec<String> {
        let hierarchies = fs::read_dir(CGROUPS).into_iter().flatten().flatten();
        let hierarchies = hierarchies.map(|entry| entry.path()).chain([PathBuf::from(CGROUPS)]);
        let hierarchies: Vec<PathBuf> = hierarchies.map(|at| at.join(NAMESPACE)).collect();
        let of_runc = Path::new("/run/containerd/runc").join(NAMESPACE);
        let places = |id: &String| {
            let native = format!("/run/runwasi/native/{NAMESPACE}.{id}--native");
            let cgroups = hierarchies.iter().map(|at| at.join(id));
            cgroups.chain([of_runc.join(id), native.into()]).collect::<Vec<_>>()
        };
        let all = self.containers.borrow();
        let there = all.iter().flat_map(places).filter(|place| place.exists());
        there.map(|place| format!("directory {}", place.display())).collect()
    }

    /// What a node daemon has of pods; the fixture asks only for its own containerd namespace.
    fn sandboxes(&self) -> Vec<String> {
        let node = self.fixture.node();
        let records = node.records().into_iter().map(|name| format!("record {name}"));
        let lines = match node.sandboxes() {
            Ok(all) => all.iter().map(|one| format!("{one:?}")).collect(),
            Err(error) => vec![format!("sandboxes unknown: {error:#}")],
        };
        lines.into_iter().chain(records).collect()
    }

    /// Removes all pods of a containerd that may have been killed, and waits until nothing of any is left.
    pub fn becomes_clean_after_removal(&mut self) -> Result<()> {
        self.remove_all()?;
        self.remove_lost_networks()?;
        self.becomes_clean()
    }

    /// Removes networks that belong to no pod: containerd makes the network of a pod before it writes the pod down, and
    /// one that is killed in between never looks at it again.
    fn remove_lost_networks(&self) -> Result<()> {
        let is_network = |mount: &&PathBuf| mount.parent().is_some_and(|of| of.ends_with(NETWORKS));
        for mount in self.fixture.mounts().iter().filter(is_network) {
            unmount(mount, UnmountFlags::DETACH)?;
            fs::remove_file(mount)?;
        }
        Ok(())
    }

    fn remove_all(&mut self) -> Result<()> {
        if self.fixture.pid().is_err() {
            self.fixture.start_again()?;
        }
        self.cri.becomes_ready()?;
        for pod in self.cri.pods()? {
            self.cri.stop_pod(&pod.id)?;
            self.cri.remove_pod(&pod.id)?;
        }
        Ok(())
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        let mut faults: Vec<_> =
            self.remove_all().err().iter().map(|error| format!("{error:#}")).collect();
        if self.becomes_clean().is_err() {
            faults.extend(self.leftovers());
        }
        for pod in self.ever.borrow().iter() {
            // Reported above, if it is there.
            fs::remove_file(self.socket(pod)).ok();
        }
        if !faults.is_empty() {
            eprintln!("left by pods of {}: {faults:#?}", self.fixture.namespace());
            assert!(
                std::thread::panicking(),
                "pods of {} were not clean: {faults:#?}",
                self.fixture.namespace()
            );
        }
    }
}
