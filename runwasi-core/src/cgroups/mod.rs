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
//!   the cgroup of the first container, and after its end that of a container that is left. Its CPU
//!   shares are those of all these containers, since native ones of the pod are beside it. On v1
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
pub(crate) mod oom_scores;
mod origin;
mod pod_shares;
mod policy;
pub mod version;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    sync::{Arc, Weak},
};

use tokio::sync::{Mutex as TurnMutex, OwnedMutexGuard};

pub(crate) use self::{
    files::remove,
    origin::{bring_back, start_outside},
};
use self::{
    files::write,
    oom_scores::OomScores,
    pod_shares::{OwnShares, PodShares},
    policy::{Hierarchies, Leaf},
    version::CgroupVersion as Version,
};
use crate::{
    blocking,
    bundle::{cgroups_path::CgroupsPath, resources::ResourcesConfig},
    lock::Mutex,
    runtime::{OnStart, Threads},
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
    /// Shares of that cgroup, if other containers may come.
    shares: PodShares,
    /// OOM scores of the containers.
    pub(crate) oom_scores: Arc<OomScores>,
}

/// The cgroup of one container, joined as soon as the kernel has limits to hold.
///
/// Joining takes the kernel ten milliseconds and more (a grace period of RCU). No start shall wait
/// for it.
///
/// The workers of a pod are in one cgroup at most. A container that comes second adds itself to
/// [`Cgroups::successors`] and only then tries to take [`Cgroups::taken`]. A container that ends
/// clears `taken` and only then looks for a successor, and so does one whose cgroup cannot be had.
/// Therefore either the try succeeds or the successor is found.
///
/// Lock order: `state`, then `successors` or `taken`. With either of the latter two locked, no
/// `state` is locked.
pub(crate) struct KernelLimits {
    cgroups: Arc<Cgroups>,
    path: CgroupsPath,
    bundle: PathBuf,
    single: bool,
    /// Its part of the shares of a pod.
    shares: OwnShares,
    state: Mutex<KernelLimitsState>,
    /// Locked from the wish for limits until the kernel has them.
    turn: Arc<TurnMutex<()>>,
}

/// The turn of a caller of [`KernelLimits::limit`], until it is dropped.
// The calls are made on the blocking pool, whose threads may overtake each other: of two changes
// the kernel would keep the first.
pub(crate) type Turn = OwnedMutexGuard<()>;

enum KernelLimitsState {
    /// Not joined: not needed yet, or another container's cgroup is in use.
    Outside,
    Inside(Joined),
    /// Left for good.
    Released,
}

/// Result of an attempt to join the cgroup of a container.
enum JoinAttempt {
    Joined(Joined),
    /// The cgroup of another container is in use, or is tried.
    Taken,
    /// The kernel has refused it.
    Failed,
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
        let shares = OwnShares::default();
        if !single {
            cgroups.shares.add(&shares);
        }
        Self {
            cgroups,
            path,
            bundle: bundle.to_owned(),
            single,
            shares,
            state: Mutex::new(KernelLimitsState::Outside),
            turn: Arc::default(),
        }
    }

    /// Waits for the callers before.
    pub(crate) async fn turn(&self) -> Turn {
        self.turn.clone().lock_owned().await
    }

    /// The turn of the first caller; absent for a later one.
    pub(crate) fn first_turn(&self) -> Option<Turn> {
        self.turn.clone().try_lock_owned().ok()
    }

    /// True if the kernel has limits to hold. In a pod these are the pod's, which are unknown here.
    pub(crate) fn is_needed(&self, limits: &ResourcesConfig) -> bool {
        !self.single || limits.bind()
    }

    /// Mirrors these limits into the cgroup, as far as they are set. The caller has the turn,
    /// unless nothing is set. Blocks.
    pub(crate) fn limit(self: &Arc<Self>, limits: &ResourcesConfig) {
        let mut state = self.state.lock();
        if !matches!(*state, KernelLimitsState::Released) {
            self.shares.set(limits.shares);
        }
        match &*state {
            KernelLimitsState::Inside(joined) => joined.limit(limits),
            KernelLimitsState::Outside if self.is_needed(limits) => {
                // Before the attempt: a container that ends meanwhile must find this successor.
                self.cgroups.add_successor(self);
                match self.cgroups.clone().join(&self.bundle, &self.path, limits, self.single) {
                    JoinAttempt::Joined(joined) => *state = KernelLimitsState::Inside(joined),
                    JoinAttempt::Taken => {}
                    JoinAttempt::Failed => {
                        drop(state);
                        return self.cgroups.pass_on(self);
                    }
                }
            }
            KernelLimitsState::Outside | KernelLimitsState::Released => {}
        }
        drop(state);
        self.cgroups.apply_shares();
    }

    /// Leaves and removes the cgroup, for good. The workers go to the cgroup of another container
    /// of the pod. Blocks.
    pub(crate) fn release(&self) {
        leave(&self.cgroups, self.take());
    }

    /// Marks the cgroup as left.
    fn take(&self) -> Option<Joined> {
        let mut state = self.state.lock();
        self.shares.clear();
        // Unlocked at the end: leaving the cgroup blocks, and `is_released` may be called
        // meanwhile.
        match std::mem::replace(&mut *state, KernelLimitsState::Released) {
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
        if self.is_released() {
            return;
        }
        let joined = self.take();
        let cgroups = self.cgroups.clone();
        match tokio::runtime::Handle::try_current() {
            // Dropped on the control thread, which must not wait for the kernel. The task may run
            // unobserved: if this process ends before, `bootstrap::delete` does the same work.
            Ok(runtime) if joined.is_some() || !self.single => {
                blocking::eventually(&runtime, move || leave(&cgroups, joined));
            }
            Ok(_) => {}
            Err(_) => leave(&cgroups, joined),
        }
    }
}

/// Leaves and removes the cgroup of a container, if it is in use, and lets another one of the
/// sandbox have its own. The shares of the others become those of the pod.
fn leave(cgroups: &Cgroups, joined: Option<Joined>) {
    let Some(joined) = joined else { return cgroups.apply_shares() };
    // Leaves the cgroup. Only afterwards can a successor join its own.
    drop(joined);
    if let Some(successor) = cgroups.successor() {
        // Only a pod has successors, and the kernel is not told the limits of its containers.
        successor.limit(&ResourcesConfig::default());
    }
}

impl Cgroups {
    /// The cgroups of this process. `sandbox` tells the pid of the sandbox's process, while it
    /// lives.
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
            shares: PodShares::default(),
            oom_scores: OomScores::of_process(),
        }
    }

    /// Notes the PID namespace that native containers share from now on. `first` tells the pid of
    /// its first process, while that lives.
    pub(crate) fn set_first(&self, first: impl Fn() -> Option<u32> + Send + Sync + 'static) {
        *self.first.lock() = Box::new(first);
    }

    /// The processes of the sandbox that live. They begin in the cgroup of this one, which they
    /// would keep, and clients look for the container's cgroup by their pid.
    fn of_sandbox(&self) -> impl Iterator<Item = u32> + use<> {
        let first = (self.first.lock())();
        [(self.sandbox)(), first].into_iter().flatten()
    }

    /// Lets another container of the pod try after a failure: it may have found the place taken.
    fn pass_on(&self, failed: &Arc<KernelLimits>) {
        // Each failure leaves one less to try.
        self.remove_successor(failed);
        match self.successor() {
            Some(other) => other.limit(&ResourcesConfig::default()),
            None => self.apply_shares(),
        }
        // The end of another container may be what it needs.
        self.add_successor(failed);
    }

    fn remove_successor(&self, successor: &Arc<KernelLimits>) {
        let own = Arc::downgrade(successor);
        self.successors.lock().retain(|other| !other.ptr_eq(&own));
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
    ) -> JoinAttempt {
        if std::mem::replace(&mut *self.taken.lock(), true) {
            return JoinAttempt::Taken;
        }
        let leaf = self.hierarchies.leaf(path, single, resident_memory());
        // Before the first change: after an error, the drop leaves and removes what has been made.
        let joined = Joined { cgroups: self, leaf, bundle: bundle.to_owned() };
        let Joined { cgroups, leaf, .. } = &joined;
        let entered = files::make(leaf, bundle)
            .and_then(|()| files::set(leaf.settings(limits)))
            .and_then(|()| cgroups.enter(leaf));
        match entered {
            Ok(()) => {
                cgroups.shares.set_leaf((!single).then(|| leaf.clone()));
                JoinAttempt::Joined(joined)
            }
            Err(error) => {
                tracing::warn!(%error, "the kernel does not back the limits");
                JoinAttempt::Failed
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
        self.move_workers(&leaf.cpu, Some(self.entry_of_late_threads(&leaf.cpu)))
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

    fn move_workers(&self, to: &Path, later: Option<Box<OnStart>>) -> io::Result<()> {
        let file = Leaf::threads(self.hierarchies.version, to);
        self.workers.each(|thread| write(&file, thread), later)
    }

    /// Moves a thread that starts after the others were moved. It is in the cgroup already if one of
    /// them has started it: another move would take a grace period of RCU for nothing.
    fn entry_of_late_threads(&self, cpu: &Path) -> Box<OnStart> {
        let hierarchies = self.hierarchies.clone();
        let cpu = cpu.to_owned();
        Box::new(move |thread| {
            let own = fs::read_to_string(format!("/proc/self/task/{thread}/cgroup"));
            if own.is_ok_and(|own| hierarchies.of_cpu(&own) == cpu) {
                return;
            }
            if let Err(error) = write(Leaf::threads(hierarchies.version, &cpu), thread) {
                tracing::warn!(%error, "the kernel does not back the limits on a late thread");
            }
        })
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
                // An error: it has ended. One that stays keeps its cgroup busy, and `remove` logs
                // it.
                let _ = write(Leaf::threads(version, &to), thread);
            }
        }
    }

    /// Gives the cgroup of a pod's guests the shares of their containers. Blocks.
    fn apply_shares(&self) {
        if let Err(error) = self.shares.apply() {
            tracing::warn!(%error, "the kernel does not back the shares of a pod");
        }
    }

    /// Moves the process back to its original cgroups.
    fn leave(&self, leaf: &Leaf) {
        self.shares.set_leaf(None);
        // An error may be dropped: a thread that stays keeps its cgroup busy, and `remove` logs it.
        let _ = self.outside(leaf).map_or(Ok(()), |outside| self.move_workers(&outside, None));
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
mod tests;
