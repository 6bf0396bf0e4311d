//! Whose containerd a host has: where its configuration, sockets and units are.

use crate::Error;
use crate::options::Options;
use crate::root::Root;

/// A kind of node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distribution {
    /// containerd as a service of its own: kubeadm, kind, minikube and most others.
    Plain,
    /// containerd as a child of k3s, which renders its configuration at each start.
    K3s,
    /// The same with RKE2.
    Rke2,
}

impl Distribution {
    /// The distributions that render the configuration of containerd.
    const RENDERING: [Self; 2] = [Self::K3s, Self::Rke2];

    /// By the configuration that the options name, else by the directories of the root.
    pub(crate) fn of(root: &Root, options: &Options) -> Result<Self, Error> {
        if let Some(named) = &options.containerd_config {
            return Ok(Self::of_configuration(named));
        }
        let found: Vec<_> = Self::RENDERING
            .into_iter()
            .filter(|one| root.is_directory(one.rendered_in()))
            .collect();
        match found[..] {
            [] => Ok(Self::Plain),
            [one] => Ok(one),
            _ => Err(Error::file(
                Self::Rke2.rendered_in(),
                format!(
                    "and {} are both there: name the config.toml in use by --containerd-config",
                    Self::K3s.rendered_in()
                ),
            )),
        }
    }

    /// By the place of a configuration: k3s and RKE2 overwrite what they render.
    fn of_configuration(file: &str) -> Self {
        let has = |one: &Self| {
            file.strip_prefix(one.rendered_in()).is_some_and(|rest| rest.starts_with('/'))
        };
        Self::RENDERING.into_iter().find(has).unwrap_or(Self::Plain)
    }

    /// The directory in which the configuration is, for k3s and RKE2 beside its template.
    pub(crate) fn rendered_in(self) -> &'static str {
        match self {
            Self::Plain => "/etc/containerd",
            Self::K3s => "/var/lib/rancher/k3s/agent/etc/containerd",
            Self::Rke2 => "/var/lib/rancher/rke2/agent/etc/containerd",
        }
    }

    /// Directory of programs. k3s and RKE2 search those of `PATH` for shims of wasm runtimes and write a table for each
    /// (`pkg/agent/containerd/runtimes.go`); a second table of that name, in a template, is an error of TOML.
    pub(crate) fn bin_dir(self) -> &'static str {
        match self {
            Self::Plain => "/usr/local/bin",
            Self::K3s | Self::Rke2 => "/opt/runwasi/bin",
        }
    }

    /// Units that run containerd; the first that is active is restarted.
    pub(crate) fn units(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &["containerd"],
            Self::K3s => &["k3s", "k3s-agent"],
            Self::Rke2 => &["rke2-server", "rke2-agent"],
        }
    }

    /// containerd's state directory, unless its configuration names another.
    pub(crate) fn state(self) -> &'static str {
        match self {
            Self::Plain => "/run/containerd",
            Self::K3s | Self::Rke2 => "/run/k3s/containerd",
        }
    }

    /// containerd's socket, unless its configuration names another.
    pub(crate) fn socket(self) -> &'static str {
        match self {
            Self::Plain => "/run/containerd/containerd.sock",
            Self::K3s | Self::Rke2 => "/run/k3s/containerd/containerd.sock",
        }
    }

    /// The program `ctr` and the arguments before its own.
    pub(crate) fn ctr(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Plain => ("ctr", &[]),
            Self::K3s => ("k3s", &["ctr"]),
            Self::Rke2 => ("/var/lib/rancher/rke2/bin/ctr", &[]),
        }
    }
}
