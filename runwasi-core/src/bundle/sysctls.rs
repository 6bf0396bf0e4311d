//! `linux.sysctl` of the OCI runtime spec: parameters of the kernel for the sandbox's namespaces.
//! A parameter that belongs to no namespace of the sandbox would be the host's and is refused, as
//! runc refuses it.

use std::{collections::HashMap, path::PathBuf};

use super::{
    config::{NamespaceConfig, NamespacesConfig},
    error::{Wrong, wrong},
};

const ROOT: &str = "/proc/sys";

/// Parameters of an IPC namespace (`ipc_namespaces(7)`). They are accepted and have no effect:
/// WASI has no System V IPC and no message queues.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// A parameter of a network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// With dots, as in the spec.
    pub name: String,
    /// The new value.
    pub value: String,
}

impl Sysctl {
    /// The file of the parameter.
    pub fn file(&self) -> PathBuf {
        PathBuf::from(ROOT).join(self.name.replace('.', "/"))
    }
}

/// Checks the parameters and returns those of the network, by name.
pub(super) fn of_network(
    sysctls: &HashMap<String, String>,
    namespaces: &NamespacesConfig,
) -> Result<Vec<Sysctl>, Wrong> {
    let mut checked = Vec::new();
    for (name, value) in sysctls {
        let refused = |reason: &str| Err(wrong(format!("linux.sysctl[{name:?}]"), reason));
        let is_ipc = IPC.contains(&name.as_str()) || name.starts_with("fs.mqueue.");
        if name.starts_with("net.") {
            if namespaces.network == NamespaceConfig::Host {
                return refused("belongs to the host's network, which this container has");
            }
            if !is_name(name) || value.contains(['\0', '\n']) {
                return refused("is no name of a parameter, or has a value of several lines");
            }
            checked.push(Sysctl { name: name.clone(), value: value.clone() });
        } else if !is_ipc {
            return refused(
                "belongs to no namespace of a container: only net.* and those of IPC do",
            );
        } else if namespaces.ipc == NamespaceConfig::Host {
            return refused("belongs to the host's IPC, which this container has");
        }
    }
    checked.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(checked)
}

/// True for names between dots. None leads to another directory.
fn is_name(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
    };
    name.split('.').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: NamespacesConfig = NamespacesConfig {
        network: NamespaceConfig::New,
        ipc: NamespaceConfig::New,
        uts: NamespaceConfig::Host,
        hostname: None,
        sysctls: Vec::new(),
    };

    fn checked(name: &str, namespaces: &NamespacesConfig) -> Result<Vec<Sysctl>, String> {
        let sysctls = HashMap::from([(name.to_owned(), "1".to_owned())]);
        of_network(&sysctls, namespaces).map_err(|(field, reason)| format!("{field} {reason}"))
    }

    #[test]
    fn parameters_belong_to_a_namespace_of_the_sandbox() {
        let found = checked("net.ipv4.ip_unprivileged_port_start", &NEW).unwrap();
        let file = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
        assert_eq!(found[0].file(), PathBuf::from(file));
        for ipc in ["kernel.shm_rmid_forced", "fs.mqueue.msg_max"] {
            assert_eq!(checked(ipc, &NEW), Ok(Vec::new()));
        }
        for (name, namespaces) in [
            ("net.ipv4.ip_forward", &NamespacesConfig::default()),
            ("kernel.shmmax", &NamespacesConfig::default()),
            ("kernel.panic", &NEW),
            ("vm.max_map_count", &NEW),
            ("net.../kernel/panic", &NEW),
            ("net.ipv4./../x", &NEW),
            ("net.", &NEW),
        ] {
            let error = checked(name, namespaces).unwrap_err();
            assert!(error.contains(&format!("linux.sysctl[{name:?}] ")), "{error}");
        }
    }
}
