//! A native container whose server was killed: `delete` ends it.
//!
//! The delegate is killed first. It would publish the container's exit, and containerd publishes one
//! after each `delete`: there would be two. Its other containers have lost their server, too, and
//! get a `delete` of their own.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use super::{delegate, launcher::Launcher, record::Record, socket};
use crate::{engine::exit::Exit, id::Id};

/// A container with the record that its server has left.
pub(crate) struct Orphan {
    id: Id,
    namespace: Id,
    bundle: PathBuf,
    record: Record,
}

impl Orphan {
    /// The container of a bundle, if it is native, was not deleted, and has no server any more.
    /// `served`: a process listens at the socket of its sandbox.
    pub(crate) fn find(bundle: &Path, id: &Id, namespace: &Id, served: bool) -> Option<Self> {
        // Both: a process that ends closes its sockets first, and another server may have made the
        // socket anew.
        let has_server = |record: &Record| served && record.server.is_alive();
        let record = Record::read(bundle).filter(|record| !has_server(record))?;
        Some(Self {
            id: id.clone(),
            namespace: namespace.clone(),
            bundle: bundle.to_owned(),
            record,
        })
    }

    /// Ends the container in any state until the deadline, by its delegate's program. Blocks.
    pub(crate) fn end(&self, grpc_address: &str, deadline: Instant) -> Option<(u32, Exit)> {
        let left = || deadline.saturating_duration_since(Instant::now());
        if let Err(error) = self.record.delegate.kill(left()) {
            tracing::warn!(%error, container = %self.id, "its native runtime does not end");
        }
        let launcher = Launcher {
            program: self.record.program.clone(),
            namespace: self.namespace.clone(),
            grpc_address: grpc_address.to_owned(),
            // It tells no events: containerd does after its `delete`.
            ttrpc_address: String::new(),
        };
        let ended = launcher.delete(&self.id, &self.bundle, left());
        match &ended {
            Ok(_) => Record::remove(&self.bundle),
            Err(error) => {
                tracing::error!(%error, container = %self.id, "a native container stays behind");
            }
        }
        if !socket::is_served(&self.record.address) {
            delegate::remove_traces(&self.record);
        }
        ended.ok()
    }
}
