//! File systems that are made for a container: tmpfs, and its `/dev`.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, chmodat, makedev, mkdirat, mknodat},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
        fsconfig_set_string, fsmount, fsopen,
    },
};

/// The devices of our `/dev`: names and minor numbers; all have major number 1.
const DEVICES: [(&str, u32); 5] =
    [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)];

/// A detached tmpfs with settings of its own.
pub(super) fn make_tmpfs<'a>(
    settings: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
) -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in settings {
        match value {
            Some(value) => fsconfig_set_string(context.as_fd(), key, value)?,
            None => fsconfig_set_flag(context.as_fd(), key)?,
        }
    }
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

/// Our own `/dev`, detached: devices that cannot do harm, and a place for `/dev/shm`.
pub(super) fn make_devices() -> io::Result<OwnedFd> {
    let made = make_tmpfs([("mode", Some("755"))])?;
    for (name, minor) in DEVICES {
        mknodat(&made, name, FileType::CharacterDevice, Mode::from(0o666), makedev(1, minor))?;
        // Past the umask.
        chmodat(&made, name, Mode::from(0o666), AtFlags::empty())?;
    }
    mkdirat(&made, "shm", Mode::from(0o755))?;
    Ok(made)
}
