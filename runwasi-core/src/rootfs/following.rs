//! Mounts that the host makes later below a volume with the propagation `rslave` or `rshared`.
//!
//! The kernel alone would bring any file system in: a procfs, or one without `nodev`. So a guest's
//! tree is private and stays so. Its source has a copy in a namespace that no guest sees, and the
//! copy is the slave. A thread takes what comes and goes there over into the guest's tree:
//!
//! ```text
//! host ──kernel──▶ copy ──look──▶ clone ──bring──▶ checked at a place of its own ──▶ guest's tree
//! ```
//!
//! A clone is looked at when it is attached and private: a kernel interface goes no further, and
//! what goes on is `nodev,nosuid`. So nothing reaches a guest between a check and its result.
//!
//! No step asks the server of a file system, which may never answer: paths are resolved in the
//! kernel's caches only, and the type of a file system comes from the mount table.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, Weak},
    thread,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{Mode, OFlags, ResolveFlags, openat2},
    io::Errno,
    mount::{MountPropagationFlags, mount_change},
};

use super::{
    attributes,
    interfaces::{self, is_interface_name},
    mount_table::{Entry, MountTable, mount_id},
    namespace::{Inside, MountNamespace, Tree},
};
use crate::{
    lock::Mutex,
    sanitize,
    sys::{MountAttributes, MountChange},
    task_limits,
};

/// Times that a path is looked for in the kernel's caches. A rename anywhere in the file system can
/// make one of them fail, and so can a mount of another container.
const TRIES: usize = 256;

/// A volume whose later mounts are taken over, until it is dropped.
#[derive(Debug)]
pub(super) struct Following(Arc<Followed>);

/// A copy of the source of a volume, and what the guest has of it.
#[derive(Debug)]
struct Followed {
    /// Path of the volume on the host, for the log.
    source: PathBuf,
    /// The kernel's number of the copy.
    top: u64,
    // The lock is held during a look and its results, so that they are never mixed with another's.
    state: Mutex<State>,
    /// The copy, a slave of the source. The number is its own as long as it is open.
    _copy: OwnedFd,
    _tree: Tree,
}

#[derive(Debug)]
struct State {
    /// The guest's volume. Absent before it is attached, and after its end.
    volume: Option<Arc<OwnedFd>>,
    /// The mounts that were there when the copy was made.
    first: Changes,
    /// Attributes of all mounts below it.
    attributes: MountAttributes,
    /// Mounts of the copy by their numbers, with what the guest has of them.
    known: HashMap<u64, Known>,
}

impl State {
    fn empty() -> Self {
        Self {
            volume: None,
            first: Changes::default(),
            attributes: MountAttributes::NONE,
            known: HashMap::new(),
        }
    }
}

#[derive(Debug)]
struct Known {
    signature: Vec<u8>,
    /// The guest's mount. Absent for a kernel interface, or where the container's own covers it.
    mount: Option<Arc<OwnedFd>>,
}

/// Difference between the copy and what the guest has.
#[derive(Debug, Default)]
struct Changes {
    new: Vec<New>,
    gone: Vec<u64>,
    left_out: Vec<(u64, Known)>,
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.new.is_empty() && self.gone.is_empty() && self.left_out.is_empty()
    }
}

#[derive(Debug)]
struct New {
    id: u64,
    signature: Vec<u8>,
    /// The number of the mount that carries it, as far as the guest has it.
    parent: u64,
    /// Its path below that.
    path: PathBuf,
    clone: OwnedFd,
}

impl Following {
    /// Makes the copy of a directory of the host a slave of it, and a clone of its top for the
    /// guest. Called in the host's namespace.
    pub(super) fn open(source: &Path, copy: OwnedFd, deep: bool) -> io::Result<(Self, OwnedFd)> {
        let top = mount_id(&copy).ok_or(io::ErrorKind::Unsupported)?;
        let namespace = MountNamespace::of_copies()?;
        let inside = namespace.enter()?;
        let tree = inside.attach_root(&copy)?;
        make_slave(&inside, &copy, top, deep)?;
        let clone = inside.clone_of(&copy, false)?;
        let source = source.to_owned();
        let state = Mutex::new(State::empty());
        let followed = Followed { source, top, state, _copy: copy, _tree: tree };
        {
            let mut state = followed.state.lock();
            state.first = followed.look(&inside, &state)?;
        }
        drop(inside);
        Ok((Self(Arc::new(followed)), clone))
    }

    /// Attaches what is there already below the guest's volume, which is attached and private.
    pub(super) fn begin(
        &self,
        inside: &Inside,
        volume: &OwnedFd,
        attributes: MountAttributes,
    ) -> io::Result<()> {
        // The clone of the top was a slave until it became private.
        interfaces::take_out(inside, volume, |_| true)?;
        let mut state = self.0.state.lock();
        state.volume = Some(Arc::new(volume.try_clone()?));
        state.attributes = attributes;
        let changes = std::mem::take(&mut state.first);
        // Nothing is gone yet, so nothing is left to be dropped.
        self.0.take_over(inside, &mut state, changes);
        Ok(())
    }

    /// Takes over what comes and goes from now on.
    pub(super) fn follow(&self) -> io::Result<()> {
        Follower::of_process()?.volumes.lock().push(Arc::downgrade(&self.0));
        // For mounts that came since the first look.
        self.0.update();
        Ok(())
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let gone = std::mem::replace(&mut *self.0.state.lock(), State::empty());
        // Without the lock: the last descriptor of a file system removes it.
        drop(gone);
    }
}

/// Makes an attached copy a slave of its source: it receives mounts and sends none.
fn make_slave(inside: &Inside, copy: &OwnedFd, top: u64, deep: bool) -> io::Result<()> {
    let change = |mount: &OwnedFd, flags: MountPropagationFlags| {
        inside.with_path(mount, |path| Ok(mount_change(path, flags)?))
    };
    // First all of them, since a copy is a peer of its source, whatever is to follow it.
    change(copy, MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    if deep {
        return Ok(());
    }
    let table = MountTable::parse(&inside.mount_table()?);
    for entry in table.below(top) {
        if !table.is_hidden(entry) {
            change(&entry.open(inside)?, MountPropagationFlags::PRIVATE)?;
        }
    }
    Ok(())
}

impl Followed {
    /// Compares the copy with what the guest has.
    fn look(&self, inside: &Inside, state: &State) -> io::Result<Changes> {
        let table = MountTable::parse(&inside.mount_table()?);
        let below = table.below(self.top);
        let mut changes = Changes::default();
        let is_known = |entry: &Entry| {
            state.known.get(&entry.id).is_some_and(|known| known.signature == entry.signature)
        };
        let there: HashSet<u64> =
            below.iter().filter(|entry| is_known(entry)).map(|entry| entry.id).collect();
        changes.gone = state.known.keys().filter(|id| !there.contains(id)).copied().collect();
        for entry in below {
            if is_known(entry) || table.is_hidden(entry) {
                continue;
            }
            let parent = self.carrier(&table, entry.parent, state, &changes);
            let path = table
                .get(parent)
                .and_then(|parent| entry.path.strip_prefix(&parent.path).map(Path::to_owned).ok());
            let Some(path) = path else { continue };
            let clone = cached(|rules| entry.open_with(inside, rules))
                .and_then(|opened| inside.clone_of(opened, false));
            let signature = entry.signature.clone();
            match clone {
                Ok(clone) => {
                    changes.new.push(New { id: entry.id, signature, parent, path, clone });
                }
                Err(error) => {
                    self.warn(&path, &error.to_string());
                    changes.left_out.push((entry.id, Known { signature, mount: None }));
                }
            }
        }
        Ok(changes)
    }

    /// The nearest mount of the copy that the guest has or gets now.
    fn carrier(&self, table: &MountTable, parent: u64, state: &State, changes: &Changes) -> u64 {
        let mut parent = parent;
        // A mount that is covered is not taken over; what covers it takes its place.
        while parent != self.top
            && !state.known.contains_key(&parent)
            && !changes.new.iter().any(|new| new.id == parent)
        {
            match table.get(parent) {
                Some(entry) => parent = entry.parent,
                None => break,
            }
        }
        parent
    }

    /// Brings the guest's tree up to date. Called in the containers' namespace. Returns descriptors
    /// to drop outside.
    fn take_over(&self, inside: &Inside, state: &mut State, changes: Changes) -> Vec<Known> {
        let mut gone = Vec::new();
        for id in changes.gone {
            let Some(known) = state.known.remove(&id) else { continue };
            if let Some(mount) = &known.mount
                && let Err(error) = inside.unmount(mount)
                // It went with the mount that carried it.
                && error.raw_os_error() != Some(libc::EINVAL)
            {
                self.warn(Path::new(""), &format!("cannot be unmounted: {error}"));
            }
            gone.push(known);
        }
        state.known.extend(changes.left_out);
        for new in changes.new {
            let mount = self.bring(inside, state, &new).unwrap_or_else(|error| {
                self.warn(&new.path, &error.to_string());
                None
            });
            state.known.insert(new.id, Known { signature: new.signature, mount });
        }
        gone
    }

    /// Attaches a mount in the guest's tree, unless it has to be left out.
    fn bring(&self, inside: &Inside, state: &State, new: &New) -> io::Result<Option<Arc<OwnedFd>>> {
        let parent = match state.known.get(&new.parent) {
            Some(parent) => parent.mount.clone(),
            None => state.volume.clone(),
        };
        let Some(parent) = parent else { return Ok(None) };
        let attached = inside.attach_checked(&new.clone, || {
            let change = MountChange::RESTRICTED.with(state.attributes);
            attributes::change(inside, &new.clone, change)?;
            // Mounts that came below it before it was private come again by the copy.
            interfaces::take_out(inside, &new.clone, |_| true)?;
            let table = MountTable::parse(&inside.mount_table()?);
            let id = mount_id(&new.clone).ok_or(io::ErrorKind::Unsupported)?;
            let kind = table.get(id).map(|entry| entry.kind.as_str());
            if kind.is_none_or(is_interface_name) {
                self.warn(&new.path, "is a kernel interface of the host, which no guest gets");
                return Ok(None);
            }
            cached(|rules| place(&parent, &new.path, rules)).map(Some)
        })?;
        Ok(if attached { Some(Arc::new(new.clone.try_clone()?)) } else { None })
    }

    /// A look and its results.
    fn update(&self) {
        let mut state = self.state.lock();
        if state.volume.is_none() {
            return;
        }
        let updated = self.update_locked(&mut state);
        drop(state);
        match updated {
            Ok(gone) if gone.is_empty() => {}
            Ok(gone) => drop_aside(gone),
            Err(error) => self.warn(Path::new(""), &error.to_string()),
        }
    }

    fn update_locked(&self, state: &mut State) -> io::Result<Vec<Known>> {
        let inside = MountNamespace::of_copies()?.enter()?;
        let changes = self.look(&inside, state)?;
        // One namespace after the other: a guard leads back to the host's.
        drop(inside);
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let inside = MountNamespace::of_process()?.enter()?;
        Ok(self.take_over(&inside, state, changes))
    }

    fn warn(&self, path: &Path, reason: &str) {
        let source = sanitize::text(&self.source.display().to_string());
        let path = sanitize::text(&path.display().to_string());
        tracing::warn!(%source, %path, reason, "a later mount of the host is left out");
    }
}

/// Drops the last descriptors of file systems. That may write back what they hold, and wait.
fn drop_aside(gone: Vec<Known>) {
    let builder = thread::Builder::new().name("unmount".into());
    // Without a thread they are dropped here, with the closure.
    let _ = builder.spawn(move || drop(gone));
}

/// Calls `open` with the rule to wait for no file system.
fn cached(open: impl Fn(ResolveFlags) -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    for _ in 0..TRIES {
        match open(ResolveFlags::CACHED) {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => thread::yield_now(),
            // Linux before 5.12.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                return open(ResolveFlags::empty());
            }
            opened => return opened,
        }
    }
    let reason = "lies in a file system that would have to be waited for";
    Err(io::Error::new(io::ErrorKind::WouldBlock, reason))
}

/// The place of a mount below the guest's mount that carries it.
fn place(parent: &OwnedFd, path: &Path, rules: ResolveFlags) -> io::Result<OwnedFd> {
    let resolve =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | rules;
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let opened = openat2(parent, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    // Not by `RESOLVE_NO_XDEV`: with `RESOLVE_CACHED` it refuses each mount point of the host.
    if mount_id(&opened) != mount_id(parent) {
        return Err(io::Error::other("is covered by a mount of the container"));
    }
    Ok(opened)
}

/// The thread that waits for changes of the copies, and the volumes that it serves.
struct Follower {
    // Pushed to by containers that start and read by the thread; a mutex, because both write.
    volumes: Mutex<Vec<Weak<Followed>>>,
}

impl Follower {
    /// The first call starts the thread.
    fn of_process() -> io::Result<&'static Self> {
        static FOLLOWER: OnceLock<Follower> = OnceLock::new();
        static STARTING: Mutex<()> = Mutex::new(());
        let _starting = STARTING.lock();
        if let Some(started) = FOLLOWER.get() {
            return Ok(started);
        }
        let table = MountNamespace::of_copies()?.enter()?.open_mount_table()?;
        let builder = thread::Builder::new().name("propagation".into());
        builder
            .spawn(move || {
                let follower = FOLLOWER.get_or_init(|| Self { volumes: Mutex::default() });
                follower.run(&table);
            })
            .map_err(task_limits::named)?;
        Ok(FOLLOWER.get_or_init(|| Self { volumes: Mutex::default() }))
    }

    fn run(&self, table: &File) {
        loop {
            // A mount table has an event after each change (`proc_pid_mounts(5)`); one that comes
            // during the updates ends the next wait at once.
            let mut waiting = [PollFd::new(table, PollFlags::PRI)];
            match poll(&mut waiting, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "later mounts of the host do not reach containers");
                    return;
                }
            }
            // Upgraded before, so that no drop of the last owner happens under the lock.
            let mut volumes = self.volumes.lock();
            volumes.retain(|volume| volume.strong_count() > 0);
            let served: Vec<_> = volumes.iter().filter_map(Weak::upgrade).collect();
            drop(volumes);
            for volume in served {
                volume.update();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        time::{Duration, Instant},
    };

    use rustix::{
        fs::openat,
        mount::{MountFlags, UnmountFlags, mount, unmount},
    };

    use super::*;
    use crate::rootfs::{copy::clone_tree, devices::make_tmpfs};

    /// Unmounts on drop, hence also after a failed assertion.
    struct Mounted(PathBuf);

    impl Mounted {
        /// A tmpfs with a file `f`.
        fn new(place: &Path, content: &str) -> Self {
            fs::create_dir_all(place).unwrap();
            mount("tmpfs", place, "tmpfs", MountFlags::empty(), None).unwrap();
            fs::write(place.join("f"), content).unwrap();
            Self(place.to_owned())
        }
    }

    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = unmount(&self.0, UnmountFlags::DETACH);
        }
    }

    /// A volume of a guest that follows a directory.
    struct Guest {
        volume: OwnedFd,
        _following: Following,
        _tree: Tree,
    }

    impl Guest {
        /// `own` is a place of the volume at which the container has a mount of its own.
        fn new(source: &Path, own: &str) -> Self {
            let copy = clone_tree(source, true).unwrap();
            let (following, volume) = Following::open(source, copy, true).unwrap();
            let cover = make_tmpfs([]).unwrap();
            let inside = MountNamespace::of_process().unwrap().enter().unwrap();
            let tree = inside.attach_root(&volume).unwrap();
            attributes::change(&inside, &volume, MountChange::RESTRICTED).unwrap();
            following.begin(&inside, &volume, MountAttributes::NONE).unwrap();
            let place = place(&volume, Path::new(own), ResolveFlags::empty()).unwrap();
            inside.attach(&cover, &place).unwrap();
            drop(inside);
            following.follow().unwrap();
            Self { volume, _following: following, _tree: tree }
        }

        fn read(&self, path: &str) -> Option<String> {
            let opened = openat(&self.volume, path, OFlags::RDONLY, Mode::empty()).ok()?;
            io::read_to_string(File::from(opened)).ok()
        }

        fn becomes(&self, path: &str, content: Option<&str>) {
            let deadline = Instant::now() + Duration::from_secs(20);
            while self.read(path).as_deref() != content {
                assert!(Instant::now() < deadline, "{path}: {:?}", self.read(path));
                thread::yield_now();
            }
        }
    }

    #[test]
    fn mounts_on_one_another_appear_and_go_in_their_order() {
        assert!(rustix::process::geteuid().is_root(), "this test mounts and must run as root");
        let directory = tempfile::tempdir().unwrap();
        let top = Mounted::new(directory.path(), "top");
        mount_change(&top.0, MountPropagationFlags::SHARED).unwrap();
        let place = top.0.join("a");
        let _there = Mounted::new(&place, "first");
        fs::create_dir(top.0.join("own")).unwrap();
        let guest = Guest::new(&top.0, "own");
        assert_eq!(guest.read("a/f").as_deref(), Some("first"));
        let second = Mounted::new(&place, "second");
        guest.becomes("a/f", Some("second"));
        let third = Mounted::new(&place, "third");
        guest.becomes("a/f", Some("third"));
        drop(third);
        guest.becomes("a/f", Some("second"));
        drop(second);
        guest.becomes("a/f", Some("first"));
    }

    #[test]
    fn mount_of_the_container_covers_later_ones_of_the_host() {
        assert!(rustix::process::geteuid().is_root(), "this test mounts and must run as root");
        let directory = tempfile::tempdir().unwrap();
        let top = Mounted::new(directory.path(), "top");
        mount_change(&top.0, MountPropagationFlags::SHARED).unwrap();
        fs::create_dir(top.0.join("own")).unwrap();
        let guest = Guest::new(&top.0, "own");
        let _covered = Mounted::new(&top.0.join("own"), "of the host");
        let _deeper = Mounted::new(&top.0.join("own/deeper"), "of the host");
        let _beside = Mounted::new(&top.0.join("beside"), "of the host");
        guest.becomes("beside/f", Some("of the host"));
        assert_eq!(guest.read("own/f"), None);
        assert_eq!(guest.read("own/deeper/f"), None);
    }
}
