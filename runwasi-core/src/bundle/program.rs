//! The fields of `config.json` that tell which program a container runs. A native container may
//! have others that no wasm container has: devices, user namespaces, hooks in its namespaces.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{
    cgroups_path::systemd_parts,
    config::{CONTAINER_TYPE, Config, ConfigError, SANDBOX_TYPE},
};

/// Fields of `process` that name the program.
const OF_PROCESS: [&str; 3] = ["args", "cwd", "env"];

/// A `config.json` as far as a native container needs it read.
#[derive(Debug)]
pub(crate) struct ProgramConfig {
    /// The program and the root file system, without volumes, limits and all else.
    pub(crate) config: Config,
    /// True if systemd makes the container's cgroup.
    pub(crate) systemd_cgroup: bool,
    /// The PID namespace that the container joins.
    pub(crate) pid_namespace: Option<PathBuf>,
    /// True if it is the container of a pod itself (pause): its program never runs.
    pub(crate) is_sandbox: bool,
}

impl ProgramConfig {
    /// Reads `<bundle>/config.json`. Blocks.
    pub(crate) fn load(bundle: &Path) -> Result<Self, ConfigError> {
        let (path, bytes) = Config::read(bundle)?;
        Self::from_json(&path, &bytes)
    }

    fn from_json(path: &Path, bytes: &[u8]) -> Result<Self, ConfigError> {
        let syntax = |source| ConfigError::Syntax { path: path.to_owned(), source };
        let spec: Value = serde_json::from_slice(bytes).map_err(syntax)?;
        let of_process =
            |name: &&str| Some(((*name).to_owned(), spec["process"].get(name)?.clone()));
        let mut process: Map<String, Value> = OF_PROCESS.iter().filter_map(of_process).collect();
        process.insert("user".to_owned(), json!({ "uid": 0, "gid": 0 }));
        let reduced = json!({
            "ociVersion": spec["ociVersion"],
            "process": process,
            "root": spec["root"],
        });
        let config = Config::from_json(path, reduced.to_string().as_bytes())?;
        let cgroup = spec["linux"]["cgroupsPath"].as_str().unwrap_or_default();
        let listed = spec["linux"]["namespaces"].as_array().into_iter().flatten();
        let pid_namespace = listed
            .filter(|namespace| namespace["type"] == "pid")
            .find_map(|namespace| namespace["path"].as_str().map(PathBuf::from));
        let systemd_cgroup = systemd_parts(cgroup).is_some();
        let is_sandbox = spec["annotations"][CONTAINER_TYPE] == SANDBOX_TYPE;
        Ok(Self { config, systemd_cgroup, pid_namespace, is_sandbox })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_only_a_native_container_has_are_not_looked_at() {
        let json = r#"{"ociVersion":"1.2.0","root":{"path":"rootfs"},"hostname":7,
            "process":{"args":["sh","-c","true"],"cwd":"/w","env":["PATH=/b"],"user":{"uid":1,"gid":1},
              "rlimits":"no list"},
            "hooks":{"createContainer":[{"path":"/a"}]},
            "linux":{"uidMappings":[{"containerID":0,"hostID":1,"size":1}],"devices":7,
              "namespaces":[{"type":"network"},{"type":"pid","path":"/proc/7/ns/pid"}],
              "cgroupsPath":"a.slice:cri:x"}}"#;
        let path = Path::new("config.json");
        assert!(Config::from_json(path, json.as_bytes()).is_err());
        let read = ProgramConfig::from_json(path, json.as_bytes()).unwrap();
        assert_eq!(read.config.process.args, ["sh", "-c", "true"]);
        assert_eq!(read.config.process.cwd, Path::new("/w"));
        assert_eq!(read.config.process.env("PATH"), Some("/b"));
        assert!(read.systemd_cgroup);
        assert_eq!(read.pid_namespace.as_deref(), Some(Path::new("/proc/7/ns/pid")));
        assert!(!read.is_sandbox);
        assert!(ProgramConfig::from_json(path, b"{").is_err());
        assert!(ProgramConfig::from_json(path, br#"{"ociVersion":"1.2.0"}"#).is_err());
    }

    #[test]
    fn container_of_a_pod_is_known_whatever_else_is_refused() {
        for (kind, is_sandbox) in [("sandbox", true), ("container", false)] {
            let json = format!(
                r#"{{"ociVersion":"1.2.0","root":{{"path":"rootfs"}},
                "process":{{"args":["/pause"],"cwd":"/","user":{{"uid":1,"gid":1}}}},
                "annotations":{{"io.kubernetes.cri.container-type":"{kind}"}},
                "linux":{{"uidMappings":[{{"containerID":0,"hostID":1,"size":1}}]}}}}"#
            );
            let path = Path::new("config.json");
            assert!(Config::from_json(path, json.as_bytes()).is_err());
            let read = ProgramConfig::from_json(path, json.as_bytes()).unwrap();
            assert_eq!(read.is_sandbox, is_sandbox, "{kind}");
        }
    }

    #[test]
    fn the_form_of_the_cgroups_path_tells_the_driver() {
        for (cgroup, systemd) in [
            ("a.slice:cri:x", true),
            (":cri:x", true),
            ("/default/x", false),
            ("/a:b:c", false),
            ("a/b:c:d", false),
            ("a.slice:cri:x:y", false),
            ("", false),
        ] {
            let json = format!(
                r#"{{"ociVersion":"1.2.0","root":{{"path":"rootfs"}},
                "process":{{"args":["sh"],"cwd":"/","user":{{"uid":1,"gid":1}}}},
                "linux":{{"cgroupsPath":"{cgroup}"}}}}"#
            );
            let read = ProgramConfig::from_json(Path::new("config.json"), json.as_bytes()).unwrap();
            assert_eq!(read.systemd_cgroup, systemd, "{cgroup}");
        }
    }
}
