//! Volumes of pods; the cases are listed in `main.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::cri::messages::{Mount, MountPropagation};
use runwasi_tests::{Pods, poll_until};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};

/// Far more than a propagation takes.
const SOON: Duration = Duration::from_secs(20);

/// A tmpfs on the host, until it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(place: &Path) -> Result<Self> {
        fs::create_dir_all(place)?;
        mount("tmpfs", place, "tmpfs", MountFlags::empty(), None)?;
        Ok(Self(place.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.0, UnmountFlags::DETACH) {
            eprintln!("unmount {}: {error}", self.0.display());
        }
    }
}

/// The root directory of a running container, as it sees it. Of a guest, its server has it open.
fn root_of(pods: &Pods, container: &str) -> Result<PathBuf> {
    let process = PathBuf::from(format!("/proc/{}", pods.pid(container)?));
    if !pods.runtime.is_wasm() {
        return Ok(process.join("root"));
    }
    let open = fs::read_dir(process.join("fd"))?.flatten().map(|entry| entry.path());
    let mut roots = open.filter(|file| file.join("follows").is_dir());
    roots.next().context("the guest's root is open nowhere")
}

/// Kubernetes' `mountPropagation: HostToContainer`.
pub(crate) fn later_mounts_of_the_host_reach_a_pod(pods: &mut Pods) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let host = Mounted::new(&directory.path().join("host"))?;
    mount_change(&host.0, MountPropagationFlags::SHARED)?;
    let volume = |place: &str, propagation: MountPropagation| Mount {
        container_path: place.to_owned(),
        host_path: host.0.display().to_string(),
        readonly: false,
        propagation: propagation.into(),
    };
    let volumes = vec![
        volume("/follows", MountPropagation::HostToContainer),
        volume("/private", MountPropagation::Private),
    ];
    let pod = pods.run("volumes")?;
    let command = [pods.runtime.guest(), "sleep", "100"];
    let image = pods.runtime.image().name();
    let container = pods.create_mounted(&pod, "sleeper", image, &command, volumes)?;
    pods.cri.start(&container)?;
    let root = root_of(pods, &container)?;
    let later = Mounted::new(&host.0.join("later"))?;
    fs::write(later.0.join("f"), "later")?;
    poll_until("a later mount in the container", SOON, || {
        fs::read_to_string(root.join("follows/later/f")).ok().filter(|found| found == "later")
    })?;
    ensure!(!root.join("private/later/f").exists(), "a private volume follows the host");
    drop(later);
    poll_until("the end of the mount", SOON, || {
        (!root.join("follows/later/f").exists()).then_some(())
    })?;
    pods.finish(&pod)?;
    drop(host);
    pods.becomes_clean()
}
