//! Requirements of a serving process: kernel version, capabilities and the system calls of guest
//! threads. Checked before anything is served, so that a missing one is an error of the start.

use std::{fmt::Display, io};

use rustix::{
    process::geteuid,
    thread::{CapabilitySet, capabilities},
};

use crate::sys::{self, RefusedCall};

/// Oldest supported kernel: `openat2(2)`, `close_range(2)` and the mount calls by file descriptor.
const OLDEST_KERNEL: Version = Version { major: 5, minor: 10 };

/// A capability by its name in capabilities(7), and its purpose.
struct Capability {
    flag: CapabilitySet,
    name: &'static str,
    purpose: &'static str,
}

const fn capability(flag: CapabilitySet, name: &'static str, purpose: &'static str) -> Capability {
    Capability { flag, name, purpose }
}

/// Needed for ordinary containers.
const NEEDED: [Capability; 9] = [
    capability(CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN", "mounts"),
    capability(CapabilitySet::SYS_CHROOT, "CAP_SYS_CHROOT", "the private mount namespace"),
    capability(CapabilitySet::SETUID, "CAP_SETUID", "users of guests"),
    capability(CapabilitySet::SETGID, "CAP_SETGID", "groups of guests"),
    capability(CapabilitySet::DAC_OVERRIDE, "CAP_DAC_OVERRIDE", "files of guests that run as root"),
    capability(CapabilitySet::CHOWN, "CAP_CHOWN", "owners of files that overlayfs copies"),
    capability(CapabilitySet::FOWNER, "CAP_FOWNER", "modes of files that overlayfs copies"),
    capability(CapabilitySet::FSETID, "CAP_FSETID", "modes of files that overlayfs copies"),
    capability(CapabilitySet::MKNOD, "CAP_MKNOD", "/dev of containers"),
];

/// Needed for certain containers only, which are refused with the system's error.
const SOMETIMES_NEEDED: [Capability; 5] = [
    capability(CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN", "new network namespaces"),
    capability(CapabilitySet::NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE", "ports below 1024"),
    capability(
        CapabilitySet::SYS_PTRACE,
        "CAP_SYS_PTRACE",
        "network namespaces of other processes",
    ),
    capability(
        CapabilitySet::SETFCAP,
        "CAP_SETFCAP",
        "files with capabilities that overlayfs copies",
    ),
    capability(
        CapabilitySet::KILL,
        "CAP_KILL",
        "hooks that change their user and exceed their time",
    ),
];

/// An unmet requirement.
#[derive(Debug, thiserror::Error)]
pub enum RequirementError {
    /// The kernel is too old.
    #[error(
        "Linux {found} is too old: {}.{} or later is needed",
        OLDEST_KERNEL.major,
        OLDEST_KERNEL.minor
    )]
    Kernel {
        /// Its release, from uname(2).
        found: String,
    },
    /// Root lacks needed capabilities.
    #[error("missing: {missing}")]
    Capabilities {
        /// Their names, each with its purpose.
        missing: String,
    },
    /// A system call of every guest thread is refused, by a seccomp filter most likely.
    #[error("{0}, which guest threads need")]
    Call(#[from] RefusedCall),
    /// The capabilities of the process cannot be read.
    #[error("capabilities: {0}")]
    Unknown(#[source] io::Error),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    major: u32,
    minor: u32,
}

/// Checks all requirements for the calling thread. Afterwards the thread has a umask and
/// directories of its own; nothing else has changed.
///
/// For an ordinary user, as in examples and tests, only the kernel version is checked.
pub fn check() -> Result<(), RequirementError> {
    check_kernel(&sys::kernel_release())?;
    // The guests of an ordinary user have no other users, so they need no capabilities.
    if !geteuid().is_root() {
        return Ok(());
    }
    check_capabilities(effective()?)?;
    // Tried here, because a thread of guests panics when such a call is refused later.
    Ok(sys::try_file_credentials()?)
}

/// Warns about missing capabilities that only certain containers need, in the log of a process that
/// serves all kinds of containers.
pub fn warn_of_limits() {
    // Only a warning: `check` has reported an error of this call for a process of root.
    let Ok(held) = effective() else { return };
    let missing = missing(&SOMETIMES_NEEDED, held);
    if geteuid().is_root() && !missing.is_empty() {
        tracing::warn!(missing, "some containers will be refused");
    }
}

fn effective() -> Result<CapabilitySet, RequirementError> {
    let sets = capabilities(None).map_err(|error| RequirementError::Unknown(error.into()))?;
    Ok(sets.effective)
}

fn check_kernel(release: &str) -> Result<(), RequirementError> {
    // A release that cannot be parsed is taken for one of a future kernel.
    match Version::of_release(release) {
        Some(version) if version < OLDEST_KERNEL => {
            Err(RequirementError::Kernel { found: release.to_owned() })
        }
        _ => Ok(()),
    }
}

fn check_capabilities(held: CapabilitySet) -> Result<(), RequirementError> {
    let missing = missing(&NEEDED, held);
    if missing.is_empty() { Ok(()) } else { Err(RequirementError::Capabilities { missing }) }
}

fn missing(wanted: &[Capability], held: CapabilitySet) -> String {
    let absent = wanted.iter().filter(|capability| !held.contains(capability.flag));
    join(absent.map(|capability| format!("{} ({})", capability.name, capability.purpose)))
}

fn join(items: impl Iterator<Item = impl Display>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

impl Version {
    fn of_release(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        Some(Self { major: numbers.next()?.ok()?, minor: numbers.next()?.ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_before_5_10_is_refused_with_both_versions() {
        for release in ["5.9.16", "4.19.0-27-amd64", "5.4.0-1100-aws"] {
            let said = check_kernel(release).unwrap_err().to_string();
            assert!(said.contains(release) && said.contains("5.10"), "{said}");
        }
        for release in ["5.10.0-35-amd64", "5.10", "6.1.0-50-cloud-amd64", "6.18.2", "10.0-rc1"] {
            check_kernel(release).unwrap();
        }
    }

    #[test]
    fn missing_capabilities_are_named() {
        let said = check_capabilities(CapabilitySet::all() - CapabilitySet::SETUID)
            .unwrap_err()
            .to_string();
        assert_eq!(said, "missing: CAP_SETUID (users of guests)");
        let several = CapabilitySet::all() - CapabilitySet::SETGID - CapabilitySet::SYS_ADMIN;
        let said = check_capabilities(several).unwrap_err().to_string();
        assert_eq!(said, "missing: CAP_SYS_ADMIN (mounts), CAP_SETGID (groups of guests)");
        let without_network = CapabilitySet::all() - CapabilitySet::NET_ADMIN;
        check_capabilities(without_network).unwrap();
        assert_eq!(
            missing(&SOMETIMES_NEEDED, without_network),
            "CAP_NET_ADMIN (new network namespaces)"
        );
    }

    #[test]
    fn this_machine_meets_the_requirements() {
        check().unwrap();
    }
}
