//! Private mount namespace of this OS process. The mount trees of its containers are attached in
//! it.
//!
//! ```text
//! /         tmpfs, 0700
//! ├── dev   our own /dev, read-only; each container gets a clone
//! ├── empty an empty directory, read-only; masked directories get a clone
//! ├── new   place of a mount that is checked before a tree gets it
//! ├── 0     tree of one container: its root file system with its volumes
//! └── 1     …
//! ```
//!
//! A second namespace of the same kind holds what no guest sees: the copies of `following`.
//!
//! Linux before 6.15 can neither mount on a detached tree nor clone a detached tree. An attached
//! tree accepts mounts, and a descriptor of it shows them from every namespace. Trees are therefore
//! attached here, where no other process looks: the host's mount table has no entry for them, and
//! the kernel removes the namespace with its last descriptor, also after SIGKILL.
//!
//! A thread enters for a few system calls only ([`MountNamespace::enter`]). Sources on the host are
//! opened earlier, from the host's namespace.

use std::{
    fs::File,
    io::{self, Read},
    marker::PhantomData,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, StatxFlags, mkdirat, open, openat, statx, unlinkat},
    io::Errno,
    mount::{
        MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
        mount_change, mount_remount, move_mount, open_tree, unmount,
    },
    process::{chroot, fchdir, pivot_root},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use super::devices;
use crate::{lock::Mutex, sys, task_limits};

/// Name of our own `/dev` in the root directory of the namespace.
const DEVICES: &str = "dev";

/// Name of the empty directory.
const EMPTY: &str = "empty";

/// Name of the place for a mount that is not checked yet.
const NEW: &str = "new";

/// Flags of a `/dev`. Without `nodev`, because guests may open its devices.
const DEVICES_FLAGS: MountFlags =
    MountFlags::BIND.union(MountFlags::RDONLY).union(MountFlags::NOSUID).union(MountFlags::NOEXEC);

/// A private namespace, and the descriptors with which a thread returns from it.
#[derive(Debug)]
pub(super) struct MountNamespace {
    namespace: OwnedFd,
    /// Root directory of the namespace.
    root: OwnedFd,
    /// Namespace, root and working directory of the process.
    host: Host,
    /// procfs of the host; the namespace has no procfs mount.
    proc: OwnedFd,
    /// `/proc/self/fd`: a link for each file descriptor of this process.
    descriptors: OwnedFd,
    /// Name of the next tree.
    next: AtomicU64,
}

#[derive(Debug)]
struct Host {
    namespace: OwnedFd,
    /// Absent if `setns(2)` leads there. The working directory is then set by it, too.
    root: Option<OwnedFd>,
    /// Absent if it is the root as well.
    working_directory: Option<OwnedFd>,
}

/// A tree attached in the namespace. Dropping it detaches the tree with all its volumes. The file
/// systems themselves last as long as a descriptor of them.
#[derive(Debug)]
pub(super) struct Tree {
    namespace: &'static MountNamespace,
    name: u64,
}

/// Guard of a thread inside the namespace. Dropping it returns the thread to the host's namespace.
pub(super) struct Inside {
    namespace: &'static MountNamespace,
    // `setns(2)` acts on the calling thread, so the guard must not move to another one: a raw
    // pointer makes the type neither `Send` nor `Sync`.
    _thread: PhantomData<*const ()>,
}

impl MountNamespace {
    /// The namespace of the containers of this process. The first call creates it and blocks for a
    /// fraction of a millisecond.
    pub(super) fn of_process() -> io::Result<&'static Self> {
        static NAMESPACE: OnceLock<MountNamespace> = OnceLock::new();
        Self::of(&NAMESPACE)
    }

    /// The namespace for what no guest sees. The first call creates it.
    pub(super) fn of_copies() -> io::Result<&'static Self> {
        static NAMESPACE: OnceLock<MountNamespace> = OnceLock::new();
        Self::of(&NAMESPACE)
    }

    fn of(kept: &'static OnceLock<Self>) -> io::Result<&'static Self> {
        // Serializes the creation, so that no thread creates another namespace for nothing. A bare
        // `get_or_init` cannot return the error of a failed creation.
        static MAKING: Mutex<()> = Mutex::new(());
        if let Some(made) = kept.get() {
            return Ok(made);
        }
        // The mutex guards no data, so a panic of its last owner leaves nothing inconsistent.
        let _making = MAKING.lock();
        match kept.get() {
            Some(made) => Ok(made),
            None => Self::make().map(|made| kept.get_or_init(|| made)),
        }
    }

    fn make() -> io::Result<Self> {
        let mut host = Host::of_process()?;
        let proc = open("/proc", PATH, Mode::empty())?;
        let descriptors = openat(&proc, "self/fd", PATH, Mode::empty())?;
        // On a thread of its own, because `unshare(2)` cannot be undone.
        let builder = thread::Builder::new().name("mounts".into());
        let panicked = |_| io::Error::other("the thread that makes it has panicked");
        let (namespace, root) = thread::scope(|scope| {
            let thread = builder.spawn_scoped(scope, || make_namespace(&mut host, &proc));
            let thread = thread.map_err(task_limits::named)?;
            thread.join().map_err(panicked)?
        })?;
        Ok(Self { namespace, root, host, proc, descriptors, next: AtomicU64::new(0) })
    }

    /// Moves the calling thread into the namespace, until the guard is dropped. The thread gets its
    /// own root and working directory; after the drop they are the process's again.
    pub(super) fn enter(&'static self) -> io::Result<Inside> {
        match set_namespace(&self.namespace) {
            // The thread shares root and working directory, as each does until its first time here.
            Err(Errno::INVAL) => {
                sys::unshare_file_attributes()?;
                set_namespace(&self.namespace)?;
            }
            entered => entered?,
        }
        Ok(Inside { namespace: self, _thread: PhantomData })
    }
}

const PATH: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const CLONE: OpenTreeFlags = OpenTreeFlags::OPEN_TREE_CLONE.union(OpenTreeFlags::OPEN_TREE_CLOEXEC);
const NAMESPACE_FILE: &str = "thread-self/ns/mnt";

/// Moves the calling thread into a mount namespace. Its root and its working directory become the
/// root of the namespace.
fn set_namespace(namespace: &OwnedFd) -> rustix::io::Result<()> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))
}

impl Host {
    fn of_process() -> io::Result<Self> {
        let namespace = open("/proc/self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let root = Some(open("/", PATH, Mode::empty())?);
        let working_directory = Some(open(".", PATH, Mode::empty())?);
        Ok(Self { namespace, root, working_directory })
    }

    /// Moves the calling thread into the namespace, and forgets the directories to which that alone
    /// leads. The process's own differ if it runs in a chroot or elsewhere than in `/`.
    fn look_where_namespace_leads(&mut self) -> io::Result<()> {
        set_namespace(&self.namespace)?;
        let reached = identity(&open(".", PATH, Mode::empty())?);
        let leads_to = |directory: &Option<OwnedFd>| {
            reached.is_some() && directory.as_ref().and_then(identity) == reached
        };
        if leads_to(&self.root) {
            self.root = None;
            if leads_to(&self.working_directory) {
                self.working_directory = None;
            }
        }
        Ok(())
    }

    /// Returns the calling thread to the namespace, root and working directory of the process.
    fn return_to(&self) -> io::Result<()> {
        set_namespace(&self.namespace)?;
        if let Some(root) = &self.root {
            fchdir(root)?;
            chroot(".")?;
        }
        if let Some(directory) = &self.working_directory {
            fchdir(directory)?;
        }
        Ok(())
    }
}

/// Mount, device and inode of a directory, the same of equal directories only. Absent if the kernel
/// does not tell the mount.
fn identity(directory: &OwnedFd) -> Option<[u64; 4]> {
    let wanted = StatxFlags::INO | StatxFlags::MNT_ID;
    let told = statx(directory, "", AtFlags::EMPTY_PATH, wanted).ok()?;
    let is_told = told.stx_mask & wanted.bits() == wanted.bits();
    let device = [told.stx_dev_major, told.stx_dev_minor].map(u64::from);
    is_told.then_some([told.stx_mnt_id, device[0], device[1], told.stx_ino])
}

/// Moves the calling thread into a new mount namespace without any mount of the host. Returns the
/// namespace and its root directory.
fn make_namespace(host: &mut Host, proc: &OwnedFd) -> io::Result<(OwnedFd, OwnedFd)> {
    sys::unshare_file_attributes()?;
    // Leaves a chroot, in which pivot_root(2) fails.
    host.look_where_namespace_leads()?;
    sys::unshare_mounts()?;
    // Before any other change, so that no mount or unmount below propagates to the host.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let root = devices::make_tmpfs([("mode", Some("700"))])?;
    move_mount(&root, "", rustix::fs::CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    fchdir(&root)?;
    // pivot_root(2) stacks the old root on the new one; the unmount removes it with all mounts of
    // the host. A mount that stayed here could not be unmounted by its owner.
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    mkdirat(&root, DEVICES, Mode::from(0o755))?;
    let devices = devices::make_devices()?;
    move_mount(&devices, "", &root, DEVICES, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    mkdirat(&root, EMPTY, Mode::from(0o755))?;
    let empty = devices::make_tmpfs([("size", Some("4k"))])?;
    move_mount(&empty, "", &root, EMPTY, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    mkdirat(&root, NEW, Mode::from(0o700))?;
    // The clones inherit these flags.
    mount_remount(DEVICES, DEVICES_FLAGS, "")?;
    mount_remount(EMPTY, DEVICES_FLAGS | MountFlags::NODEV, "")?;
    let namespace = openat(proc, NAMESPACE_FILE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    Ok((namespace, root))
}

impl Inside {
    /// Attaches a detached mount as the root of a container's tree.
    pub(super) fn attach_root(&self, mount: impl AsFd) -> io::Result<Tree> {
        // The number only has to be unique; it orders no other memory access.
        let name = self.namespace.next.fetch_add(1, Ordering::Relaxed);
        mkdirat(&self.namespace.root, name.to_string(), Mode::from(0o700))?;
        // Before the mount: if that fails, the drop removes the directory again.
        let tree = Tree { namespace: self.namespace, name };
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(mount, "", &self.namespace.root, name.to_string(), flags)?;
        Ok(tree)
    }

    /// Attaches a detached mount at a place in an attached tree.
    pub(super) fn attach(&self, mount: impl AsFd, place: impl AsFd) -> io::Result<()> {
        // By the place's link in procfs: its name in the tree may have become a symbolic link.
        let place = place.as_fd().as_raw_fd().to_string();
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
        Ok(move_mount(mount, "", &self.namespace.descriptors, place, flags)?)
    }

    /// Attaches a detached mount where no guest sees it and lets `check` look at it. It goes to the
    /// place that `check` returns, or away.
    pub(super) fn attach_checked<T: AsFd>(
        &self,
        mount: &OwnedFd,
        check: impl FnOnce() -> io::Result<Option<T>>,
    ) -> io::Result<bool> {
        // The mutex guards the place for new mounts: a second one would lie on the first.
        static CHECKING: Mutex<()> = Mutex::new(());
        let _checking = CHECKING.lock();
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(mount, "", &self.namespace.root, NEW, flags)?;
        let attached = check().and_then(|place| match place {
            Some(place) => self.attach(mount, place).map(|()| true),
            None => Ok(false),
        });
        if !matches!(attached, Ok(true)) {
            self.unmount(mount)?;
        }
        attached
    }

    /// Takes an attached mount out of its tree, with all that lies on it.
    pub(super) fn unmount(&self, mount: &OwnedFd) -> io::Result<()> {
        self.with_path(mount, |path| Ok(unmount(path, UnmountFlags::DETACH)?))
    }

    /// A detached clone of our own `/dev`.
    pub(super) fn devices(&self) -> io::Result<OwnedFd> {
        Ok(open_tree(&self.namespace.root, DEVICES, CLONE)?)
    }

    /// A detached clone of our own `/dev/null`.
    pub(super) fn null(&self) -> io::Result<OwnedFd> {
        Ok(open_tree(&self.namespace.root, "dev/null", CLONE)?)
    }

    /// A detached and empty directory, read-only.
    pub(super) fn empty(&self) -> io::Result<OwnedFd> {
        Ok(open_tree(&self.namespace.root, EMPTY, CLONE)?)
    }

    /// A detached clone of a mount of this namespace, or of a part of it.
    pub(super) fn clone_of(&self, opened: impl AsFd, recursive: bool) -> io::Result<OwnedFd> {
        let mut flags = CLONE | OpenTreeFlags::AT_EMPTY_PATH;
        flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
        Ok(open_tree(opened, "", flags)?)
    }

    /// A detached clone of the mount at the root of a tree.
    pub(super) fn copy(&self, tree: &Tree) -> io::Result<OwnedFd> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        Ok(open_tree(&self.namespace.root, tree.name.to_string(), flags)?)
    }

    /// Attaches a new `/dev` at a place in an attached tree. It is writable until
    /// [`Inside::restrict_devices`].
    pub(super) fn attach_devices(&self, place: impl AsFd) -> io::Result<OwnedFd> {
        let devices = devices::make_devices()?;
        self.attach(&devices, place)?;
        Ok(devices)
    }

    /// Gives an attached `/dev` the flags of the clones.
    pub(super) fn restrict_devices(&self, devices: &OwnedFd) -> io::Result<()> {
        self.with_path(devices, |path| Ok(mount_remount(path, DEVICES_FLAGS, "")?))
    }

    /// Calls `act` with a path of the file open at `fd`, for system calls that take only paths. The
    /// path is valid during the call and on this thread.
    pub(super) fn with_path<T>(
        &self,
        fd: impl AsFd,
        act: impl FnOnce(&Path) -> io::Result<T>,
    ) -> io::Result<T> {
        // Relative to `/proc/self/fd`, since the namespace has no `/proc`. Only this thread changes
        // directory: it has its own since `enter`.
        fchdir(&self.namespace.descriptors)?;
        act(Path::new(&fd.as_fd().as_raw_fd().to_string()))
    }

    /// The mount table of the namespace (`proc_pid_mountinfo(5)`).
    pub(super) fn mount_table(&self) -> io::Result<Vec<u8>> {
        let mut table = Vec::new();
        self.open_mount_table()?.read_to_end(&mut table)?;
        Ok(table)
    }

    /// The file of the mount table. It stays that of this namespace wherever the thread goes.
    pub(super) fn open_mount_table(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(&self.namespace.proc, "thread-self/mountinfo", flags, Mode::empty())?;
        Ok(file.into())
    }

    /// Root directory of the namespace. The paths of the mount table are relative to it.
    pub(super) fn root(&self) -> impl AsFd {
        &self.namespace.root
    }

    /// Detaches a tree and leaves.
    // With the guard by value: it has led to the root directory of the namespace and nowhere else
    // since, and `umount2(2)` takes no directory descriptor.
    fn detach(self, tree: &Tree) -> io::Result<()> {
        let name = tree.name.to_string();
        loop {
            let attached = match unmount(&*name, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
                Ok(()) => true,
                // Nothing is attached there any more, or never was after a failed `attach_root`.
                Err(Errno::INVAL) => false,
                Err(error) => return Err(error.into()),
            };
            match unlinkat(&self.namespace.root, &*name, AtFlags::REMOVEDIR) {
                // It is still a mount point: a mask or a volume lay on the tree.
                Err(Errno::BUSY) if attached => {}
                removed => return Ok(removed?),
            }
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Err(error) = self.namespace.host.return_to() {
            // Later tasks on this thread would resolve host paths in this namespace, where they do
            // not exist.
            tracing::error!(%error, "a thread cannot leave the mount namespace of containers");
            std::process::abort();
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let detached = self.namespace.enter().and_then(|inside| inside.detach(self));
        if let Err(error) = detached {
            tracing::error!(%error, tree = self.name, "mounts of a container stay behind");
        }
    }
}

/// Names the private namespace and the capabilities that its creation needs.
pub(super) fn named(error: &io::Error) -> io::Error {
    let needs = "needs CAP_SYS_ADMIN and CAP_SYS_CHROOT";
    io::Error::new(error.kind(), format!("private mount namespace ({needs}): {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `work` on a thread with directories of its own.
    fn aside(work: impl FnOnce() + Send + 'static) {
        assert!(rustix::process::geteuid().is_root(), "this test must run as root");
        let thread = thread::spawn(|| {
            sys::unshare_file_attributes().unwrap();
            work();
        });
        thread.join().unwrap();
    }

    fn place() -> [Option<[u64; 4]>; 2] {
        ["/", "."].map(|path| identity(&open(path, PATH, Mode::empty()).unwrap()))
    }

    #[test]
    fn directories_that_the_namespace_does_not_lead_to_are_returned_to() {
        let cases = [("/", "/"), ("/", "/usr"), ("/usr", "/usr/bin"), ("/usr", "/")];
        for (root, working_directory) in cases {
            aside(move || {
                let mut host = Host::of_process().unwrap();
                let opened = [root, working_directory]
                    .map(|path| Some(open(path, PATH, Mode::empty()).unwrap()));
                [host.root, host.working_directory] = opened;
                host.return_to().unwrap();
                let before = place();
                host.look_where_namespace_leads().unwrap();
                assert!(root == "/" || host.root.is_some());
                assert!(working_directory == root || host.working_directory.is_some());
                host.return_to().unwrap();
                assert_eq!(place(), before, "{root} {working_directory}");
            });
        }
    }

    #[test]
    fn tree_goes_with_all_that_lies_on_its_top() {
        assert!(rustix::process::geteuid().is_root(), "this test mounts and must run as root");
        let namespace = MountNamespace::of_process().unwrap();
        for covers in 0..3 {
            let inside = namespace.enter().unwrap();
            let top = devices::make_tmpfs([]).unwrap();
            let tree = inside.attach_root(&top).unwrap();
            for _ in 0..covers {
                inside.attach(inside.empty().unwrap(), &top).unwrap();
            }
            let name = tree.name.to_string();
            let mounts = |inside: &Inside| {
                let table = inside.mount_table().unwrap();
                String::from_utf8_lossy(&table).matches(&format!(" /{name} ")).count()
            };
            assert_eq!(mounts(&inside), 1 + covers);
            drop(inside);
            drop(tree);
            assert_eq!(mounts(&namespace.enter().unwrap()), 0);
            let left = openat(&namespace.root, &*name, PATH, Mode::empty());
            assert_eq!(left.unwrap_err(), Errno::NOENT);
        }
    }
}
