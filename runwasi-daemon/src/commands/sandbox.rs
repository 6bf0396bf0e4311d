//! The sandboxes of one daemon, as far as it tells of them.

use crate::manager::{
    client::{Client, ClientError},
    messages::SandboxEntry,
    reports::SandboxReport,
};

/// A sandbox.
#[derive(Clone, Debug)]
pub(super) struct Sandbox {
    /// Without containers if the daemon tells their number alone.
    pub(super) report: SandboxReport,
    /// That number.
    pub(super) counted: Option<u32>,
}

/// The sandboxes of one daemon, or the reason why they are not known.
pub(super) type Listed = Result<Vec<Sandbox>, String>;

/// Asks a daemon. One of an earlier version knows a shorter answer.
pub(super) fn ask(client: &Client) -> Result<Vec<Sandbox>, ClientError> {
    match client.containers() {
        Ok(reports) => Ok(reports.into_iter().map(Sandbox::from).collect()),
        // All versions have this call.
        Err(ClientError::Unknown { .. }) => {
            Ok(client.list()?.sandboxes.into_iter().map(Sandbox::from).collect())
        }
        Err(error) => Err(error),
    }
}

impl From<SandboxReport> for Sandbox {
    fn from(report: SandboxReport) -> Self {
        Self { report, counted: None }
    }
}

impl From<SandboxEntry> for Sandbox {
    fn from(entry: SandboxEntry) -> Self {
        let SandboxEntry { namespace, group, pid, socket, containers } = entry;
        let report = SandboxReport { namespace, group, pid, socket, ..SandboxReport::default() };
        Self { report, counted: Some(containers) }
    }
}
