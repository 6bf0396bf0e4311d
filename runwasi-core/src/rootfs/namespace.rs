//! The private mount namespace of this OS process: the place where the trees of its containers are
//! attached.
//!
//! ```text
//! /         tmpfs, 0700
//! ├── dev   our own /dev, read-only; each container gets a clone
//! ├── 0     tree of one container: its root file system with its volumes
//! └── 1     …
//! ```
//!
//! Linux before 6.15 mounts nothing on a detached tree, and clones none. A tree that is attached
//! somewhere takes mounts, and a descriptor of it shows them from every namespace. So trees are
//! attached here, where no other process looks: the host's mount table has no entry of them, and the
//! kernel removes the namespace with the last descriptor of it, also after SIGKILL.
//!
//! A thread is inside for a few system calls only ([`MountNamespace::enter`]); sources on the host are
//! opened before, from the host's namespace.

use std::{
    fs::File,
    io,
    marker::PhantomData,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use rustix::{
    fs::{Mode, OFlags, mkdirat, open, openat, unlinkat},
    mount::{
        MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
        mount_change, mount_remount, move_mount, open_tree, unmount,
    },
    process::{chroot, fchdir, pivot_root},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use super::devices;
use crate::sys;

/// Our own `/dev` in the namespace.
const DEVICES: &str = "dev";

/// The namespace, and the way back to where the process is.
pub(super) struct MountNamespace {
    namespace: OwnedFd,
    /// Root directory of the namespace.
    root: OwnedFd,
    /// Namespace, root and working directory of the process.
    host: Host,
    /// procfs, which is not mounted in the namespace.
    proc: OwnedFd,
    /// Of procfs: links to what this process has open.
    descriptors: OwnedFd,
    /// Name of the next tree.
    next: AtomicU64,
}

struct Host {
    namespace: OwnedFd,
    root: OwnedFd,
    working_directory: OwnedFd,
}

/// A tree attached in the namespace. Detached with all its volumes when dropped; the file systems
/// themselves last as long as a descriptor of them.
#[derive(Debug)]
pub(super) struct Tree {
    name: u64,
}

/// The calling thread inside the namespace. It leaves when this is dropped.
pub(super) struct Inside {
    namespace: &'static MountNamespace,
    /// The state of one thread: it must not be dropped on another.
    _thread: PhantomData<*const ()>,
}

impl MountNamespace {
    /// The namespace of this process, made at the first call. Blocks for a fraction of a millisecond.
    pub(super) fn of_process() -> io::Result<&'static Self> {
        static NAMESPACE: OnceLock<MountNamespace> = OnceLock::new();
        /// Serializes the making: a second namespace would be for nothing.
        static MAKING: Mutex<()> = Mutex::new(());
        if let Some(made) = NAMESPACE.get() {
            return Ok(made);
        }
        let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        match NAMESPACE.get() {
            Some(made) => Ok(made),
            None => Self::make().map(|made| NAMESPACE.get_or_init(|| made)),
        }
    }

    fn make() -> io::Result<Self> {
        let host = Host::of_process()?;
        let proc = open("/proc", PATH, Mode::empty())?;
        let descriptors = openat(&proc, "self/fd", PATH, Mode::empty())?;
        // A thread for it alone, because unsharing cannot be undone.
        let builder = thread::Builder::new().name("mounts".into());
        let panicked = |_| io::Error::other("the thread that makes it has panicked");
        let (namespace, root) = thread::scope(|scope| {
            let thread = builder.spawn_scoped(scope, || make_namespace(&host, &proc))?;
            thread.join().map_err(panicked)?
        })?;
        Ok(Self { namespace, root, host, proc, descriptors, next: AtomicU64::new(0) })
    }

    /// Takes the calling thread inside. The thread gets root and working directories of its own, which
    /// `setns(2)` demands, and has those of the process again when it has left.
    pub(super) fn enter(&'static self) -> io::Result<Inside> {
        sys::unshare_file_attributes()?;
        move_into_link_name_space(self.namespace.as_fd(), Some(LinkNameSpaceType::Mount))?;
        Ok(Inside { namespace: self, _thread: PhantomData })
    }
}

const PATH: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const NAMESPACE_FILE: &str = "thread-self/ns/mnt";

impl Host {
    fn of_process() -> io::Result<Self> {
        let namespace = open("/proc/self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let root = open("/", PATH, Mode::empty())?;
        let working_directory = open(".", PATH, Mode::empty())?;
        Ok(Self { namespace, root, working_directory })
    }

    /// Takes the calling thread back. `setns(2)` sets both directories to the namespace's root, which
    /// is not the process's where that is in a chroot.
    fn return_to(&self) -> io::Result<()> {
        move_into_link_name_space(self.namespace.as_fd(), Some(LinkNameSpaceType::Mount))?;
        fchdir(&self.root)?;
        chroot(".")?;
        Ok(fchdir(&self.working_directory)?)
    }
}

/// Moves the calling thread into a new namespace that holds nothing of the host's: what stayed in it
/// could not be unmounted by its owner. The answer is the namespace and its root directory.
fn make_namespace(host: &Host, proc: &OwnedFd) -> io::Result<(OwnedFd, OwnedFd)> {
    sys::unshare_file_attributes()?;
    // Out of a chroot, in which pivot_root(2) refuses.
    move_into_link_name_space(host.namespace.as_fd(), Some(LinkNameSpaceType::Mount))?;
    sys::unshare_mounts()?;
    // First of all: no change below is to reach the host.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let root = devices::make_tmpfs([("mode", Some("700"))])?;
    move_mount(&root, "", rustix::fs::CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    fchdir(&root)?;
    // The old root lands on the new one and is taken off.
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    mkdirat(&root, DEVICES, Mode::from(0o755))?;
    let devices = devices::make_devices()?;
    move_mount(&devices, "", &root, DEVICES, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    // Clones have the same flags. Not `nodev`: these devices are meant to be opened.
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NOEXEC;
    mount_remount(DEVICES, flags, "")?;
    let namespace = openat(proc, NAMESPACE_FILE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    Ok((namespace, root))
}

impl Inside {
    /// Attaches a detached mount as the root of a container's tree.
    pub(super) fn attach_root(&self, mount: impl AsFd) -> io::Result<Tree> {
        let name = self.namespace.next.fetch_add(1, Ordering::Relaxed);
        mkdirat(&self.namespace.root, name.to_string(), Mode::from(0o700))?;
        // Dropped on failure, which removes the directory again.
        let tree = Tree { name };
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(mount, "", &self.namespace.root, name.to_string(), flags)?;
        Ok(tree)
    }

    /// Attaches a detached mount at a place in an attached tree. The place is named by its link in
    /// procfs: a name in the tree could be a symbolic link by now.
    pub(super) fn attach(&self, mount: impl AsFd, place: impl AsFd) -> io::Result<()> {
        let place = place.as_fd().as_raw_fd().to_string();
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
        Ok(move_mount(mount, "", &self.namespace.descriptors, place, flags)?)
    }

    /// A detached clone of our own `/dev`.
    pub(super) fn devices(&self) -> io::Result<OwnedFd> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        Ok(open_tree(&self.namespace.root, DEVICES, flags)?)
    }

    /// Calls `act` with a path of what is open at `fd`, for system calls that take paths only. The path
    /// holds during the call, on this thread.
    pub(super) fn with_path<T>(
        &self,
        fd: impl AsFd,
        act: impl FnOnce(&Path) -> io::Result<T>,
    ) -> io::Result<T> {
        fchdir(&self.namespace.descriptors)?;
        act(Path::new(&fd.as_fd().as_raw_fd().to_string()))
    }

    /// The mount table of the namespace (`proc_pid_mountinfo(5)`).
    pub(super) fn mount_table(&self) -> io::Result<String> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(&self.namespace.proc, "thread-self/mountinfo", flags, Mode::empty())?;
        io::read_to_string(File::from(file))
    }

    /// Root directory of the namespace, to which the paths of the mount table are relative.
    pub(super) fn root(&self) -> impl AsFd {
        &self.namespace.root
    }

    fn detach(&self, tree: &Tree) -> io::Result<()> {
        let name = tree.name.to_string();
        fchdir(&self.namespace.root)?;
        let unmounted = unmount(&*name, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        match unmounted {
            // EINVAL: nothing has been attached there.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(unlinkat(&self.namespace.root, &*name, rustix::fs::AtFlags::REMOVEDIR)?)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Err(error) = self.namespace.host.return_to() {
            // This thread would resolve the paths of others where they do not exist.
            tracing::error!(%error, "a thread cannot leave the mount namespace of containers");
            std::process::abort();
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let detached = MountNamespace::of_process()
            .and_then(MountNamespace::enter)
            .and_then(|inside| inside.detach(self));
        if let Err(error) = detached {
            tracing::error!(%error, tree = self.name, "mounts of a container stay behind");
        }
    }
}
