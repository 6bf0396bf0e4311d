//! Raw system calls without a safe wrapper in our dependencies. All unsafe code of this crate is
//! here.

mod bare_process;
mod confine;
pub mod credentials;
mod descriptor;
mod first_process;
mod first_program;
#[cfg(test)]
mod lease;
mod loop_device;
mod mount;
mod namespaces;
mod process;
mod program;
mod stat;
pub(crate) mod terminal;
mod thread;
mod unix_socket;

#[cfg(test)]
pub(crate) use self::lease::Lease;
pub(crate) use self::{
    bare_process::{BareProcess, Change, next_change},
    confine::lower_priority,
    credentials::{set_file_capabilities, set_file_credentials, try_file_credentials},
    descriptor::{has_event, is_full, watch},
    first_process::start_first,
    loop_device::LoopDevice,
    mount::unshare_mounts,
    namespaces::{
        enter_namespace, in_user_namespace, is_namespace, set_hostname, unshare_namespaces,
    },
    process::{
        boot_id, end_process, kernel_release, orphan, pid_of_orphan, resident_memory,
        return_freed_ends, start_in_cgroups, status_field,
    },
    thread::{current_wait, in_directory, thread_waits, unshare_file_attributes, waits},
    unix_socket::{socket_peer, unconnected_socket},
};
pub use self::{
    confine::{
        bound_address_space, bound_cpu_time, close_inherited, confine, end_with_stdin,
        name_process, seal,
    },
    credentials::RefusedCall,
    descriptor::{adopt_fd, has_no_reader, ignore_connects, unacknowledged},
    mount::{MountAttributes, MountChange, change_mount},
    namespaces::{NamespaceKind, set_loopback_up},
    process::{Fork, fork, fork_with_pid, limit_heaps, trim_memory},
    program::unmap_program,
    stat::{ProcessStat, start_time},
    thread::{pause, thread_cpu_time},
};
