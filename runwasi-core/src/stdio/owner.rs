//! The process that streams belong to.

use tokio::runtime::Handle;

use crate::{id::Id, shutdown::Tasks};

/// The container that streams belong to, and the tasks that serve them.
#[derive(Clone, Copy)]
pub struct Owner<'a> {
    /// The container id, which loggers are told.
    pub container: &'a Id,
    /// Its containerd namespace, which loggers are told.
    pub namespace: &'a Id,
    /// The tasks that copy a terminal.
    pub tasks: &'a Tasks,
    /// The runtime that polls the process. Its reactor watches the pipes: a wake-up of the guest by
    /// another runtime would take two threads more.
    pub guests: &'a Handle,
}
