//! Errors of native containers that are not their runtime's own. Their texts reach users through
//! containerd.

use std::{io, path::PathBuf};

/// A native container has no runtime.
#[derive(Debug, thiserror::Error)]
pub enum NativeError {
    /// The setting refuses all.
    #[error("native containers are off (native-runtime = \"off\")")]
    Off,
    /// No such program is installed.
    #[error(
        "native containers need {program}, which is not {place}: install it (it is part of \
         containerd's packages, and needs runc), or set native-runtime"
    )]
    Missing {
        /// The name or path in the setting.
        program: String,
        /// The searched place.
        place: String,
    },
    /// This process is restricted as a unit of systemd is, and systemd does not run.
    #[error(
        "native containers need a process without the restrictions of this one \
         (NoNewPrivileges=), and systemd does not run here to start one: start the daemon without \
         them, or use shims per pod"
    )]
    Restricted,
    /// The delegate does not start, or does not answer.
    #[error("native runtime {}: {reason}", program.display())]
    Failed {
        /// Its program.
        program: PathBuf,
        /// The program's own words, or the system's error.
        reason: String,
    },
    /// The directory of the delegate, or the record of it, cannot be made.
    #[error("files of the native runtime: {}: {source}", path.display())]
    Directory {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}
