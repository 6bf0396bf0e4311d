//! Files that the containers of a pod share: `/etc/hostname`, `/etc/hosts`, `/etc/resolv.conf` and
//! `/dev/shm`.
//!
//! For a pod with a pause container containerd makes them and mounts them by `config.json`. With
//! `sandboxer = "shim"` it leaves them to the shim. The first three are in the sandbox's bundle,
//! which containerd removes with the sandbox. A container whose `config.json` has a mount at one
//! of these places keeps that: the kubelet has an `/etc/hosts` of its own.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tokio::runtime::Handle;

use crate::{
    blocking,
    bundle::{
        config::Config,
        mount_options::MountOptions,
        mounts::{Source, VolumeConfig},
        native_config::PodMount,
        pod::PodConfig,
    },
    rootfs::SharedMemory,
};

/// Directory of the files in the sandbox's bundle.
const DIRECTORY: &str = "pod";

/// Names in that directory, and places in a container.
const FILES: [(&str, &str); 3] =
    [("hostname", "/etc/hostname"), ("hosts", "/etc/hosts"), ("resolv.conf", "/etc/resolv.conf")];

const SHARED_MEMORY: &str = "/dev/shm";

/// The kernel's host name.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// A file of a pod cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("file of the pod, {}: {source}", path.display())]
pub struct PodFilesError {
    path: PathBuf,
    source: io::Error,
}

/// The files of one pod.
#[derive(Debug)]
pub(crate) struct PodFiles {
    directory: PathBuf,
    /// Absent with the host's `/dev/shm`, which containerd mounts, and for an ordinary user.
    memory: Option<SharedMemory>,
}

impl PodFiles {
    /// Makes the files in the sandbox's bundle. Blocks.
    pub(crate) fn make(bundle: &Path, pod: &PodConfig) -> Result<Self, PodFilesError> {
        let directory = bundle.join(DIRECTORY);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| PodFilesError { path, source }
        };
        fs::create_dir_all(&directory).map_err(failed(&directory))?;
        let contents = [hostname(pod), of_host("/etc/hosts"), resolv_conf(pod)];
        for ((name, _), content) in FILES.iter().zip(contents) {
            let path = directory.join(name);
            let written = content.and_then(|content| write(&path, &content));
            written.map_err(failed(&path))?;
        }
        let with_memory = !pod.host_ipc && rustix::process::geteuid().is_root();
        let memory = with_memory.then(SharedMemory::new).transpose();
        let memory = memory.map_err(failed(Path::new(SHARED_MEMORY)))?;
        Ok(Self { directory, memory })
    }

    /// Adds those to a container's mounts that it has no mount of its own for.
    pub(crate) fn add_to(&self, config: &mut Config) {
        for (name, place) in FILES {
            if !config.volumes.iter().any(|volume| volume.destination == Path::new(place)) {
                let source = Source::Bind { path: self.directory.join(name), recursive: false };
                // As containerd mounts them in a pod with a pause container.
                let options = match config.read_only {
                    true => MountOptions::read_only(),
                    false => MountOptions::default(),
                };
                let destination = place.into();
                config.volumes.push(VolumeConfig { destination, source, options });
            }
        }
        if self.memory.is_some() {
            self.share_memory(&mut config.volumes);
        }
    }

    fn share_memory(&self, volumes: &mut Vec<VolumeConfig>) {
        let place = Path::new(SHARED_MEMORY);
        let source = Source::PodMemory;
        let options = MountOptions::default();
        match volumes.iter_mut().find(|volume| volume.destination == place) {
            // The default of containerd's `config.json`, which would be the container's alone.
            Some(volume) if volume.source == Source::Tmpfs => {
                volume.source = source;
                volume.options = options;
            }
            Some(_) => {}
            None => {
                let destination = place.to_owned();
                volumes.push(VolumeConfig { destination, source, options });
            }
        }
    }

    /// Attaches the shared memory, if the pod has one, to a directory of the host. Blocks.
    pub(crate) fn attach_memory(&self, directory: &Path) -> io::Result<()> {
        self.memory.as_ref().map_or(Ok(()), |memory| memory.attach_at(directory))
    }

    /// The same for a native container, whose delegate mounts by paths. `memory` is where the
    /// shared memory is attached.
    pub(crate) fn for_native(&self, memory: Option<PathBuf>) -> Vec<PodMount> {
        let files = FILES.map(|(name, destination)| PodMount {
            source: self.directory.join(name),
            destination,
            writable: false,
        });
        let memory =
            memory.map(|source| PodMount { source, destination: SHARED_MEMORY, writable: true });
        files.into_iter().chain(memory).collect()
    }

    pub(crate) fn memory(&self) -> Option<&SharedMemory> {
        self.memory.as_ref()
    }
}

impl Drop for PodFiles {
    fn drop(&mut self) {
        let Some(memory) = self.memory.take() else { return };
        // The end of a file system takes its time, and the files go with the sandbox's bundle.
        match Handle::try_current() {
            Ok(runtime) => blocking::eventually(&runtime, move || drop(memory)),
            Err(_) => drop(memory),
        }
    }
}

fn hostname(pod: &PodConfig) -> io::Result<Vec<u8>> {
    match pod.hostname.as_str() {
        // With its line break.
        "" => fs::read(HOSTNAME),
        name => Ok(format!("{name}\n").into_bytes()),
    }
}

fn resolv_conf(pod: &PodConfig) -> io::Result<Vec<u8>> {
    let dns = pod.dns.as_ref();
    dns.map_or_else(|| of_host("/etc/resolv.conf"), |dns| Ok(dns.resolv_conf().into_bytes()))
}

/// A file of the host; empty if it is missing.
fn of_host(path: &str) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    fs::write(path, content)?;
    // Users of the containers read it, also with a restrictive umask of this process.
    fs::set_permissions(path, Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::pod::DnsConfig;

    fn config(bundle: &Path, mounts: &str) -> Config {
        let process = r#"{"user":{"uid":0,"gid":0},"cwd":"/","args":["/a"]}"#;
        let root = r#"{"path":"rootfs","readonly":true}"#;
        let json = format!(
            r#"{{"ociVersion":"1.1.0","root":{root},"process":{process},"mounts":[{mounts}]}}"#
        );
        Config::from_json(&bundle.join("config.json"), json.as_bytes()).unwrap()
    }

    fn made(bundle: &Path) -> PodFiles {
        let servers = vec!["192.0.2.53".to_owned()];
        let dns = Some(DnsConfig { servers, ..DnsConfig::default() });
        let pod = PodConfig { hostname: "web-0".into(), dns, ..PodConfig::default() };
        PodFiles::make(bundle, &pod).unwrap()
    }

    #[test]
    fn files_are_readable_for_all_users_and_have_the_values_of_the_pod() {
        let bundle = tempfile::tempdir().unwrap();
        let _files = made(bundle.path());
        let read = |name: &str| {
            let path = bundle.path().join("pod").join(name);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644, "{name}");
            fs::read_to_string(path).unwrap()
        };
        assert_eq!((read("hostname").as_str(), read("resolv.conf").as_str()), {
            ("web-0\n", "nameserver 192.0.2.53\n")
        });
        assert_eq!(read("hosts").into_bytes(), of_host("/etc/hosts").unwrap());
        let _host = PodFiles::make(bundle.path(), &PodConfig::default()).unwrap();
        assert_eq!(read("hostname"), fs::read_to_string(HOSTNAME).unwrap());
        assert_eq!(read("resolv.conf").into_bytes(), of_host("/etc/resolv.conf").unwrap());
    }

    #[test]
    fn mounts_of_the_container_come_before_those_of_the_pod() {
        assert!(rustix::process::geteuid().is_root(), "this test mounts and must run as root");
        let bundle = tempfile::tempdir().unwrap();
        let files = made(bundle.path());
        let bind = |place: &str| {
            format!(r#"{{"destination":"{place}","type":"bind","source":"/x","options":["bind"]}}"#)
        };
        let mut own = config(bundle.path(), &[bind("/etc/hosts"), bind("/dev/shm")].join(","));
        files.add_to(&mut own);
        let mut places: Vec<_> =
            own.volumes.iter().map(|volume| volume.destination.to_str().unwrap()).collect();
        places.sort_unstable();
        assert_eq!(places, ["/dev/shm", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"]);
        assert!(own.volumes.iter().all(|volume| volume.source != Source::PodMemory));
        let tmpfs = r#"{"destination":"/dev/shm","type":"tmpfs","source":"shm"}"#;
        let mut default = config(bundle.path(), tmpfs);
        files.add_to(&mut default);
        assert_eq!(default.volumes.len(), 4);
        let memory = &default.volumes[0];
        assert!(memory.source == Source::PodMemory && !memory.options.is_read_only(), "{memory:?}");
        assert!(default.volumes[1..].iter().all(|file| file.options.is_read_only()), "{default:?}");
    }
}
