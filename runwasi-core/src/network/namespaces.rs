//! The namespaces of a sandbox: opened by their paths or made anew, checked, and entered with their
//! kernel parameters.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::Path,
};

use super::spares::Spares;
use crate::{
    bundle::{
        config::{NamespaceConfig, NamespacesConfig},
        sysctls::{self, Sysctl},
    },
    sys::{self, NamespaceKind},
};

/// A namespace that has been checked and can be entered.
#[derive(Debug, Default)]
pub enum Entrance {
    /// The namespace of this process.
    #[default]
    Host,
    /// A namespace that does not exist yet.
    New,
    /// An open file of `/proc/<pid>/ns`, or a bind mount of one.
    Opened(File),
}

/// The namespaces of a sandbox.
#[derive(Debug, Default)]
pub struct Namespaces {
    /// Its network.
    pub network: Entrance,
    /// Its System V IPC and message queues.
    pub ipc: Entrance,
    /// Its host name.
    pub uts: Entrance,
    /// True if its processes are among the host's. Otherwise native containers that share a PID
    /// namespace get one of the sandbox.
    pub host_pids: bool,
    /// Host name for a new UTS namespace.
    pub hostname: Option<String>,
    /// Parameters of these namespaces. Refused if the namespace is that of this process.
    #[doc(hidden)]
    pub sysctls: Vec<Sysctl>,
}

/// Why a namespace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The path cannot be opened, or is not that of such a namespace.
    #[error("{field} {path}: {source}")]
    Path {
        /// The configuration field that gave the path.
        field: &'static str,
        /// The path.
        path: String,
        /// The system's error.
        source: io::Error,
    },
    /// A parameter of a namespace cannot be set.
    #[error("linux.sysctl[{name:?}] = {value:?}: {source}")]
    Sysctl {
        /// The name.
        name: String,
        /// The value.
        value: String,
        /// The system's error.
        source: io::Error,
    },
    /// The namespace cannot be made or entered.
    #[error("{what}: {source}")]
    Enter {
        /// The step that failed.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

pub(super) fn failed(what: &'static str) -> impl Fn(io::Error) -> NetworkError {
    move |source| NetworkError::Enter { what, source }
}

impl Entrance {
    fn open(kind: NamespaceKind, config: &NamespaceConfig) -> Result<Self, NetworkError> {
        let field = match kind {
            NamespaceKind::Network => "linux.namespaces[network].path",
            NamespaceKind::Ipc => "linux.namespaces[ipc].path",
            NamespaceKind::Uts => "linux.namespaces[uts].path",
        };
        match config {
            NamespaceConfig::Host => Ok(Self::Host),
            NamespaceConfig::New => Ok(Self::New),
            NamespaceConfig::Path(path) => Self::at(kind, field, path),
        }
    }

    /// Opens the file at `path`, which `field` has given, and checks that it is a namespace of this
    /// kind.
    pub(super) fn at(
        kind: NamespaceKind,
        field: &'static str,
        path: &Path,
    ) -> Result<Self, NetworkError> {
        let wrong = |source| NetworkError::Path { field, path: path.display().to_string(), source };
        open(kind, path).map(Self::Opened).map_err(wrong)
    }

    pub(super) fn is_host(&self) -> bool {
        matches!(self, Self::Host)
    }

    /// True for the calling thread's namespace, also by a path.
    // As runc does: "the host's" is the one of the program that makes the container.
    pub(crate) fn is_current(&self, kind: NamespaceKind) -> Result<bool, NetworkError> {
        let Self::Opened(file) = self else { return Ok(self.is_host()) };
        let read = failed(kind.own());
        let named = file.metadata().map_err(&read)?;
        let current = std::fs::metadata(kind.own()).map_err(&read)?;
        Ok((named.dev(), named.ino()) == (current.dev(), current.ino()))
    }
}

fn open(kind: NamespaceKind, path: &Path) -> io::Result<File> {
    // `O_NONBLOCK`: the open of a FIFO in its place must not wait for a writer.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !sys::is_namespace(&opened, kind)? {
        let reason = format!("is not a {} namespace", kind.name());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    Ok(opened)
}

impl Namespaces {
    /// Opens the namespaces that `config.json` names, and checks their kinds and parameters.
    #[doc(hidden)]
    pub fn open(config: &NamespacesConfig) -> Result<Self, NetworkError> {
        let namespaces = Self {
            network: Entrance::open(NamespaceKind::Network, &config.network)?,
            ipc: Entrance::open(NamespaceKind::Ipc, &config.ipc)?,
            uts: Entrance::open(NamespaceKind::Uts, &config.uts)?,
            host_pids: config.host_pids,
            hostname: config.hostname.clone(),
            sysctls: config.sysctls.clone(),
        };
        namespaces.check_sysctls()?;
        Ok(namespaces)
    }

    /// The namespaces of a managed sandbox: the network at `path`, which `field` has given, and new
    /// ones besides.
    pub fn at(field: &'static str, path: &Path) -> Result<Self, NetworkError> {
        let network = Entrance::at(NamespaceKind::Network, field, path)?;
        Ok(Self { network, ipc: Entrance::New, uts: Entrance::New, ..Self::default() })
    }

    /// True if all are those of this process.
    pub fn are_host(&self) -> bool {
        self.network.is_host() && self.ipc.is_host() && self.uts.is_host()
    }

    pub(super) fn all(&self) -> [(NamespaceKind, &Entrance); 3] {
        [
            (NamespaceKind::Network, &self.network),
            (NamespaceKind::Ipc, &self.ipc),
            (NamespaceKind::Uts, &self.uts),
        ]
    }

    /// Refuses parameters of the calling thread's own namespaces.
    fn check_sysctls(&self) -> Result<(), NetworkError> {
        for sysctl in &self.sysctls {
            for (kind, entrance) in self.all() {
                if sysctl.namespace() == Some(kind) && entrance.is_current(kind)? {
                    let reason = sysctls::of_host(kind);
                    let refused = io::Error::new(io::ErrorKind::InvalidInput, reason);
                    return Err(not_set(sysctl, refused));
                }
            }
        }
        Ok(())
    }

    /// Makes the new ones and enters all, with the calling thread. An error leaves it in some.
    pub(super) fn enter(&self, spares: &mut Spares) -> Result<(), NetworkError> {
        // Also of namespaces that were not opened by `config.json`, and before the thread leaves
        // its own.
        self.check_sysctls()?;
        let mut new = Vec::new();
        let enter = |file: &File, kind| {
            sys::enter_namespace(file.as_fd(), kind).map_err(failed("enter the namespaces"))
        };
        for (kind, entrance) in self.all() {
            match (entrance, kind) {
                (Entrance::Host, _) => {}
                (Entrance::New, NamespaceKind::Network) => match spares.take() {
                    Some(spare) => enter(&spare, kind)?,
                    None => new.push(kind),
                },
                (Entrance::New, _) => new.push(kind),
                (Entrance::Opened(file), _) => enter(file, kind)?,
            }
        }
        if !new.is_empty() {
            make(&new, self.hostname.as_deref())?;
        }
        self.sysctls.iter().try_for_each(set)
    }
}

impl From<Entrance> for Namespaces {
    fn from(network: Entrance) -> Self {
        Self { network, ..Self::default() }
    }
}

/// Makes namespaces of these kinds around the calling thread.
pub(super) fn make(kinds: &[NamespaceKind], hostname: Option<&str>) -> Result<(), NetworkError> {
    sys::unshare_namespaces(kinds).map_err(failed("new namespaces"))?;
    for kind in kinds {
        match kind {
            // A new network has its loopback device down. runc sets it up, too.
            NamespaceKind::Network => sys::set_loopback_up()
                .map_err(failed("loopback device of the new network namespace"))?,
            NamespaceKind::Uts => {
                let set = hostname.map_or(Ok(()), sys::set_hostname);
                set.map_err(failed("hostname of the new UTS namespace"))?;
            }
            NamespaceKind::Ipc => {}
        }
    }
    Ok(())
}

/// Sets a parameter of one of the calling thread's namespaces.
// The kernel shows the parameters of the namespaces of the thread that opens the file.
fn set(sysctl: &Sysctl) -> Result<(), NetworkError> {
    let opened = OpenOptions::new().write(true).open(sysctl.file());
    let written = opened.and_then(|mut file| file.write_all(sysctl.value.as_bytes()));
    written.map_err(|source| not_set(sysctl, source))
}

fn not_set(sysctl: &Sysctl, source: io::Error) -> NetworkError {
    NetworkError::Sysctl { name: sysctl.name.clone(), value: sysctl.value.clone(), source }
}

/// Opens the calling thread's namespace.
pub(super) fn own(kind: NamespaceKind) -> Result<(NamespaceKind, File), NetworkError> {
    Ok((kind, File::open(kind.own()).map_err(failed(kind.own()))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_to_no_network_namespace_is_refused_with_the_path() {
        for path in ["/nonexistent/net", "/dev/null", "/proc/self/ns/uts"] {
            let network = NamespaceConfig::Path(path.into());
            let config = NamespacesConfig { network, ..NamespacesConfig::default() };
            let error = Namespaces::open(&config).unwrap_err().to_string();
            assert!(
                error.contains("linux.namespaces[network].path") && error.contains(path),
                "{error}"
            );
        }
    }
}
