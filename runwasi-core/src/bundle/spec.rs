//! `config.json` as it is parsed: the fields and types of `oci_spec`, with three differences. Most
//! of a document of the CRI is its seccomp filter, hundreds of names of system calls. Its fields
//! are checked like all others (`json`), and nothing of it is kept. A list of CPUs is checked by
//! hand: the regular expression of `oci_spec` would bring 700 kB of a library into every program.
//! And `process.user` may be missing, as in the schema of the spec.

use std::{collections::HashMap, fmt, marker::PhantomData, path::PathBuf};

use oci_spec::runtime::{
    Arch, Hooks, LinuxCapabilities, LinuxDevice, LinuxIOPriority, LinuxIdMapping, LinuxIntelRdt,
    LinuxMemoryPolicy, LinuxNamespace, LinuxNetDevice, LinuxPersonality, LinuxResources,
    LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxTimeOffset, Mount,
    PosixRlimit, Root, Scheduler, Solaris, User, VM, Windows, ZOS,
};
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

/// The fields of `oci_spec::runtime::Spec`, in its order.
// In its order, because serde also takes a list for a struct. Names of the types and defaults are
// the same for the texts of errors and for what is accepted.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Spec {
    oci_version: Text,
    pub(super) root: Option<Root>,
    pub(super) mounts: Option<Vec<Mount>>,
    pub(super) process: Option<Process>,
    pub(super) hostname: Option<String>,
    domainname: Option<Text>,
    pub(super) hooks: Option<Hooks>,
    pub(super) annotations: Option<HashMap<String, String>>,
    pub(super) linux: Option<Linux>,
    solaris: Option<Solaris>,
    windows: Option<Windows>,
    vm: Option<VM>,
    zos: Option<ZOS>,
    uid_mappings: Option<Vec<LinuxIdMapping>>,
    gid_mappings: Option<Vec<LinuxIdMapping>>,
}

/// The fields of `oci_spec::runtime::Process`, in its order.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "some are only checked")]
pub(super) struct Process {
    #[serde(default)]
    terminal: Option<bool>,
    #[serde(default)]
    pub(super) console_size: Option<oci_spec::runtime::Box>,
    /// Root by default, as with runc.
    #[serde(default)]
    pub(super) user: User,
    #[serde(default)]
    pub(super) args: Option<Vec<String>>,
    #[serde(default)]
    command_line: Option<Text>,
    #[serde(default)]
    pub(super) env: Option<Vec<String>>,
    pub(super) cwd: PathBuf,
    #[serde(default)]
    pub(super) capabilities: Option<LinuxCapabilities>,
    #[serde(default)]
    pub(super) rlimits: Option<Vec<PosixRlimit>>,
    #[serde(default)]
    no_new_privileges: Option<bool>,
    #[serde(default)]
    apparmor_profile: Option<Text>,
    #[serde(default)]
    pub(super) oom_score_adj: Option<i32>,
    #[serde(default)]
    selinux_label: Option<Text>,
    #[serde(default)]
    io_priority: Option<LinuxIOPriority>,
    #[serde(default)]
    scheduler: Option<Scheduler>,
    #[serde(rename = "execCPUAffinity", default)]
    exec_cpu_affinity: Option<ExecCPUAffinity>,
}

/// The fields of `oci_spec::runtime::ExecCPUAffinity`, in its order.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "it is only checked")]
struct ExecCPUAffinity {
    #[serde(default, deserialize_with = "cpus")]
    initial: Option<String>,
    #[serde(default, rename = "final", deserialize_with = "cpus")]
    cpu_affinity_final: Option<String>,
}

/// Checks a list of CPUs, such as `0-3,7`.
fn cpus<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let is_range = |part: &str| match part.split_once('-') {
        Some((first, last)) => is_number(first) && is_number(last),
        None => is_number(part),
    };
    match Option::<String>::deserialize(deserializer)? {
        Some(list) if !list.split(',').all(is_range) => {
            Err(Error::custom(format!("Invalid execCPUAffinity format: {list}")))
        }
        list => Ok(list),
    }
}

/// The fields of `oci_spec::runtime::Linux`, in its order.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Linux {
    pub(super) net_devices: Option<HashMap<String, LinuxNetDevice>>,
    pub(super) uid_mappings: Option<Vec<LinuxIdMapping>>,
    pub(super) gid_mappings: Option<Vec<LinuxIdMapping>>,
    pub(super) sysctl: Option<HashMap<String, String>>,
    pub(super) resources: Option<LinuxResources>,
    pub(super) cgroups_path: Option<PathBuf>,
    pub(super) namespaces: Option<Vec<LinuxNamespace>>,
    devices: Option<Vec<LinuxDevice>>,
    seccomp: Option<LinuxSeccomp>,
    pub(super) rootfs_propagation: Option<String>,
    pub(super) masked_paths: Option<Vec<String>>,
    pub(super) readonly_paths: Option<Vec<String>>,
    mount_label: Option<Text>,
    intel_rdt: Option<LinuxIntelRdt>,
    memory_policy: Option<LinuxMemoryPolicy>,
    personality: Option<LinuxPersonality>,
    time_offsets: Option<HashMap<String, LinuxTimeOffset>>,
}

/// The fields of `oci_spec::runtime::LinuxSeccomp`, in its order.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "it is only checked")]
struct LinuxSeccomp {
    default_action: LinuxSeccompAction,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Option<Each<Arch>>,
    #[serde(default)]
    flags: Option<Each<LinuxSeccompFilterFlag>>,
    #[serde(default)]
    listener_path: Option<PathBuf>,
    #[serde(default)]
    listener_metadata: Option<Text>,
    #[serde(default)]
    syscalls: Option<Each<LinuxSyscall>>,
}

/// The fields of `oci_spec::runtime::LinuxSyscall`, in its order.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "it is only checked")]
struct LinuxSyscall {
    names: Each<Text>,
    action: LinuxSeccompAction,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Each<LinuxSeccompArg>>,
}

/// A string that is not kept.
#[derive(Default)]
struct Text;

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Self)
    }
}

impl Visitor<'_> for Text {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }
}

/// A list of `T` that is not kept.
struct Each<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Each<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Self(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Each<T> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self, A::Error> {
        while elements.next_element::<T>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::bundle::json::{JsonError, parse};

    /// Each field of the types above, with a valid value.
    fn document() -> Value {
        let mapping = json!([{ "hostID": 1, "containerID": 0, "size": 1 }]);
        json!({
            "ociVersion": "1.1.0",
            "annotations": { "a": "b" },
            "domainname": "d",
            "gidMappings": mapping,
            "hooks": { "poststop": [{ "path": "/bin/true" }] },
            "hostname": "h",
            "linux": {
                "cgroupsPath": "/a",
                "devices": [{ "path": "/dev/a", "type": "c", "major": 1, "minor": 3 }],
                "gidMappings": mapping,
                "intelRdt": { "closID": "a" },
                "maskedPaths": ["/a"],
                "memoryPolicy": { "mode": "MPOL_BIND", "nodes": "0" },
                "mountLabel": "l",
                "namespaces": [{ "type": "network", "path": "/a" }],
                "netDevices": { "eth0": { "name": "eth1" } },
                "personality": { "domain": "LINUX" },
                "readonlyPaths": ["/a"],
                "resources": { "cpu": { "shares": 7 }, "memory": { "limit": 7 } },
                "rootfsPropagation": "slave",
                "seccomp": {
                    "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
                    "defaultAction": "SCMP_ACT_ERRNO",
                    "defaultErrnoRet": 1,
                    "flags": ["SECCOMP_FILTER_FLAG_LOG"],
                    "listenerMetadata": "m",
                    "listenerPath": "/a",
                    "syscalls": [
                        { "names": ["read", "write"], "action": "SCMP_ACT_ALLOW" },
                        {
                            "names": ["clone"],
                            "action": "SCMP_ACT_ERRNO",
                            "errnoRet": 38,
                            "args": [{
                                "index": 0, "value": 1, "valueTwo": 0, "op": "SCMP_CMP_EQ"
                            }]
                        }
                    ]
                },
                "sysctl": { "net.a": "1" },
                "timeOffsets": { "monotonic": { "secs": 1, "nanosecs": 1 } },
                "uidMappings": mapping
            },
            "mounts": [{ "destination": "/a", "type": "tmpfs", "source": "tmpfs" }],
            "process": {
                "apparmorProfile": "a",
                "args": ["a"],
                "capabilities": { "bounding": ["CAP_KILL"] },
                "commandLine": "a",
                "consoleSize": { "height": 1, "width": 1 },
                "cwd": "/",
                "env": ["A=b"],
                "execCPUAffinity": { "initial": "0-3,7", "final": "11" },
                "ioPriority": { "class": "IOPRIO_CLASS_BE", "priority": 4 },
                "noNewPrivileges": true,
                "oomScoreAdj": 7,
                "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 1, "hard": 1 }],
                "scheduler": { "policy": "SCHED_OTHER" },
                "selinuxLabel": "a",
                "terminal": true,
                "user": { "uid": 0, "gid": 0 }
            },
            "root": { "path": "rootfs", "readonly": true },
            "solaris": {},
            "uidMappings": mapping,
            "vm": { "kernel": { "path": "/a" } },
            "windows": { "layerFolders": ["a"] },
            "zos": {}
        })
    }

    /// Pointers to all values in a document.
    fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
        found.push(at.to_owned());
        match value {
            Value::Object(members) => {
                for (name, inner) in members {
                    pointers(inner, &format!("{at}/{name}"), found);
                }
            }
            Value::Array(elements) => {
                for (number, inner) in elements.iter().enumerate() {
                    pointers(inner, &format!("{at}/{number}"), found);
                }
            }
            _ => {}
        }
    }

    fn outcome<T: serde::de::DeserializeOwned>(json: &[u8]) -> Result<(), String> {
        match parse::<T>(json, &[]) {
            Ok(_) => Ok(()),
            Err(JsonError::Syntax(error)) => Err(error.to_string()),
            Err(JsonError::Field((field, reason))) => Err(format!("{field}: {reason}")),
        }
    }

    fn assert_equal(json: &[u8]) -> Result<(), String> {
        let outcome_here = outcome::<Spec>(json);
        let of_spec = outcome::<oci_spec::runtime::Spec>(json);
        assert_eq!(outcome_here, of_spec, "{}", String::from_utf8_lossy(json));
        // In one pass or by leaving out, as well.
        let first = serde_json::from_slice::<Spec>(json).map(drop);
        let first_of_spec = serde_json::from_slice::<oci_spec::runtime::Spec>(json).map(drop);
        assert_eq!(
            first.map_err(|error| error.to_string()),
            first_of_spec.map_err(|error| error.to_string())
        );
        outcome_here
    }

    #[test]
    fn documents_are_accepted_and_refused_as_by_the_types_of_the_spec() {
        let whole = document();
        let text = serde_json::to_vec(&whole).unwrap();
        serde_json::from_slice::<Spec>(&text).unwrap();
        assert_equal(&text).unwrap();
        let mut places = Vec::new();
        pointers(&whole, "", &mut places);
        let values =
            [json!(7), json!(-1), json!("x"), json!([]), json!({}), json!(null), json!(true)];
        for place in &places {
            for value in &values {
                // Both lack a field, but not the same: here `user` has a default.
                if place == "/process" && (*value == json!([]) || *value == json!({})) {
                    continue;
                }
                let mut changed = whole.clone();
                *changed.pointer_mut(place).unwrap() = value.clone();
                let _ = assert_equal(&serde_json::to_vec(&changed).unwrap());
            }
            let Some((parent, name)) = place.rsplit_once('/') else { continue };
            // It may be missing here alone.
            if place == "/process/user" {
                continue;
            }
            let mut changed = whole.clone();
            if let Some(members) = changed.pointer_mut(parent).and_then(Value::as_object_mut) {
                members.remove(name);
                members.insert(format!("{name}x"), json!(7));
                let _ = assert_equal(&serde_json::to_vec(&changed).unwrap());
            }
        }
    }

    #[test]
    fn lists_of_cpus_are_accepted_and_refused_as_by_the_types_of_the_spec() {
        let mut document = document();
        for list in [
            "0",
            "0-3",
            "0,1,2",
            "0-3,7,9-10",
            "",
            ",",
            "1,",
            ",1",
            "-",
            "1-",
            "-1",
            "1-2-3",
            "1--2",
            "a",
            "1 ",
            " 1",
            "1\n",
            "0x1",
            "+1",
            "4-6.,8",
        ] {
            document["process"]["execCPUAffinity"]["initial"] = json!(list);
            let _ = assert_equal(&serde_json::to_vec(&document).unwrap());
        }
    }

    #[test]
    fn fields_that_are_there_twice_and_broken_text_are_refused_as_before() {
        let text = serde_json::to_string(&document()).unwrap();
        for (from, to) in [
            (r#""names":["clone"]"#, r#""names":[],"names":["clone"]"#),
            (r#""seccomp":"#, r#""seccomp":{"defaultAction":"SCMP_ACT_KILL"},"seccomp":"#),
            (r#""read","#, r#""re\ud800ad","#),
            (r#""read","#, r#""read" "#),
            (r#""read","#, "\"re\u{1}ad\","),
        ] {
            assert!(text.contains(from), "{from}");
            assert_equal(text.replacen(from, to, 1).as_bytes()).unwrap_err();
        }
        let at = text.find("clone").unwrap();
        let mut bytes = text.into_bytes();
        bytes[at] = 0xff;
        assert_equal(&bytes).unwrap_err();
    }
}
