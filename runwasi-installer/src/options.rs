//! What is to be installed and where. Filled by `cli` and by tests.

use std::path::PathBuf;

/// A runtime of the project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Runtime {
    /// A shim per pod.
    Wasmtime,
    /// The node daemon.
    Wasmtimed,
}

impl Runtime {
    /// Both, in the order in which they are written.
    pub const ALL: [Self; 2] = [Self::Wasmtime, Self::Wasmtimed];

    /// The name in containerd's configuration, and the `handler` of a RuntimeClass.
    #[must_use]
    pub fn handler(self) -> &'static str {
        match self {
            Self::Wasmtime => "wasmtime",
            Self::Wasmtimed => "wasmtimed",
        }
    }

    /// containerd's name of the runtime, from which it derives the shim's.
    #[must_use]
    pub fn containerd_name(self) -> &'static str {
        match self {
            Self::Wasmtime => "io.containerd.wasmtime.v1",
            Self::Wasmtimed => "io.containerd.wasmtimed.v1",
        }
    }

    /// The shim's file name.
    #[must_use]
    pub fn shim(self) -> &'static str {
        match self {
            Self::Wasmtime => "containerd-shim-wasmtime-v1",
            Self::Wasmtimed => "containerd-shim-wasmtimed-v1",
        }
    }
}

/// Options of a run. Directories and files are absolute paths of the host, without the prefix
/// `root`.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the host's root directory is for this process.
    pub root: PathBuf,
    /// The directory of this process with the files to install.
    pub assets: PathBuf,
    /// The runtimes to install.
    pub runtimes: Vec<Runtime>,
    /// Whether the shims make the sandboxes of pods: `sandboxer = "shim"`.
    pub sandboxer: bool,
    /// Directory of programs; none for the distribution's default.
    pub bin_dir: Option<String>,
    /// Directory of systemd units.
    pub unit_dir: String,
    /// Directory of sysctl files.
    pub sysctl_dir: String,
    /// Directory of this program's own record.
    pub record_dir: String,
    /// containerd's configuration, for k3s and RKE2 the rendered one; none to look for it.
    pub containerd_config: Option<String>,
    /// containerd's systemd unit; none for the distribution's.
    pub containerd_unit: Option<String>,
    /// Whether programs of the host are run: systemctl, sysctl and ctr.
    pub restart: bool,
    /// Whether what may be in use is taken away, and blocks replaced that were edited.
    pub force: bool,
    /// Whether a change of a configuration is tried at once that has failed before.
    pub retry: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            root: PathBuf::from("/"),
            assets: PathBuf::from("/assets"),
            runtimes: Runtime::ALL.to_vec(),
            sandboxer: false,
            bin_dir: None,
            unit_dir: "/etc/systemd/system".to_owned(),
            sysctl_dir: "/etc/sysctl.d".to_owned(),
            record_dir: "/var/lib/runwasi-node-installer".to_owned(),
            containerd_config: None,
            containerd_unit: None,
            restart: true,
            force: false,
            retry: false,
        }
    }
}
