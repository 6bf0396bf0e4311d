//! Raw system calls without a safe wrapper in our dependencies. All unsafe code of this crate is
//! here.

mod bare_process;
pub mod credentials;
mod descriptor;
mod mount;
mod namespaces;
mod process;
pub(crate) mod terminal;
mod thread;

pub(crate) use self::{
    bare_process::{BareProcess, Change, next_change},
    credentials::{set_file_credentials, try_file_credentials},
    descriptor::watch,
    mount::unshare_mounts,
    namespaces::{enter_namespace, is_namespace, set_hostname, unshare_namespaces},
    process::{end_process, kernel_release, orphan},
    thread::{in_directory, unshare_file_attributes},
};
pub use self::{
    credentials::RefusedCall,
    descriptor::{adopt_fd, has_no_reader},
    mount::{MountRestriction, restrict_mount},
    namespaces::{NamespaceKind, set_loopback_up},
    process::{Fork, fork, fork_with_pid, trim_memory},
    thread::{pause, thread_cpu_time},
};
