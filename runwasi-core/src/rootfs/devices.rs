//! File systems created for a container: tmpfs and its `/dev`.

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

/// Names and minor numbers of the devices in our `/dev`. All have major number 1.
const DEVICES: [(&str, u32); 5] =
    [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)];

/// Creates a detached tmpfs with these settings. A setting without a value is a flag.
pub(super) fn make_tmpfs<'a>(
    settings: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
) -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in settings {
        let set = match value {
            Some(value) => fsconfig_set_string(context.as_fd(), key, value),
            None => fsconfig_set_flag(context.as_fd(), key),
        };
        set.map_err(|error| refused(key, value, error.into()))?;
    }
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

/// Names the setting that a tmpfs does not take.
fn refused(key: &str, value: Option<&str>, error: io::Error) -> io::Error {
    let setting = value.map_or_else(|| key.to_owned(), |value| format!("{key}={value}"));
    io::Error::new(error.kind(), format!("options: {setting:?} is wrong: {error}"))
}

/// Name of the mount point in our `/dev` that most containers have a mount for.
pub(super) const SHM: &str = "shm";

/// Creates our own detached `/dev`: harmless devices and the mount point of `/dev/shm`.
pub(super) fn make_devices() -> io::Result<OwnedFd> {
    let made = make_tmpfs([("mode", Some("755"))])?;
    for (name, minor) in DEVICES {
        mknodat(&made, name, FileType::CharacterDevice, Mode::from(0o666), makedev(1, minor))?;
        // mknodat(2) applies the umask of this thread, chmod does not.
        chmodat(&made, name, Mode::from(0o666), AtFlags::empty())?;
    }
    // Guests see `/dev` read-only, so the mount point has to exist before.
    mkdirat(&made, SHM, Mode::from(0o755))?;
    Ok(made)
}
