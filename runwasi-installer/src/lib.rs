//! Installs the project on a Kubernetes node, and removes it: programs, systemd units, the sysctl
//! file and the runtimes in containerd's configuration. The program `runwasi-node-installer` works
//! on the root of a host, which may be mounted into its container; it is tested on directories that
//! look like one.
//!
//! ```text
//! cli ─▶ install ──┬─▶ containerd   which file gets the runtimes, and its new text: decided before any write
//!        uninstall ├─▶ files        programs, units, sysctl: what is wanted, what is there
//!        status    ├─▶ record       what was done and what is still due, written before it is done
//!                  ├─▶ usage        pods that need what is installed
//!                  ├─▶ bundle_roots where the daemon takes bundles from
//!                  ├─▶ removal      files and blocks that are not wanted any more
//!                  ├─▶ restart      containerd with the new configuration, and the way back
//!                  │     └─▶ service   systemd units of the host
//!                  │           └─▶ host   programs of the host, in the namespaces of its first process
//!                  └─▶ root         files of the host: resolved inside the root, replaced by rename
//! ```
//!
//! - [`cli`]: the command line. - [`options`]: what is installed and where. - [`host`]: the seam of the tests.
//!
//! A run that is killed anywhere is completed by the next one: each write is a rename, and the
//! record names a change before it is made. Nothing is written if a configuration is not
//! understood.

mod bundle_roots;
pub mod cli;
mod containerd;
mod error;
mod files;
pub mod host;
mod install;
pub mod options;
mod record;
mod removal;
mod restart;
mod root;
mod service;
mod status;
mod uninstall;
mod usage;

pub use error::Error;
pub use install::install;
pub use status::{Status, status};
pub use uninstall::uninstall;

#[cfg(test)]
mod tests;
