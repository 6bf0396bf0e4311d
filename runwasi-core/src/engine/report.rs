//! End of a guest by a fault of its own, and the report to its stderr.

use std::{fmt::Display, time::Duration};

use tokio::time::timeout;

use super::{exit::ExitStatus, fault::Fault, spec::InstanceSpec};
use crate::resources::memory::BeyondLimit;

/// Longest wait for the reader of stderr to take a report.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);

impl InstanceSpec {
    /// Ends a guest by a fault: writes the report to its stderr, counts a kill for memory, which
    /// containerd gets as an OOM event, and returns the exit status for `Instance::run`.
    ///
    /// Call it when the guest's memory has been freed: it may wait for a reader of stderr.
    pub async fn fault(&self, fault: Fault, report: &str) -> ExitStatus {
        let status = match fault {
            Fault::Trap(_) => ExitStatus::TRAP,
            Fault::OutOfMemory => {
                // Counted before the process ends: its driver then reports the kill to containerd.
                self.memory.kill();
                ExitStatus::KILLED
            }
        };
        self.faults.set(fault);
        self.report(report).await;
        status
    }

    /// Ends a guest with the result of its engine. An error is that of a trap, unless a growth was
    /// `refused`.
    pub async fn end(
        &self,
        ended: Result<ExitStatus, impl Display>,
        refused: Option<BeyondLimit>,
    ) -> ExitStatus {
        let program = &self.args[0];
        match (ended, refused) {
            (Ok(status), _) => status,
            (Err(_), Some(beyond)) => {
                let report = format!("Error: {program}: out of memory: {beyond}\n");
                self.fault(Fault::OutOfMemory, &report).await
            }
            (Err(error), None) => {
                let kind = error.to_string();
                let report = format!("Error: {program}: {kind}\n");
                self.fault(Fault::Trap(kind), &report).await
            }
        }
    }

    /// Writes the reason of a guest's end to its stderr, one second at most.
    pub async fn report(&self, report: &str) {
        let written = self.stdio.stderr.write_all(report.as_bytes());
        // Bounded: the guest is dead, and a full pipe without a reader must not delay its exit.
        if !matches!(timeout(REPORT_TIMEOUT, written).await, Ok(Ok(()))) {
            tracing::warn!(
                container = %self.container,
                trap = report,
                "the guest's stderr does not take its trap"
            );
        }
    }
}
