//! Options of `mount(8)`.

use rustix::mount::MountFlags;

/// Maps an option of `mount(8)` to its flag of `mount(2)`. Options that undo a default map to no
/// flag.
pub(super) fn mount_flag(option: &str) -> Option<MountFlags> {
    Some(match option {
        "ro" => MountFlags::RDONLY,
        "bind" => MountFlags::BIND,
        "rbind" => MountFlags::BIND | MountFlags::REC,
        "noexec" => MountFlags::NOEXEC,
        "noatime" => MountFlags::NOATIME,
        "nodiratime" => MountFlags::NODIRATIME,
        "relatime" => MountFlags::RELATIME,
        "strictatime" => MountFlags::STRICTATIME,
        "sync" => MountFlags::SYNCHRONOUS,
        "dirsync" => MountFlags::DIRSYNC,
        "lazytime" => MountFlags::LAZYTIME,
        "mand" => MountFlags::PERMIT_MANDATORY_FILE_LOCKING,
        "silent" => MountFlags::SILENT,
        "rw" | "nodev" | "nosuid" | "dev" | "suid" | "exec" | "atime" | "diratime" | "async"
        | "loud" | "nolazytime" | "nomand" | "norelatime" | "nostrictatime" | "defaults" => {
            MountFlags::empty()
        }
        _ => return None,
    })
}
