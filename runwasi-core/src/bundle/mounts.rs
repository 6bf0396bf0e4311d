//! The mounts of `config.json`, put into the container's own detached tree. Used by `rootfs`.
//!
//! Nothing of it is ever in a mount table: a mount is made detached, a place for it is found inside the tree, and it is moved there
//! (`move_mount(2)` onto a detached tree, Linux 6.15). Where that cannot be, a directory becomes a preopen of its own.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path, PathBuf},
    sync::OnceLock,
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstatfs, makedev, mkdirat, mknodat, openat2},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
        fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
    },
};

/// What a tmpfs may hold that names no size, as containerd's own for `/dev/shm` and `/run`.
const TMPFS_SIZE: &str = "65536k";

/// Kernel interfaces of the host, by the magic numbers of `statfs(2)` (`linux/magic.h`): proc, sysfs, cgroup, cgroup2, mqueue, devpts,
/// debugfs, tracefs, securityfs, bpf, devtmpfs is a tmpfs and told by its nodes, which `nodev` makes plain.
const INTERFACES: [i64; 10] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x1980_0202,
    0x1cd1,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0xcafe_4a11,
];

/// The devices of our `/dev`: names and minor numbers; all have major number 1.
const DEVICES: [(&str, u32); 5] = [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)];

/// Whether a mount is a kernel interface of the host, which a guest never gets.
pub(super) fn is_interface(mount: impl AsFd) -> io::Result<bool> {
    Ok(INTERFACES.contains(&fstatfs(mount)?.f_type))
}

/// A new tmpfs. Options are those of `mount(8)`; flags of the mount itself are the caller's.
pub(super) fn tmpfs(options: &[String]) -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "size", TMPFS_SIZE)?;
    for option in options {
        match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(context.as_fd(), key, value)?,
            None if super::rootfs::mount_flag(option).is_some() || is_propagation(option) => {}
            // `tmpcopyup` is runc's own: it copies what lies below, which for a guest's tmpfs is nothing it asked for.
            None if option == "tmpcopyup" => {}
            None => fsconfig_set_flag(context.as_fd(), option.as_str())?,
        }
    }
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

/// Every mount of a container is private: what the host mounts later is not the guest's, nor the other way round.
pub(super) fn is_propagation(option: &str) -> bool {
    matches!(option, "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" | "unbindable" | "runbindable")
}

/// Our own `/dev`: made once for the process, read-only, with the devices that cannot do harm and a place for `/dev/shm`.
pub(super) fn devices() -> io::Result<OwnedFd> {
    static DEV: OnceLock<OwnedFd> = OnceLock::new();
    let made = match DEV.get() {
        Some(made) => made,
        None => {
            let new = make_devices()?;
            DEV.get_or_init(|| new)
        }
    };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(made, "", flags)?)
}

fn make_devices() -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "mode", "755")?;
    fsconfig_create(context.as_fd())?;
    let open = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    for (name, minor) in DEVICES {
        mknodat(&open, name, FileType::CharacterDevice, Mode::from(0o666), makedev(1, minor))?;
        // Past the umask.
        rustix::fs::chmodat(&open, name, Mode::from(0o666), rustix::fs::AtFlags::empty())?;
    }
    mkdirat(&open, "shm", Mode::from(0o755))?;
    crate::sys::close_devices(&open)?;
    Ok(open)
}

/// Where a mount goes: the place at `path` inside the tree, made if it is missing. No link of the image leads out of the tree.
pub(super) fn place(root: impl AsFd, path: &Path, is_directory: bool) -> io::Result<OwnedFd> {
    let root = root.as_fd();
    let mut reached = PathBuf::from(".");
    let mut names = path.components().filter(|part| matches!(part, Component::Normal(_))).peekable();
    while let Some(name) = names.next() {
        let parent = inside(root, &reached, OFlags::PATH | OFlags::DIRECTORY)?;
        reached.push(name);
        if inside(root, &reached, OFlags::PATH).is_ok() {
            continue;
        }
        let name: &Path = name.as_ref();
        let made = match names.peek().is_some() || is_directory {
            true => mkdirat(&parent, name, Mode::from(0o755)),
            false => mknodat(&parent, name, FileType::RegularFile, Mode::from(0o644), 0),
        };
        match made {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    inside(root, &reached, OFlags::PATH)
}

fn inside(root: impl AsFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

/// Moves a detached mount to its place in a tree.
pub(super) fn attach(mount: impl AsFd, place: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", place, "", flags)?)
}

/// Whether a recursive bind of this directory would bring the host's own `/proc` and `/sys` along.
pub(super) fn holds_interfaces(source: &Path) -> bool {
    let root = rustix::fs::statat(CWD, "/", rustix::fs::AtFlags::empty());
    let source = rustix::fs::statat(CWD, source, rustix::fs::AtFlags::empty());
    matches!((root, source), (Ok(root), Ok(source)) if (root.st_dev, root.st_ino) == (source.st_dev, source.st_ino))
}
