//! Mirrors the limits of containers into cgroups: a shim that serves one pod puts its guests'
//! threads and its memory into the cgroup that containerd names. The daemon has no such cgroups,
//! because the kernel cannot tell its guests apart.
//!
//! | | cgroup v1 | cgroup v2 | holds |
//! |---|---|---|---|
//! | CPU | `cpu/PATH` | `PATH/guests`, threaded | the workers of the guests |
//! | memory | `memory/PATH` | `PATH` | the whole process |
//!
//! * Shares count among siblings, so on v2 they are those of `PATH`.
//! * Only workers are throttled. Control threads, which answer `Kill` and all other calls, are not.
//! * The meters of the shim act first. The kernel's limits lie a little higher, so that the kernel
//!   never punishes allowed use: a throttled worker cannot drop a guest that is killed, and a
//!   process out of memory ends with all its guests.
//! * The limits are those of a container that is its own sandbox. In a pod, the workers are in the
//!   cgroup of one of its containers, below the pod's cgroup, and the limits of the pod bind. It is
//!   the cgroup of the first container, and after its end that of a container that is left. On v1
//!   the memory of the process stays outside the pod: the pod's memory is meant for its guests, not
//!   for a shim beside them. On v2 the process must be inside, as the parent of a threaded cgroup.
//! * The processes of the sandbox are where this process is. That is no way for the daemon: they share
//!   its memory, and an end by the kernel for a full pod would end it, too.
//! * A process that compiles is in neither: it works for the service that has started this one, as
//!   the unpacking of an image does, and has a bound of its own.
//! * Nor is a hook, logger or native runtime: it is a program of the host, and may outlive the
//!   container.
//! * The kernel's limits are a second line of defence. If they cannot be set, this is logged, and
//!   the limits of the shim remain.

mod files;
pub(crate) mod kills;
mod origin;
mod policy;
pub mod version;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    sync::{Arc, Weak},
};

pub(crate) use self::{
    files::remove,
    origin::{bring_back, start_outside},
};
use self::{
    files::write,
    policy::{Hierarchies, Leaf},
    version::CgroupVersion as Version,
};
use crate::{
    blocking,
    bundle::{cgroups_path::CgroupsPath, resources::ResourcesConfig},
    lock::Mutex,
    runtime::Threads,
    sys::resident_memory,
};

type SandboxPid = dyn Fn() -> Option<u32> + Send + Sync;

/// The cgroups of a process that serves one pod.
pub struct Cgroups {
    hierarchies: Hierarchies,
    workers: Threads,
    /// Pid of the sandbox's process while it lives. It may come later than this value.
    sandbox: Box<SandboxPid>,
    /// Pid of the first process of the PID namespace that native containers share, while it lives.
    first: Mutex<Box<SandboxPid>>,
    /// True while the cgroup of a container is in use. Locked for the change only.
    taken: Mutex<bool>,
    /// Containers that can give their cgroup when that container ends.
    successors: Mutex<Vec<Weak<KernelLimits>>>,
}

/// The cgroup of one container, joined as soon as the kernel has limits to hold.
///
/// Joining takes the kernel ten milliseconds and more (a grace period of RCU). No start shall wait
/// for it.
///
/// The workers of a pod are in one cgroup at most. A container that comes second adds itself to
/// [`Cgroups::successors`] and only then tries to take [`Cgroups::taken`]. A container that ends
/// clears `taken` and only then looks for a successor. Therefore either the try succeeds or the
/// successor is found.
///
/// Lock order: `state`, then `successors` or `taken`. With either of the latter two locked, no
/// `state` is locked.
pub(crate) struct KernelLimits {
    cgroups: Arc<Cgroups>,
    path: CgroupsPath,
    bundle: PathBuf,
    single: bool,
    state: Mutex<KernelLimitsState>,
}

enum KernelLimitsState {
    /// Not joined: not needed yet, or another container's cgroup is in use.
    Outside,
    Inside(Joined),
    /// Left for good.
    Released,
}

/// A container's cgroup with the process in it. Dropped, it leaves and removes the cgroup.
struct Joined {
    cgroups: Arc<Cgroups>,
    leaf: Leaf,
    bundle: PathBuf,
}

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
        let mut state = self.state.lock();
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
            KernelLimitsState::Outside | KernelLimitsState::Released => {}
        }
    }

    /// Leaves and removes the cgroup, for good. The workers go to the cgroup of another container
    /// of the pod. Blocks.
    pub(crate) fn release(&self) {
        if let Some(joined) = self.take() {
            leave(joined);
        }
    }

    /// Marks the cgroup as left.
    fn take(&self) -> Option<Joined> {
        // Unlocked at the end of the statement: leaving the cgroup blocks, and `is_released` may be
        // called meanwhile.
        match std::mem::replace(&mut *self.state.lock(), KernelLimitsState::Released) {
            KernelLimitsState::Inside(joined) => Some(joined),
            KernelLimitsState::Outside | KernelLimitsState::Released => None,
        }
    }

    fn is_released(&self) -> bool {
        matches!(*self.state.lock(), KernelLimitsState::Released)
    }
}

/// For a creation that was given up before [`KernelLimits::release`].
impl Drop for KernelLimits {
    fn drop(&mut self) {
        let Some(joined) = self.take() else { return };
        match tokio::runtime::Handle::try_current() {
            // Dropped on the control thread, which must not wait for the kernel. The task may run
            // unobserved: if this process ends before, `bootstrap::delete` does the same work.
            Ok(runtime) => blocking::eventually(&runtime, move || leave(joined)),
            Err(_) => leave(joined),
        }
    }
}

/// Leaves and removes a cgroup and lets another container of the sandbox have its own.
fn leave(joined: Joined) {
    let cgroups = joined.cgroups.clone();
    // Leaves the cgroup. Only afterwards can a successor join its own.
    drop(joined);
    if let Some(successor) = cgroups.successor() {
        // Only a pod has successors, and the kernel is not told the limits of its containers.
        successor.limit(&ResourcesConfig::default());
    }
}

impl Cgroups {
    /// The cgroups of this process. `sandbox` tells the pid of the sandbox's process, while it lives.
    pub fn of_process(
        workers: Threads,
        sandbox: impl Fn() -> Option<u32> + Send + Sync + 'static,
    ) -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let root = Path::new(files::ROOT);
        let processes = (workers, Box::new(sandbox) as Box<SandboxPid>);
        let cgroups = Self::at(root, version::host_cgroups(), &own, processes);
        origin::record(&cgroups.hierarchies, &own);
        cgroups
    }

    fn at(
        root: &Path,
        version: Version,
        own: &str,
        (workers, sandbox): (Threads, Box<SandboxPid>),
    ) -> Self {
        Self {
            hierarchies: Hierarchies::new(root, version, own),
            workers,
            sandbox,
            first: Mutex::new(Box::new(|| None)),
            taken: Mutex::default(),
            successors: Mutex::default(),
        }
    }

    /// Notes the PID namespace that native containers share from now on. `first` tells the pid of its
    /// first process, while that lives.
    pub(crate) fn set_first(&self, first: impl Fn() -> Option<u32> + Send + Sync + 'static) {
        *self.first.lock() = Box::new(first);
    }

    /// The processes of the sandbox that live. They begin in the cgroup of this one, which they would
    /// keep, and clients look for the container's cgroup by their pid.
    fn of_sandbox(&self) -> impl Iterator<Item = u32> + use<> {
        let first = (self.first.lock())();
        [(self.sandbox)(), first].into_iter().flatten()
    }

    /// Adds a successor once, however often its limits change.
    fn add_successor(&self, successor: &Arc<KernelLimits>) {
        let mut successors = self.successors.lock();
        let own = Arc::downgrade(successor);
        successors.retain(|other| other.strong_count() > 0 && !other.ptr_eq(&own));
        successors.push(own);
    }

    /// A successor that still lives. Ended ones are forgotten.
    fn successor(&self) -> Option<Arc<KernelLimits>> {
        loop {
            // The list is unlocked before `is_released` locks the successor's state: see the lock
            // order of `KernelLimits`.
            let successor = self.successors.lock().pop()?.upgrade();
            match successor {
                Some(successor) if !successor.is_released() => return Some(successor),
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
        if std::mem::replace(&mut *self.taken.lock(), true) {
            return None;
        }
        let leaf = self.hierarchies.leaf(path, single, resident_memory());
        // Before the first change: after an error, the drop leaves and removes what has been made.
        let joined = Joined { cgroups: self, leaf, bundle: bundle.to_owned() };
        let Joined { cgroups, leaf, .. } = &joined;
        let entered = files::make(leaf, bundle)
            .and_then(|()| files::set(leaf.settings(limits)))
            .and_then(|()| cgroups.enter(leaf));
        match entered {
            Ok(()) => Some(joined),
            Err(error) => {
                tracing::warn!(%error, "the kernel does not back the limits");
                None
            }
        }
    }

    fn enter(&self, leaf: &Leaf) -> io::Result<()> {
        // The process before the type: threads can only move within the cgroup of their process.
        if let Some(memory) = &leaf.memory {
            self.move_processes(memory)?;
        }
        if self.hierarchies.version == Version::V2 {
            write(leaf.cpu.join("cgroup.type"), "threaded")?;
        }
        self.move_workers(&leaf.cpu)
    }

    /// Moves this process and those of its sandbox.
    fn move_processes(&self, to: &Path) -> io::Result<()> {
        let file = to.join("cgroup.procs");
        let moved = write(&file, process::id());
        for process in self.of_sandbox() {
            // An error: it has ended. No limit depends on it.
            let _ = write(&file, process);
        }
        moved
    }

    fn move_workers(&self, to: &Path) -> io::Result<()> {
        let file = Leaf::threads(self.hierarchies.version, to);
        self.workers.each(|thread| write(&file, thread))
    }

    /// Directory for threads that leave the CPU cgroup.
    fn outside(&self, leaf: &Leaf) -> Option<PathBuf> {
        match self.hierarchies.version {
            Version::V1 => Some(self.hierarchies.original_directory(0)),
            // On v2 a thread can only move to a cgroup within that of its process.
            Version::V2 => leaf.memory.clone(),
        }
    }

    /// Moves what is still in the cgroup: a thread begins where the one is that starts it, and a
    /// process of the sandbox where this one was.
    fn evict(&self, leaf: &Leaf) {
        self.evict_threads(leaf);
        let Some(memory) = &leaf.memory else { return };
        let inside = fs::read_to_string(memory.join("cgroup.procs")).unwrap_or_default();
        for process in self.of_sandbox() {
            if inside.lines().any(|pid| pid.parse() == Ok(process)) {
                // An error: it has ended.
                let _ = write(self.hierarchies.original_directory(1).join("cgroup.procs"), process);
            }
        }
    }

    fn evict_threads(&self, leaf: &Leaf) {
        let Some(to) = self.outside(leaf) else { return };
        let version = self.hierarchies.version;
        let inside = fs::read_to_string(Leaf::threads(version, &leaf.cpu)).unwrap_or_default();
        for thread in inside.lines() {
            if Path::new("/proc/self/task").join(thread).exists() {
                // An error: it has ended. One that stays keeps its cgroup busy, and `remove` logs it.
                let _ = write(Leaf::threads(version, &to), thread);
            }
        }
    }

    /// Moves the process back to its original cgroups.
    fn leave(&self, leaf: &Leaf) {
        // An error may be dropped: a thread that stays keeps its cgroup busy, and `remove` logs it.
        let _ = self.outside(leaf).map_or(Ok(()), |outside| self.move_workers(&outside));
        if leaf.memory.is_some() {
            // Dropped for the same reason.
            let _ = self.move_processes(&self.hierarchies.original_directory(1));
        }
        // Last: until here no other container may move the workers.
        *self.taken.lock() = false;
    }
}

impl Joined {
    fn limit(&self, limits: &ResourcesConfig) {
        if let Err(error) = files::set(self.leaf.settings(limits)) {
            tracing::warn!(%error, "the kernel does not back the new limits");
        }
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        // The kernel removes no cgroup that has a thread in it.
        self.cgroups.leave(&self.leaf);
        files::remove_within(files::OF_LIVING, &self.bundle, &|| self.cgroups.evict(&self.leaf));
    }
}

#[cfg(test)]
mod tests {
    use super::{files::MADE_FILE, policy::SPARE_MEMORY, *};
    use crate::network::{Entrance, Network};

    /// A hierarchy of plain files, which shows all writes, without a kernel that could refuse them.
    struct Fixture {
        root: tempfile::TempDir,
        bundle: tempfile::TempDir,
        cgroups: Arc<Cgroups>,
        sandbox: Network,
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
            let sandbox = Network::of_process();
            let network = sandbox.clone();
            let processes: (_, Box<SandboxPid>) = (workers, Box::new(move || network.process()));
            let cgroups = Arc::new(Cgroups::at(root.path(), version, own, processes));
            Self { root, bundle: tempfile::tempdir().unwrap(), cgroups, sandbox }
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

    /// No workers, and a sandbox without a process.
    fn alone() -> (Threads, Box<SandboxPid>) {
        (Threads::default(), Box::new(|| None))
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
    fn processes_of_the_sandbox_are_where_the_process_is() {
        let fixture = Fixture::new(Version::V2);
        let last = |place: &str| fixture.at(&format!("{place}/cgroup.procs"));
        // That of a managed sandbox comes when the cgroups are known already.
        fixture.sandbox.move_to(Entrance::Host).unwrap();
        let joined = fixture.join("{}", false).unwrap();
        let of_sandbox = fixture.sandbox.pid().to_string();
        assert_eq!(last("k8s/c1"), of_sandbox);
        let first = Arc::new(72);
        let living = Arc::downgrade(&first);
        fixture.cgroups.set_first(move || living.upgrade().as_deref().copied());
        drop(joined);
        assert_eq!(last("pods/shim"), "72");
        drop(first);
        let joined = fixture.join_at(CgroupsPath::Root("k8s/c2".into()), "{}", false).unwrap();
        assert_eq!(last("k8s/c2"), of_sandbox, "the other has ended");
        drop(joined);
    }

    #[test]
    fn thread_that_began_in_a_cgroup_is_taken_out_of_it() {
        let fixture = Fixture::new(Version::V1);
        let joined = fixture.join(LIMITS, true).unwrap();
        let own = rustix::thread::gettid().as_raw_nonzero().to_string();
        // The other one is of no thread of this process.
        fs::write(fixture.root.path().join("cpu/k8s/c1/tasks"), format!("{own}\n1\n")).unwrap();
        fixture.cgroups.evict(&joined.leaf);
        assert_eq!(fixture.at("cpu/pods/shim/tasks"), own);
    }

    #[test]
    fn unified_hierarchy_has_workers_in_a_threaded_child() {
        let fixture = Fixture::new(Version::V2);
        let joined = fixture.join(LIMITS, true).unwrap();
        assert_eq!(fixture.at("k8s/c1/guests/cgroup.type"), "threaded");
        assert_eq!(fixture.at("k8s/c1/cpu.weight"), "20");
        assert_eq!(fixture.at("k8s/c1/guests/cpu.weight"), "", "it has no siblings");
        assert_eq!(fixture.at("k8s/c1/guests/cpu.max"), "30000 100000");
        assert_eq!(fixture.at("k8s/c1/guests/cgroup.threads"), "71");
        assert_eq!(fixture.at("k8s/c1/cgroup.procs"), process::id().to_string());
        assert!(fixture.at("k8s/c1/memory.max").parse::<u64>().unwrap() > 1_000_000);
        drop(joined);
        assert_eq!(fixture.at("pods/shim/cgroup.procs"), process::id().to_string());
    }

    #[test]
    fn child_of_a_process_in_a_container_is_brought_back_to_the_service() {
        for (version, own, places) in [
            (Version::V1, OWN_V1, &["cpu/pods/shim", "memory/pods/shim"][..]),
            (Version::V2, OWN_V2, &["pods/shim"][..]),
        ] {
            let fixture = Fixture::new(version);
            let origin = origin::Origin::new(&fixture.cgroups.hierarchies, own);
            let moved = || -> Vec<String> {
                places.iter().map(|place| fixture.at(&format!("{place}/cgroup.procs"))).collect()
            };
            origin.bring(72, own).unwrap();
            assert_eq!(moved(), vec![""; places.len()], "it is there");
            origin.bring(73, "0::/k8s/c1\n").unwrap();
            assert_eq!(moved(), vec!["73"; places.len()]);
        }
    }

    #[test]
    fn program_of_the_host_enters_the_cgroups_of_the_service_by_itself() {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        for (before, written) in [(&*own, ""), ("0::/k8s/c1\n", "0"), ("", "0")] {
            let fixture = Fixture::new(Version::V1);
            let origin = origin::Origin::new(&fixture.cgroups.hierarchies, before);
            let files = ["cpu", "memory"].map(|place| format!("{place}/pods/shim/cgroup.procs"));
            let mut command = process::Command::new("true");
            let error = origin.receive(&mut command).unwrap_err().to_string();
            assert!(error.contains("cgroup.procs"), "{error}");
            for file in &files {
                fs::write(fixture.root.path().join(file), "").unwrap();
            }
            origin.receive(&mut command).unwrap();
            assert!(command.status().unwrap().success());
            assert_eq!(files.map(|file| fixture.at(&file)), [written; 2], "{before:?}");
        }
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
        let cgroups = Cgroups::at(root.path(), Version::V2, "0::/\n", alone());
        let leaf = cgroups.hierarchies.leaf(&relative(), true, 0);
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
        assert_eq!(fixture.cgroups.successors.lock().len(), 4, "each once");
        let workers = |n| fixture.at(&format!("cpu/k8s/h{n}/tasks"));
        assert_eq!([0, 1, 2, 3].map(workers), ["71", "", "", ""]);
        drop(gone);
        over.release();
        first.release();
        assert_eq!(workers(3), "71");
        last.release();
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
        kernel_limits.release();
        fs::remove_dir_all(fixture.root.path().join("cpu/k8s")).unwrap();
        kernel_limits.limit(&ResourcesConfig::parse(LIMITS.as_bytes()).unwrap());
        assert!(!made());
    }

    #[test]
    fn cgroup_that_exists_stays_as_it_is() {
        for (version, path, quota, none) in [
            (Version::V1, "cpu/k8s/c1", "cpu.cfs_quota_us", "1000"),
            (Version::V1, "memory/k8s/c1", "cpu.cfs_quota_us", "1000"),
            (Version::V2, "k8s/c1", "cpu.max", "1000 100000"),
        ] {
            let fixture = Fixture::new(version);
            let existing = fixture.root.path().join(path);
            fs::create_dir_all(&existing).unwrap();
            assert!(fixture.join(LIMITS, true).is_none(), "{path}");
            assert!(existing.exists(), "{path}: an empty one");
            fs::write(existing.join(quota), none).unwrap();
            assert!(fixture.join(LIMITS, true).is_none(), "{path}");
            remove(fixture.bundle.path());
            assert_eq!(fixture.at(&format!("{path}/{quota}")), none, "{path}");
            assert!(!fixture.bundle.path().join(MADE_FILE).exists(), "{path}");
        }
    }

    #[test]
    fn list_of_cgroups_that_stay_outlives_another_attempt() {
        let fixture = Fixture::new(Version::V1);
        let directory = fixture.root.path().join("cpu/k8s/c1");
        fs::create_dir_all(directory.join("busy")).unwrap();
        let list = fixture.bundle.path().join(MADE_FILE);
        fs::write(&list, format!("{}\n\n", directory.display())).unwrap();
        assert!(fixture.join(LIMITS, false).is_none());
        fs::remove_dir(directory.join("busy")).unwrap();
        remove(fixture.bundle.path());
        assert!(!directory.exists() && !list.exists());
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
