//! File systems created for a container: tmpfs and its `/dev`.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, chmodat, major, makedev, minor, mkdirat, mknodat, symlinkat},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
        fsconfig_set_string, fsmount, fsopen,
    },
};

/// Major number of all devices in our `/dev`.
const MAJOR: u32 = 1;
/// Names and minor numbers of the devices in our `/dev`.
const DEVICES: [(&str, u32); 5] =
    [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)];

/// Minor number of the node for the first standard stream. The kernel's driver of major number 1
/// has none from 12 on, and answers `ENXIO`.
const STREAM: u32 = 240;
/// Names of the standard streams in `/dev`, by their numbers.
const STREAMS: [&str; 3] = ["stdin", "stdout", "stderr"];
/// Directory of their nodes.
const DESCRIPTORS: &str = "fd";

/// Number of the standard stream whose node in `/dev` has this device number.
// No other file has one: a node that an image or a volume brings cannot be opened.
pub(crate) fn standard_stream(device: u64) -> Option<u32> {
    let number = minor(device).checked_sub(STREAM)?;
    (major(device) == MAJOR && number < STREAMS.len() as u32).then_some(number)
}

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

/// Creates our own detached `/dev`: harmless devices, the standard streams and the mount point of
/// `/dev/shm`.
pub(super) fn make_devices() -> io::Result<OwnedFd> {
    let made = make_tmpfs([("mode", Some("755"))])?;
    for (name, minor) in DEVICES {
        make_device(&made, name, minor)?;
    }
    make_streams(&made)?;
    // Guests see `/dev` read-only, so the mount point has to exist before.
    mkdirat(&made, SHM, Mode::from(0o755))?;
    Ok(made)
}

/// Creates `/dev/fd` with a node for each standard stream, and the links `stdin`, `stdout`,
/// `stderr`.
fn make_streams(made: &OwnedFd) -> io::Result<()> {
    mkdirat(made, DESCRIPTORS, Mode::from(0o755))?;
    for (number, name) in (0..).zip(STREAMS) {
        let node = format!("{DESCRIPTORS}/{number}");
        make_device(made, &node, STREAM + number)?;
        symlinkat(node, made, name)?;
    }
    Ok(())
}

fn make_device(made: &OwnedFd, name: &str, minor: u32) -> io::Result<()> {
    mknodat(made, name, FileType::CharacterDevice, Mode::from(0o666), makedev(MAJOR, minor))?;
    // mknodat(2) applies the umask of this thread, chmod does not.
    Ok(chmodat(made, name, Mode::from(0o666), AtFlags::empty())?)
}
