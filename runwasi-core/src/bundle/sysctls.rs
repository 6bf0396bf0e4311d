//! `linux.sysctl` of the OCI runtime spec: parameters of the kernel for the sandbox's namespaces.
//! A parameter that belongs to no namespace of the sandbox would be the host's and is refused, as
//! runc refuses it.

use std::{collections::HashMap, path::PathBuf};

use super::error::{Wrong, wrong};

const ROOT: &str = "/proc/sys";

/// Parameters of an IPC namespace (`ipc_namespaces(7)`). They are for the native containers of a
/// pod: WASI has no System V IPC and no message queues.
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

/// A parameter of a network or IPC namespace.
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

/// Namespaces that are not the host's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    pub(super) network: bool,
    pub(super) ipc: bool,
}

/// Checks the parameters and returns them by name.
pub(super) fn of_sandbox(
    sysctls: &HashMap<String, String>,
    own: Own,
) -> Result<Vec<Sysctl>, Wrong> {
    let mut checked = Vec::new();
    for (name, value) in sysctls {
        let refused = |reason: &str| Err(wrong(format!("linux.sysctl[{name:?}]"), reason));
        let is_ipc = IPC.contains(&name.as_str()) || name.starts_with("fs.mqueue.");
        if !is_ipc && !name.starts_with("net.") {
            return refused(
                "belongs to no namespace of a container: only net.* and those of IPC do",
            );
        }
        if is_ipc && !own.ipc {
            return refused("belongs to the host's IPC, which this container has");
        }
        if !is_ipc && !own.network {
            return refused("belongs to the host's network, which this container has");
        }
        if !is_name(name) || value.contains(['\0', '\n']) {
            return refused("is no name of a parameter, or has a value of several lines");
        }
        checked.push(Sysctl { name: name.clone(), value: value.clone() });
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

    const BOTH: Own = Own { network: true, ipc: true };
    const NEITHER: Own = Own { network: false, ipc: false };

    fn checked(name: &str, own: Own) -> Result<Vec<Sysctl>, String> {
        let sysctls = HashMap::from([(name.to_owned(), "1".to_owned())]);
        of_sandbox(&sysctls, own).map_err(|(field, reason)| format!("{field} {reason}"))
    }

    #[test]
    fn parameters_belong_to_a_namespace_of_the_sandbox() {
        let found = checked("net.ipv4.ip_unprivileged_port_start", BOTH).unwrap();
        let file = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
        assert_eq!(found[0].file(), PathBuf::from(file));
        for (ipc, file) in [
            ("kernel.shm_rmid_forced", "/proc/sys/kernel/shm_rmid_forced"),
            ("fs.mqueue.msg_max", "/proc/sys/fs/mqueue/msg_max"),
        ] {
            assert_eq!(checked(ipc, BOTH).unwrap()[0].file(), PathBuf::from(file));
        }
        for (name, own) in [
            ("net.ipv4.ip_forward", NEITHER),
            ("kernel.shmmax", NEITHER),
            ("kernel.panic", BOTH),
            ("vm.max_map_count", BOTH),
            ("net.../kernel/panic", BOTH),
            ("net.ipv4./../x", BOTH),
            ("net.", BOTH),
            ("fs.mqueue./../panic", BOTH),
        ] {
            let error = checked(name, own).unwrap_err();
            assert!(error.contains(&format!("linux.sysctl[{name:?}] ")), "{error}");
        }
    }
}
