//! Changes to the `config.json` of a native container, which its delegate then reads.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::config::{Config, ConfigError};

/// A file or directory of its pod that a container gets.
#[derive(Clone, Debug)]
pub(crate) struct PodMount {
    /// Its path on the host.
    pub(crate) source: PathBuf,
    /// Its path in the container.
    pub(crate) destination: &'static str,
    /// True for one that is writable in a container with a read-only root, too.
    pub(crate) writable: bool,
}

/// Names another PID namespace in `<bundle>/config.json`. Blocks.
pub(crate) fn join_pid_namespace(bundle: &Path, namespace: &Path) -> Result<(), ConfigError> {
    change(bundle, |spec| {
        let listed = spec["linux"]["namespaces"].as_array_mut().into_iter().flatten();
        for one in listed.filter(|one| one["type"] == "pid") {
            one["path"] = json!(namespace);
        }
    })
}

/// Adds those mounts to `<bundle>/config.json` that the container has none of its own for. Blocks.
pub(crate) fn add_mounts(bundle: &Path, mounts: &[PodMount]) -> Result<(), ConfigError> {
    change(bundle, |spec| {
        let read_only = spec["root"]["readonly"] == true;
        if spec["mounts"].is_null() {
            spec["mounts"] = json!([]);
        }
        let Some(own) = spec["mounts"].as_array_mut() else { return };
        for mount in mounts {
            add(own, mount, read_only);
        }
    })
}

fn add(own: &mut Vec<Value>, mount: &PodMount, read_only: bool) {
    let access = if read_only && !mount.writable { "ro" } else { "rw" };
    // As containerd mounts them in a pod with a pause container.
    let added = json!({
        "destination": mount.destination,
        "type": "bind",
        "source": mount.source,
        "options": ["rbind", "rprivate", "nosuid", "nodev", "noexec", access],
    });
    let is_there = |one: &Value| {
        one["destination"].as_str().map(Path::new) == Some(Path::new(mount.destination))
    };
    match own.iter_mut().find(|one| is_there(one)) {
        // The default of containerd's `config.json` for `/dev/shm`, which would be the container's
        // alone.
        Some(one) if one["type"] == "tmpfs" => *one = added,
        Some(_) => {}
        None => own.push(added),
    }
}

/// Writes a changed `config.json`, which then is another file.
fn change(bundle: &Path, change: impl FnOnce(&mut Value)) -> Result<(), ConfigError> {
    let (path, bytes) = Config::read(bundle)?;
    let written = || -> io::Result<()> {
        let mut spec: Value = serde_json::from_slice(&bytes)?;
        change(&mut spec);
        let temporary = bundle.join(".config.json");
        // With the mode of the old file, which may hold secrets.
        fs::copy(&path, &temporary)?;
        fs::write(&temporary, serde_json::to_vec(&spec)?)?;
        fs::rename(temporary, &path)
    };
    written().map_err(|source| ConfigError::Read { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(before: &Value, change: impl FnOnce(&Path)) -> Value {
        let bundle = tempfile::tempdir().unwrap();
        let file = bundle.path().join("config.json");
        fs::write(&file, before.to_string()).unwrap();
        change(bundle.path());
        assert_eq!(fs::read_dir(bundle.path()).unwrap().count(), 1);
        serde_json::from_slice(&fs::read(&file).unwrap()).unwrap()
    }

    #[test]
    fn only_the_pid_namespace_is_replaced() {
        let json = |path: &str| {
            let namespaces =
                json!([{ "type": "network", "path": "/n" }, { "type": "pid", "path": path }]);
            json!({ "a": 1.5, "linux": { "namespaces": namespaces, "b": [null] } })
        };
        let read = changed(&json("/proc/1/ns/pid"), |bundle| {
            join_pid_namespace(bundle, Path::new("/proc/2/ns/pid")).unwrap();
        });
        assert_eq!(read, json("/proc/2/ns/pid"));
    }

    #[test]
    fn mounts_of_the_container_come_before_those_of_the_pod() {
        let hosts = json!({ "destination": "/etc/hosts", "type": "bind", "source": "/x" });
        let memory = json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "shm" });
        let mount = |source: &str, destination, writable| PodMount {
            source: source.into(),
            destination,
            writable,
        };
        let of_pod = [
            mount("/p/hosts", "/etc/hosts", false),
            mount("/p/resolv.conf", "/etc/resolv.conf", false),
            mount("/p/shm", "/dev/shm", true),
        ];
        let before = json!({ "root": { "readonly": true }, "mounts": [memory, hosts] });
        let after = changed(&before, |bundle| add_mounts(bundle, &of_pod).unwrap());
        let list = after["mounts"].as_array().unwrap();
        let seen: Vec<_> = list.iter().map(|one| (&one["source"], &one["options"][5])).collect();
        let sources = [
            (&json!("/p/shm"), &json!("rw")),
            (&json!("/x"), &Value::Null),
            (&json!("/p/resolv.conf"), &json!("ro")),
        ];
        assert_eq!(seen, sources);
        let none = changed(&json!({}), |bundle| add_mounts(bundle, &of_pod).unwrap());
        assert_eq!(none["mounts"].as_array().unwrap().len(), 3);
    }
}
