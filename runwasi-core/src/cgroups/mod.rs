//! Mirrors the limits of containers into cgroups: a shim that serves one pod puts its guests'
//! threads and its memory into the cgroup that containerd names. The daemon has no such cgroups,
//! because the kernel cannot tell its guests apart.
//!
//! | | cgroup v1 | cgroup v2 | holds |
//! |---|---|---|---|
//! | CPU | `cpu/PATH` | `PATH/guests`, threaded | the workers of the guests |
//! | memory | `memory/PATH` | `PATH` | the whole process |
//!
//! * Only workers are throttled. Control threads, which answer `Kill` and all other calls, are not.
//! * The meters of the shim act first. The kernel's limits lie a little higher, so that the kernel
//!   never punishes allowed use: a throttled worker cannot drop a guest that is killed, and a
//!   process out of memory ends with all its guests.
//! * The limits are those of a container that is its own sandbox. In a pod, the workers are in the
//!   cgroup of one of its containers, below the pod's cgroup, and the limits of the pod bind. It is
//!   the cgroup of the first container, and after its end that of a container that is left. On v1
//!   the memory of the process stays outside the pod: the pod's memory is meant for its guests, not
//!   for a shim beside them. On v2 the process must be inside, as the parent of a threaded cgroup.
//! * The kernel's limits are a second line of defence. If they cannot be set, this is logged, and
//!   the limits of the shim remain.

pub mod version;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use self::version::CgroupVersion as Version;
use crate::{
    bundle::{
        cgroups_path::CgroupsPath,
        resources::{Quota, ResourcesConfig},
    },
    runtime::Threads,
    sys,
};

const ROOT: &str = "/sys/fs/cgroup";

/// File in the bundle: the directories that were made, in the order of their removal. After an
/// empty line follow the directories above them that were missing. These are removed, too, unless
/// they are in use by others.
const MADE_FILE: &str = "cgroups.made";

/// Attempts to make a directory: a process that removes its own cgroup may also remove the shared
/// directory above it, between two steps of another one.
const MAKE_TRIES: u32 = 10;

/// CPU time per [`PERIOD`] for other work of the workers. The kernel's quota is 1.25 times the
/// container's, and this time.
const SPARE_TIME: Duration = Duration::from_millis(5);
const PERIOD: Duration = Duration::from_millis(100);

/// Bytes beyond the container's limit and the present memory of the process: for compiling the
/// module of an exec, buffers and stacks.
const SPARE_MEMORY: u64 = 64 << 20;

/// Attempts to remove a cgroup: the last thread of a killed process may need time to end.
const REMOVE_TRIES: u32 = 100;
const REMOVE_PAUSE: Duration = Duration::from_millis(5);

impl KernelLimits {
    /// Makes nothing yet. `single`: the container is the only one of its sandbox.
    pub(crate) fn new(
        cgroups: Arc<Cgroups>,
        path: CgroupsPath,
        bundle: &Path,
        single: bool,
    ) -> Self {
        Self {
            cgroups,
            path,
            bundle: bundle.to_owned(),
            single,
            state: Mutex::new(KernelLimitsState::Outside),
        }
    }

    /// True if the kernel has limits to hold. In a pod these are the pod's, which are unknown here.
    pub(crate) fn is_needed(&self, limits: &ResourcesConfig) -> bool {
        !self.single || limits.bind()
    }

    /// Mirrors these limits into the cgroup, as far as they are set. Blocks.
    pub(crate) fn limit(self: &Arc<Self>, limits: &ResourcesConfig) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            KernelLimitsState::Inside(joined) => joined.limit(limits),
            KernelLimitsState::Outside if self.is_needed(limits) => {
                // Before the attempt: a container that ends meanwhile must find this successor.
                self.cgroups.add_successor(self);
                if let Some(joined) =
                    self.cgroups.clone().join(&self.bundle, &self.path, limits, self.single)
                {
                    *state = KernelLimitsState::Inside(joined);
                }
            }
            KernelLimitsState::Outside | KernelLimitsState::Over => {}
        }
    }

    /// Leaves and removes the cgroup, for good. The workers go to the cgroup of another container
    /// of the pod. Blocks.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *state, KernelLimitsState::Over);
        // Unlocked first: leaving the cgroup blocks, and `is_over` may be called meanwhile.
        drop(state);
        let was_inside = matches!(before, KernelLimitsState::Inside(_));
        // Leaves the cgroup. Only afterwards can a successor join its own.
        drop(before);
        if was_inside && let Some(successor) = self.cgroups.successor() {
            // Only a pod has successors, and the kernel is not told the limits of its containers.
            successor.limit(&ResourcesConfig::default());
        }
    }

    fn is_over(&self) -> bool {
        matches!(
            *self.state.lock().unwrap_or_else(PoisonError::into_inner),
            KernelLimitsState::Over
        )
    }
}

/// The cgroups of a process that serves one pod.
pub struct Cgroups {
    root: PathBuf,
    version: Version,
    workers: Threads,
    /// Cgroups of the process before any change, in the hierarchies of CPU and memory.
    original: [PathBuf; 2],
    /// True while the cgroup of a container is in use. Locked for the change only.
    taken: Mutex<bool>,
    /// Containers that can give their cgroup when that container ends.
    successors: Mutex<Vec<Weak<KernelLimits>>>,
}

/// The cgroup of one container, joined as soon as the kernel has limits to hold.
///
/// Joining takes the kernel ten milliseconds and more (a grace period of RCU). No start shall wait
/// for it.
pub(crate) struct KernelLimits {
    cgroups: Arc<Cgroups>,
    path: CgroupsPath,
    bundle: PathBuf,
    single: bool,
    state: Mutex<KernelLimitsState>,
}

enum KernelLimitsState {
    Outside,
    Inside(Joined),
    Over,
}

/// A container's cgroup with the process in it. Dropped, it leaves and removes the cgroup.
struct Joined {
    cgroups: Arc<Cgroups>,
    leaf: Leaf,
    bundle: PathBuf,
}

struct Leaf {
    /// Cgroup of the workers.
    cpu: PathBuf,
    /// Cgroup of the process; absent in a pod on v1.
    memory: Option<PathBuf>,
    /// True if the container's limits are set. In a pod the cgroup gets no limits.
    limited: bool,
    /// Memory of the process besides its guests, in bytes.
    base: u64,
    version: Version,
    /// Directories to make, in the order of their removal.
    made: Vec<PathBuf>,
}

impl Cgroups {
    /// The cgroups of this process.
    pub fn of_process(workers: Threads) -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::at(Path::new(ROOT), version::host_cgroups(), &own, workers)
    }

    fn at(root: &Path, version: Version, own: &str, workers: Threads) -> Self {
        let original = ["cpu", "memory"].map(|controller| original(version, own, controller));
        Self {
            root: root.to_owned(),
            version,
            workers,
            original,
            taken: Mutex::default(),
            successors: Mutex::default(),
        }
    }

    /// Adds a successor once, however often its limits change.
    fn add_successor(&self, successor: &Arc<KernelLimits>) {
        let mut successors = self.successors();
        let own = Arc::downgrade(successor);
        successors.retain(|other| other.strong_count() > 0 && !other.ptr_eq(&own));
        successors.push(own);
    }

    fn successors(&self) -> MutexGuard<'_, Vec<Weak<KernelLimits>>> {
        self.successors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A successor that still lives. Ended ones are forgotten.
    fn successor(&self) -> Option<Arc<KernelLimits>> {
        loop {
            // The list is unlocked before `is_over` takes the successor's lock: `limit` holds that
            // lock while it adds the successor to the list. The other order would be a deadlock.
            let successor = self.successors().pop()?.upgrade();
            match successor {
                Some(successor) if !successor.is_over() => return Some(successor),
                _ => {}
            }
        }
    }

    /// Makes a container's cgroup and joins it, unless another one is in use. `single`: no other
    /// container will come. Blocks.
    fn join(
        self: Arc<Self>,
        bundle: &Path,
        path: &CgroupsPath,
        limits: &ResourcesConfig,
        single: bool,
    ) -> Option<Joined> {
        if std::mem::replace(&mut *self.taken.lock().unwrap_or_else(PoisonError::into_inner), true)
        {
            return None;
        }
        let leaf = self.leaf(path, single);
        // Before the first change: after an error, the drop leaves and removes what has been made.
        let joined = Joined { cgroups: self, leaf, bundle: bundle.to_owned() };
        let Joined { cgroups, leaf, .. } = &joined;
        match leaf.make(bundle).and_then(|()| leaf.set(limits)).and_then(|()| cgroups.enter(leaf)) {
            Ok(()) => Some(joined),
            Err(error) => {
                tracing::warn!(%error, "the kernel does not back the limits");
                None
            }
        }
    }

    fn leaf(&self, path: &CgroupsPath, single: bool) -> Leaf {
        let [cpu, memory] = [0, 1].map(|hierarchy| match path {
            CgroupsPath::Root(path) => self.directory(hierarchy).join(path),
            CgroupsPath::Own(path) => self.start_of_relative_paths(hierarchy).join(path),
        });
        let (cpu, made) = match self.version {
            Version::V1 => {
                (cpu.clone(), if single { vec![cpu, memory.clone()] } else { vec![cpu] })
            }
            Version::V2 => (cpu.join("guests"), vec![cpu.join("guests"), cpu]),
        };
        let base = resident().saturating_add(SPARE_MEMORY);
        // On v2 the parent of a threaded cgroup must hold the process.
        let memory = (single || self.version == Version::V2).then_some(memory);
        Leaf { cpu, memory, limited: single, base, version: self.version, made }
    }

    /// The root of a hierarchy: 0 for CPU, 1 for memory.
    fn directory(&self, hierarchy: usize) -> PathBuf {
        match self.version {
            Version::V1 => self.root.join(["cpu", "memory"][hierarchy]),
            Version::V2 => self.root.clone(),
        }
    }

    fn original_directory(&self, hierarchy: usize) -> PathBuf {
        self.directory(hierarchy).join(&self.original[hierarchy])
    }

    /// The directory that relative paths start from, as with runc 1.1: on v1 the cgroup of the
    /// process, on v2 the one above it.
    fn start_of_relative_paths(&self, hierarchy: usize) -> PathBuf {
        match self.version {
            Version::V1 => self.original_directory(hierarchy),
            // On v2 a cgroup with processes passes no controllers on, and the cgroup of this
            // process has at least this one.
            Version::V2 => self
                .directory(hierarchy)
                .join(self.original[hierarchy].parent().unwrap_or(Path::new(""))),
        }
    }

    fn enter(&self, leaf: &Leaf) -> io::Result<()> {
        // The process before the type: threads can only move within the cgroup of their process.
        if let Some(memory) = &leaf.memory {
            write(memory.join("cgroup.procs"), process::id())?;
        }
        if self.version == Version::V2 {
            write(leaf.cpu.join("cgroup.type"), "threaded")?;
        }
        self.move_workers(&leaf.cpu)
    }

    fn move_workers(&self, to: &Path) -> io::Result<()> {
        let file = to.join(match self.version {
            Version::V1 => "tasks",
            Version::V2 => "cgroup.threads",
        });
        self.workers.each(|thread| write(&file, thread))
    }

    /// Moves the process back to its original cgroups.
    fn leave(&self, leaf: &Leaf) {
        // An error may be dropped: a thread that stays keeps its cgroup busy, and `remove` logs it.
        let _ = match self.version {
            Version::V1 => self.move_workers(&self.original_directory(0)),
            // On v2 a thread can only move to a cgroup within that of its process.
            Version::V2 => leaf.memory.as_ref().map_or(Ok(()), |memory| self.move_workers(memory)),
        };
        if leaf.memory.is_some() {
            // Dropped for the same reason.
            let _ = write(self.original_directory(1).join("cgroup.procs"), process::id());
        }
        // Last: until here no other container may move the workers.
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

impl Joined {
    fn limit(&self, limits: &ResourcesConfig) {
        if let Err(error) = self.leaf.set(limits) {
            tracing::warn!(%error, "the kernel does not back the new limits");
        }
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        // The kernel removes no cgroup that has a thread in it.
        self.cgroups.leave(&self.leaf);
        remove(&self.bundle);
    }
}

impl Leaf {
    fn make(&self, bundle: &Path) -> io::Result<()> {
        let line = |path: &Path| format!("{}\n", path.display());
        let made: String = self.made.iter().map(|path| line(path)).collect();
        let above = self
            .made
            .iter()
            .filter_map(|path| path.parent())
            .filter(|parent| !self.made.iter().any(|m| m == parent));
        let missing = above.flat_map(|above| above.ancestors().take_while(|path| !path.exists()));
        let missing: String = missing.map(line).collect();
        // Written before anything is made: `remove` must find it even if this process is killed.
        fs::write(bundle.join(MADE_FILE), format!("{made}\n{missing}"))?;
        // Parents first: the list is in the order of removal.
        for path in self.made.iter().rev() {
            make_directory(path).map_err(|error| named(path, &error))?;
        }
        if self.version == Version::V2 {
            enable(self.made.last().map_or(Path::new(ROOT), PathBuf::as_path))?;
        }
        Ok(())
    }

    fn set(&self, limits: &ResourcesConfig) -> io::Result<()> {
        if !self.limited {
            return Ok(());
        }
        if let Some(shares) = limits.shares {
            match self.version {
                Version::V1 => write(self.cpu.join("cpu.shares"), shares)?,
                Version::V2 => write(self.cpu.join("cpu.weight"), weight(shares))?,
            }
        }
        if let Some(quota) = limits.quota {
            self.set_quota(quota.get())?;
        }
        if let (Some(limit), Some(directory)) = (limits.memory, &self.memory) {
            let limit = limit.get().map(|limit| limit.saturating_add(self.base));
            match self.version {
                Version::V1 => write(
                    directory.join("memory.limit_in_bytes"),
                    limit.map_or_else(|| "-1".to_owned(), |limit| limit.to_string()),
                )?,
                Version::V2 => write(
                    directory.join("memory.max"),
                    limit.map_or_else(|| "max".to_owned(), |limit| limit.to_string()),
                )?,
            }
        }
        Ok(())
    }

    fn set_quota(&self, quota: Option<Quota>) -> io::Result<()> {
        let period = PERIOD.as_micros();
        let time = quota.map(backing).map(|time| time.as_micros().to_string());
        match self.version {
            Version::V1 => {
                write(self.cpu.join("cpu.cfs_period_us"), period)?;
                write(self.cpu.join("cpu.cfs_quota_us"), time.as_deref().unwrap_or("-1"))
            }
            Version::V2 => write(
                self.cpu.join("cpu.max"),
                format!("{} {period}", time.as_deref().unwrap_or("max")),
            ),
        }
    }
}

/// The kernel's CPU time per [`PERIOD`] for that quota of a container.
fn backing(quota: Quota) -> Duration {
    let part = quota.time.as_secs_f64() / quota.period.as_secs_f64();
    // Out of range only for more CPUs than exist: a quota is at most `u64` microseconds.
    Duration::try_from_secs_f64(part * 1.25 * PERIOD.as_secs_f64()).unwrap_or(PERIOD * 1000)
        + SPARE_TIME
}

/// `cpu.shares`, 2 to 262144, as `cpu.weight`, 1 to 10000: the conversion of Kubernetes and runc.
fn weight(shares: u64) -> u64 {
    1 + shares.saturating_sub(2) * 9999 / 262_142
}

/// Removes the cgroup of the container of this bundle, if one was made, also after its shim was
/// killed. Blocks.
pub(crate) fn remove(bundle: &Path) {
    let path = bundle.join(MADE_FILE);
    let Ok(lines) = fs::read_to_string(&path) else { return };
    let (made, missing) = lines.split_once("\n\n").unwrap_or((&lines, ""));
    for directory in made.lines() {
        remove_directory(Path::new(directory));
    }
    for directory in missing.lines() {
        // Fails if other containers use the directory, which must then stay.
        let _ = fs::remove_dir(directory);
    }
    // A file that stays is removed with the bundle, by containerd.
    let _ = fs::remove_file(path);
}

/// Makes a directory, and those above it. One that exists belongs to another container: an error.
fn make_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().unwrap_or(path);
    for _ in 1..MAKE_TRIES {
        match fs::create_dir_all(parent).and_then(|()| fs::create_dir(path)) {
            // The parent has been removed between the two calls.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            made => return made,
        }
    }
    fs::create_dir_all(parent).and_then(|()| fs::create_dir(path))
}

fn remove_directory(directory: &Path) {
    for _ in 0..REMOVE_TRIES {
        match fs::remove_dir(directory) {
            // The last thread of a killed process has not ended yet.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => sys::pause(REMOVE_PAUSE),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return tracing::warn!(
                    %error,
                    directory = %directory.display(),
                    "a cgroup stays behind"
                );
            }
            _ => return,
        }
    }
    tracing::warn!(directory = %directory.display(), "a cgroup is still in use and stays behind");
}

/// v2: enables the controllers for the cgroup, from the root down. Enabling one twice succeeds.
fn enable(leaf: &Path) -> io::Result<()> {
    let mut ancestors: Vec<_> =
        leaf.ancestors().take_while(|path| path.join("cgroup.controllers").exists()).collect();
    // The children of the cgroup itself are threaded, and the memory controller is not.
    let own = ancestors.first().copied();
    // From the root down: a cgroup can only pass on controllers that it has.
    ancestors.reverse();
    for directory in ancestors {
        let controllers = if Some(directory) == own { "+cpu" } else { "+cpu +memory" };
        write(directory.join("cgroup.subtree_control"), controllers)?;
    }
    Ok(())
}

/// The cgroup of the process in the hierarchy of a controller, from the lines of
/// `/proc/self/cgroup` (`cgroups(7)`).
fn original(version: Version, own: &str, controller: &str) -> PathBuf {
    let find = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        let path = fields.next()?;
        let here = match version {
            Version::V1 => controllers.split(',').any(|one| one == controller),
            Version::V2 => controllers.is_empty(),
        };
        here.then(|| path.trim_start_matches('/').into())
    };
    own.lines().find_map(find).unwrap_or_default()
}

/// Resident memory of the process, in bytes (`VmRSS` of `proc_pid_status(5)`, in KiB there).
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10
}

fn write(path: impl AsRef<Path>, value: impl ToString) -> io::Result<()> {
    fs::write(&path, value.to_string()).map_err(|error| named(path.as_ref(), &error))
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hierarchy of plain files, which shows all writes, without a kernel that could refuse them.
    struct Fixture {
        root: tempfile::TempDir,
        bundle: tempfile::TempDir,
        cgroups: Arc<Cgroups>,
    }

    const OWN_V1: &str =
        "9:name=systemd:/x\n4:memory:/pods/shim\n3:cpu,cpuacct:/pods/shim\n0::/y\n";
    const OWN_V2: &str = "0::/pods/shim\n";

    impl Fixture {
        fn new(version: Version) -> Self {
            let root = tempfile::tempdir().unwrap();
            let own = if version == Version::V1 { OWN_V1 } else { OWN_V2 };
            for original in ["cpu/pods/shim", "memory/pods/shim", "pods/shim"] {
                fs::create_dir_all(root.path().join(original)).unwrap();
            }
            let workers = Threads::default();
            workers.add(71);
            let cgroups = Arc::new(Cgroups::at(root.path(), version, own, workers));
            Self { root, bundle: tempfile::tempdir().unwrap(), cgroups }
        }

        fn join(&self, limits: &str, single: bool) -> Option<Joined> {
            self.join_at(CgroupsPath::Root("k8s/c1".into()), limits, single)
        }

        fn join_at(&self, path: CgroupsPath, limits: &str, single: bool) -> Option<Joined> {
            let limits = ResourcesConfig::parse(limits.as_bytes()).unwrap();
            self.cgroups.clone().join(self.bundle.path(), &path, &limits, single)
        }

        fn at(&self, path: &str) -> String {
            fs::read_to_string(self.root.path().join(path)).unwrap_or_default()
        }
    }

    const LIMITS: &str =
        r#"{"memory":{"limit":1000000},"cpu":{"shares":512,"quota":20000,"period":100000}}"#;

    #[test]
    fn single_container_has_its_limits_mirrored_with_a_reserve() {
        let fixture = Fixture::new(Version::V1);
        let joined = fixture.join(LIMITS, true).unwrap();
        assert_eq!(fixture.at("cpu/k8s/c1/cpu.shares"), "512");
        assert_eq!(fixture.at("cpu/k8s/c1/cpu.cfs_quota_us"), "30000");
        assert_eq!(fixture.at("cpu/k8s/c1/tasks"), "71");
        assert_eq!(fixture.at("memory/k8s/c1/cgroup.procs"), process::id().to_string());
        let memory: u64 = fixture.at("memory/k8s/c1/memory.limit_in_bytes").parse().unwrap();
        assert!(memory > 1_000_000 + SPARE_MEMORY && memory < SPARE_MEMORY * 20, "{memory}");
        joined.limit(
            &ResourcesConfig::parse(br#"{"cpu":{"quota":-1},"memory":{"limit":-1}}"#).unwrap(),
        );
        assert_eq!(fixture.at("cpu/k8s/c1/cpu.cfs_quota_us"), "-1");
        assert_eq!(fixture.at("memory/k8s/c1/memory.limit_in_bytes"), "-1");
        drop(joined);
        assert_eq!(fixture.at("cpu/pods/shim/tasks"), "71");
        assert_eq!(fixture.at("memory/pods/shim/cgroup.procs"), process::id().to_string());
    }

    #[test]
    fn unified_hierarchy_has_workers_in_a_threaded_child() {
        let fixture = Fixture::new(Version::V2);
        let joined = fixture.join(LIMITS, true).unwrap();
        assert_eq!(fixture.at("k8s/c1/guests/cgroup.type"), "threaded");
        assert_eq!(fixture.at("k8s/c1/guests/cpu.weight"), "20");
        assert_eq!(fixture.at("k8s/c1/guests/cpu.max"), "30000 100000");
        assert_eq!(fixture.at("k8s/c1/guests/cgroup.threads"), "71");
        assert_eq!(fixture.at("k8s/c1/cgroup.procs"), process::id().to_string());
        assert!(fixture.at("k8s/c1/memory.max").parse::<u64>().unwrap() > 1_000_000);
        drop(joined);
        assert_eq!(fixture.at("pods/shim/cgroup.procs"), process::id().to_string());
    }

    fn relative() -> CgroupsPath {
        CgroupsPath::Own("system.slice/x.scope".into())
    }

    #[test]
    fn relative_path_begins_at_the_own_cgroup_on_v1() {
        let fixture = Fixture::new(Version::V1);
        let _joined = fixture.join_at(relative(), LIMITS, true).unwrap();
        assert_eq!(fixture.at("cpu/pods/shim/system.slice/x.scope/tasks"), "71");
        let procs = fixture.at("memory/pods/shim/system.slice/x.scope/cgroup.procs");
        assert_eq!(procs, process::id().to_string());
    }

    #[test]
    fn relative_path_begins_above_the_own_cgroup_on_v2() {
        let fixture = Fixture::new(Version::V2);
        let _joined = fixture.join_at(relative(), LIMITS, true).unwrap();
        assert_eq!(fixture.at("pods/system.slice/x.scope/guests/cgroup.threads"), "71");
        assert_eq!(fixture.at("pods/system.slice/x.scope/cgroup.procs"), process::id().to_string());
    }

    #[test]
    fn relative_path_begins_at_the_root_for_a_process_in_the_root_of_v2() {
        let root = tempfile::tempdir().unwrap();
        let cgroups = Cgroups::at(root.path(), Version::V2, "0::/\n", Threads::default());
        let leaf = cgroups.leaf(&relative(), true);
        assert_eq!(leaf.memory, Some(root.path().join("system.slice/x.scope")));
    }

    #[test]
    fn workers_of_a_pod_are_in_the_first_containers_cgroup_without_its_limits() {
        let fixture = Fixture::new(Version::V1);
        let first = fixture.join(LIMITS, false).unwrap();
        assert!(fixture.join(LIMITS, false).is_none(), "a second one");
        assert_eq!(fixture.at("cpu/k8s/c1/tasks"), "71");
        for never in
            ["cpu/k8s/c1/cpu.shares", "cpu/k8s/c1/cpu.cfs_quota_us", "memory/k8s/c1/cgroup.procs"]
        {
            assert_eq!(fixture.at(never), "", "{never}");
        }
        drop(first);
        fs::remove_dir_all(fixture.root.path().join("cpu/k8s")).unwrap();
        assert!(fixture.join(LIMITS, false).is_some(), "after the first");
    }

    #[test]
    fn workers_of_a_pod_move_from_an_ended_container_to_a_living_one() {
        let fixture = Fixture::new(Version::V1);
        let bundles = [(); 4].map(|()| tempfile::tempdir().unwrap());
        let [first, gone, over, last] = [0, 1, 2, 3].map(|n| {
            let path = CgroupsPath::Root(format!("k8s/h{n}").into());
            let kernel_limits = Arc::new(KernelLimits::new(
                fixture.cgroups.clone(),
                path,
                bundles[n].path(),
                false,
            ));
            kernel_limits.limit(&ResourcesConfig::default());
            kernel_limits
        });
        last.limit(&ResourcesConfig::default());
        assert_eq!(fixture.cgroups.successors().len(), 4, "each once");
        let workers = |n| fixture.at(&format!("cpu/k8s/h{n}/tasks"));
        assert_eq!([0, 1, 2, 3].map(workers), ["71", "", "", ""]);
        drop(gone);
        over.end();
        first.end();
        assert_eq!(workers(3), "71");
        last.end();
    }

    #[test]
    fn nothing_is_made_without_a_limit_and_nothing_after_the_end() {
        let fixture = Fixture::new(Version::V1);
        let path = CgroupsPath::Root("k8s/c1".into());
        let kernel_limits =
            Arc::new(KernelLimits::new(fixture.cgroups.clone(), path, fixture.bundle.path(), true));
        let made = || fixture.root.path().join("cpu/k8s/c1").exists();
        for nothing in ["{}", r#"{"memory":{"limit":-1},"cpu":{"shares":1024,"quota":-1}}"#] {
            kernel_limits.limit(&ResourcesConfig::parse(nothing.as_bytes()).unwrap());
            assert!(!made(), "{nothing}");
        }
        kernel_limits.limit(&ResourcesConfig::parse(LIMITS.as_bytes()).unwrap());
        assert!(made());
        kernel_limits.end();
        fs::remove_dir_all(fixture.root.path().join("cpu/k8s")).unwrap();
        kernel_limits.limit(&ResourcesConfig::parse(LIMITS.as_bytes()).unwrap());
        assert!(!made());
    }

    #[test]
    fn cgroups_are_removed_without_the_process_that_made_them() {
        let fixture = Fixture::new(Version::V1);
        let directory = fixture.root.path().join("cpu/gone");
        fs::create_dir(&directory).unwrap();
        let above = directory.parent().unwrap().join("shared");
        fs::create_dir_all(above.join("others")).unwrap();
        let lines = format!("{}\n\n{}\n", directory.display(), above.display());
        for _ in 0..2 {
            fs::write(fixture.bundle.path().join(MADE_FILE), &lines).unwrap();
            remove(fixture.bundle.path());
            assert!(!directory.exists() && above.exists());
        }
    }
}
