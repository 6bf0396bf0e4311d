//! `linux.sysctl` of the OCI runtime spec: parameters of the kernel for the sandbox's namespaces.
//! A parameter that belongs to no namespace of the sandbox would be the host's and is refused, as
//! runc refuses it.

use std::{collections::HashMap, path::PathBuf};

use super::error::{Wrong, wrong};
use crate::sys::NamespaceKind;

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

/// The NIS domain name of a UTS namespace, for the native containers of a pod: WASI has no call for
/// it.
const DOMAINNAME: &str = "kernel.domainname";

/// The parameter of a UTS namespace that the field `hostname` sets.
const HOSTNAME: &str = "kernel.hostname";

/// A parameter of a network, IPC or UTS namespace.
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

    /// Kind of the namespace that it belongs to.
    pub(crate) fn namespace(&self) -> Option<NamespaceKind> {
        namespace_of(&self.name)
    }
}

/// Namespaces that are not the host's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    pub(super) network: bool,
    pub(super) ipc: bool,
    pub(super) uts: bool,
}

impl Own {
    fn has(self, kind: NamespaceKind) -> bool {
        match kind {
            NamespaceKind::Network => self.network,
            NamespaceKind::Ipc => self.ipc,
            NamespaceKind::Uts => self.uts,
        }
    }
}

/// Checks the parameters and returns them by name.
pub(super) fn of_sandbox(
    sysctls: &HashMap<String, String>,
    own: Own,
) -> Result<Vec<Sysctl>, Wrong> {
    let mut checked = Vec::new();
    for (name, value) in sysctls {
        let refused = |reason: &str| Err(wrong(format!("linux.sysctl[{name:?}]"), reason));
        if name == HOSTNAME {
            return refused("is the host name, which the field hostname sets");
        }
        let Some(kind) = namespace_of(name) else {
            return refused(
                "belongs to no namespace of a container: only net.*, kernel.domainname and those \
                 of IPC do",
            );
        };
        if !own.has(kind) {
            return refused(of_host(kind));
        }
        if !is_name(name) || value.contains(['\0', '\n']) {
            return refused("is no name of a parameter, or has a value of several lines");
        }
        checked.push(Sysctl { name: name.clone(), value: value.clone() });
    }
    checked.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(checked)
}

/// Why a parameter of this kind is refused to a container without such a namespace of its own.
pub(crate) fn of_host(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Network => "belongs to the host's network, which this container has",
        NamespaceKind::Ipc => "belongs to the host's IPC, which this container has",
        NamespaceKind::Uts => "belongs to the host's UTS namespace, which this container has",
    }
}

fn namespace_of(name: &str) -> Option<NamespaceKind> {
    match name {
        DOMAINNAME => Some(NamespaceKind::Uts),
        ipc if IPC.contains(&ipc) || ipc.starts_with("fs.mqueue.") => Some(NamespaceKind::Ipc),
        net if net.starts_with("net.") => Some(NamespaceKind::Network),
        _ => None,
    }
}

/// True for names between dots, which lead to no other directory.
fn is_name(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
    };
    name.split('.').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Own = Own { network: true, ipc: true, uts: true };
    const NOTHING: Own = Own { network: false, ipc: false, uts: false };

    fn checked(name: &str, own: Own) -> Result<Vec<Sysctl>, String> {
        let sysctls = HashMap::from([(name.to_owned(), "1".to_owned())]);
        of_sandbox(&sysctls, own).map_err(|(field, reason)| format!("{field} {reason}"))
    }

    #[test]
    fn parameters_belong_to_a_namespace_of_the_sandbox() {
        let found = checked("net.ipv4.ip_unprivileged_port_start", ALL).unwrap();
        let file = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
        assert_eq!(found[0].file(), PathBuf::from(file));
        for (name, file) in [
            ("kernel.domainname", "/proc/sys/kernel/domainname"),
            ("kernel.shm_rmid_forced", "/proc/sys/kernel/shm_rmid_forced"),
            ("fs.mqueue.msg_max", "/proc/sys/fs/mqueue/msg_max"),
        ] {
            assert_eq!(checked(name, ALL).unwrap()[0].file(), PathBuf::from(file));
        }
        for (name, own) in [
            ("net.ipv4.ip_forward", NOTHING),
            ("kernel.shmmax", NOTHING),
            ("kernel.domainname", NOTHING),
            ("kernel.domainname", Own { uts: false, ..ALL }),
            ("kernel.hostname", ALL),
            ("kernel.panic", ALL),
            ("vm.max_map_count", ALL),
            ("net.../kernel/panic", ALL),
            ("net.ipv4./../x", ALL),
            ("net.", ALL),
            ("fs.mqueue./../panic", ALL),
        ] {
            let error = checked(name, own).unwrap_err();
            assert!(error.contains(&format!("linux.sysctl[{name:?}] ")), "{error}");
        }
    }
}
