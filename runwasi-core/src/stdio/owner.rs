//! The process that streams belong to.

use crate::{id::Id, shutdown::Tasks};

/// Whose streams they are, and where what they need runs.
#[derive(Clone, Copy)]
pub struct Owner<'a> {
    /// The container; loggers are told it.
    pub container: &'a Id,
    /// Its containerd namespace; loggers are told it.
    pub namespace: &'a Id,
    /// Where a terminal is copied.
    pub tasks: &'a Tasks,
}
