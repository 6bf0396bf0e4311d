//! Sandboxes, containers and their processes: states, creations, starts, exits.

use std::time::{Duration, Instant};

use crate::lock::Mutex;

use super::{
    labels::label,
    numbers::{Counter, FAST, Gauge, Histogram, Present, Sharded},
};

label! {
    /// Kind of a process.
    Kind {
        /// The init of a container.
        Container = "container",
        /// A further process of a container.
        Exec = "exec",
    }
}

label! {
    /// State of a process.
    Condition {
        /// It does not run yet.
        Created = "created",
        /// Its instance is being made.
        Starting = "starting",
        /// It runs.
        Running = "running",
        /// It is paused.
        Paused = "paused",
        /// It has ended, and is not deleted.
        Stopped = "stopped",
    }
}

label! {
    /// State of a sandbox.
    SandboxCondition {
        /// It takes containers.
        Active = "active",
        /// Its containers are being ended.
        Ending = "ending",
    }
}

label! {
    /// Part of a start.
    Phase {
        /// From the `main` of the thin shim until the daemon has its request.
        Thin = "thin",
        /// The sandbox is made: network, socket, record.
        Sandbox = "sandbox",
        /// `config.json` is read and the file systems are mounted.
        Prepare = "prepare",
        /// The engine finds the program, and loads or compiles its code.
        Engine = "engine",
        /// From containerd's `Start` to the first instruction of the guest.
        Instantiate = "instantiate",
    }
}

label! {
    /// Reason of an end.
    Reason {
        /// The guest has returned, or ended with status 0.
        Success = "success",
        /// The guest has ended with another status.
        Failure = "failure",
        /// The guest has trapped.
        Trap = "trap",
        /// A growth beyond the memory limit.
        OutOfMemory = "oom",
        /// SIGKILL.
        Killed = "killed",
        /// Another signal.
        Signal = "signal",
        /// Its engine has failed.
        Error = "error",
        /// It was deleted before its start.
        NeverStarted = "never-started",
    }
}

label! {
    /// Call of containerd that was refused or has failed.
    Call {
        /// A sandbox was not made.
        Sandbox = "sandbox",
        /// A container was not made.
        Create = "create",
        /// An exec was not made.
        Exec = "exec",
        /// A process did not start.
        Start = "start",
    }
}

// Statics, and no registry: a count is one atomic addition, without a look-up by name and without a
// lock. They are read when the exposition is asked for.
static SANDBOXES: [Gauge; SandboxCondition::COUNT] =
    [const { Gauge::new() }; SandboxCondition::COUNT];
static NATIVE: Gauge = Gauge::new();
static PROCESSES: [[Gauge; Condition::COUNT]; Kind::COUNT] =
    [const { [const { Gauge::new() }; Condition::COUNT] }; Kind::COUNT];
static CREATED: [Counter; Kind::COUNT] = [const { Counter::new() }; Kind::COUNT];
static STARTED: [Counter; Kind::COUNT] = [const { Counter::new() }; Kind::COUNT];
static DELETED: [Counter; Kind::COUNT] = [const { Counter::new() }; Kind::COUNT];
static EXITED: [[Counter; Reason::COUNT]; Kind::COUNT] =
    [const { [const { Counter::new() }; Reason::COUNT] }; Kind::COUNT];
static REFUSED: [Counter; Call::COUNT] = [const { Counter::new() }; Call::COUNT];
static PHASES: [Histogram; Phase::COUNT] = [const { Histogram::new(FAST) }; Phase::COUNT];
// Added to in each poll by all workers, which would contend for one counter.
static CPU_NANOS: Sharded<Counter> = Sharded::counter();
static GIVEN_UP: Counter = Counter::new();

/// Counts a created process.
pub(crate) fn created(kind: Kind) {
    CREATED[kind as usize].add(1);
}

/// Counts a process that has begun to run.
pub(crate) fn started(kind: Kind) {
    STARTED[kind as usize].add(1);
}

/// Counts the end of a process.
pub(crate) fn exited(kind: Kind, reason: Reason) {
    EXITED[kind as usize][reason as usize].add(1);
}

/// Counts a deleted process.
pub(crate) fn deleted(kind: Kind) {
    DELETED[kind as usize].add(1);
}

/// Counts a refused call.
pub fn refused(call: Call) {
    REFUSED[call as usize].add(1);
}

/// Notes the time that one part of a start has taken.
pub fn took(phase: Phase, time: Duration) {
    PHASES[phase as usize].observe(time);
}

/// Notes the time that one part of a start has taken until now.
pub fn took_since(phase: Phase, begin: Instant) {
    took(phase, begin.elapsed());
}

/// Counts CPU time of guests.
pub(crate) fn used_cpu(nanos: u64) {
    CPU_NANOS.add(nanos);
}

/// Counts threads that the kernel has not let go at the end of their process.
pub(crate) fn gave_up_threads(threads: usize) {
    GIVEN_UP.add(threads as u64);
}

/// A native container that is counted.
pub(crate) type CountedNative = Present;

/// Counts a native container for as long as the returned value lives.
pub(crate) fn native_container() -> CountedNative {
    NATIVE.hold()
}

/// Counts a process in its present state.
#[derive(Debug)]
pub(crate) struct CountedProcess {
    kind: Kind,
    present: Present,
}

impl CountedProcess {
    /// A process that has been created.
    pub(crate) fn created(kind: Kind) -> Self {
        Self { kind, present: PROCESSES[kind as usize][Condition::Created as usize].hold() }
    }

    /// Changes its state.
    pub(crate) fn set(&mut self, condition: Condition) {
        // Held before the present one is dropped: the sum over all states never falls.
        self.present = PROCESSES[self.kind as usize][condition as usize].hold();
    }
}

/// Counts a sandbox in its present state.
#[derive(Debug)]
pub(crate) struct CountedSandbox(Mutex<Present>);

impl Default for CountedSandbox {
    /// A sandbox that takes containers.
    fn default() -> Self {
        Self(Mutex::new(SANDBOXES[SandboxCondition::Active as usize].hold()))
    }
}

impl CountedSandbox {
    /// Notes that the sandbox is ending.
    pub(crate) fn ends(&self) {
        *self.0.lock() = SANDBOXES[SandboxCondition::Ending as usize].hold();
    }
}

/// The present values, for the exposition.
pub(super) mod values {
    use super::*;
    use crate::metrics::numbers::Distribution;

    pub(in crate::metrics) fn sandboxes(condition: SandboxCondition) -> i64 {
        SANDBOXES[condition as usize].get()
    }

    pub(in crate::metrics) fn native_containers() -> i64 {
        NATIVE.get()
    }

    pub(in crate::metrics) fn processes(kind: Kind, condition: Condition) -> i64 {
        PROCESSES[kind as usize][condition as usize].get()
    }

    pub(in crate::metrics) fn created(kind: Kind) -> u64 {
        CREATED[kind as usize].get()
    }

    pub(in crate::metrics) fn started(kind: Kind) -> u64 {
        STARTED[kind as usize].get()
    }

    pub(in crate::metrics) fn deleted(kind: Kind) -> u64 {
        DELETED[kind as usize].get()
    }

    pub(in crate::metrics) fn exited(kind: Kind, reason: Reason) -> u64 {
        EXITED[kind as usize][reason as usize].get()
    }

    pub(in crate::metrics) fn refused(call: Call) -> u64 {
        REFUSED[call as usize].get()
    }

    pub(in crate::metrics) fn phase(phase: Phase) -> Distribution {
        PHASES[phase as usize].get()
    }

    pub(in crate::metrics) fn cpu_seconds() -> f64 {
        Duration::from_nanos(CPU_NANOS.get()).as_secs_f64()
    }

    pub(in crate::metrics) fn given_up() -> u64 {
        GIVEN_UP.get()
    }
}
