//! Life events of containers: one function for each, called once where the event happens.
//!
//! Each counts the event in the metrics, and writes one line at level `info`, with the target
//! [`TARGET`]. Callers pass plain values: text is made here, and only if the level is on.
//!
//! Execs are told by the same functions, with their id.

mod subject;

use std::{borrow::Cow, fmt::Display, path::Path, time::Duration};

use tracing::field::{DisplayValue, display};

pub use self::subject::{Pod, Subject};
use crate::{
    digest::Digest,
    engine::{exit::ExitStatus, signal::Signal},
    id::Id,
    metrics::lives,
};

/// Target of the lines, for filters such as `RUST_LOG=lifecycle=off`.
pub const TARGET: &str = "lifecycle";

/// Longest text of a cause in an event, in bytes.
const LONGEST_CAUSE: usize = 256;

/// Program of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The engine runs it.
    Wasm,
    /// The delegate runs it.
    Native,
    /// The pause container of a pod, without a program.
    Pause,
}

/// Exit of a process.
#[derive(Clone, Copy)]
pub struct Exited<'a> {
    /// Exit status, as containerd is told.
    pub status: ExitStatus,
    /// Why it has ended.
    pub cause: Cause<'a>,
    /// Time from the request to start until the end. Absent if it was never started, or unknown.
    pub run: Option<Duration>,
    /// Resource usage. Absent for a native process.
    pub usage: Option<ExitUsage>,
}

/// Cause of an exit.
#[derive(Clone, Copy)]
pub enum Cause<'a> {
    /// It has returned or called for its exit.
    Exit,
    /// A signal that it did not handle. Of native processes, whose delegate tells the status alone,
    /// it is known by the status.
    Signal(Signal),
    /// A growth beyond its memory limit; of a native process, the kernel's OOM killer.
    OutOfMemory,
    /// A trap of this kind. Untrusted text.
    Trap(&'a str),
    /// The engine has failed. Untrusted text.
    Failed(&'a (dyn Display + Sync)),
    /// The engine has panicked.
    Panic,
    /// It was deleted before its start.
    NeverStarted,
}

/// Resource usage of a process at its exit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExitUsage {
    /// CPU time of the process.
    pub cpu: Duration,
    /// Highest memory of the container until now, in bytes.
    pub memory_peak: u64,
    /// Memory limit of the container, in bytes, if it has one.
    pub memory_limit: Option<u64>,
    /// Total time that the container was throttled.
    pub throttled: Duration,
}

/// Request that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The creation of a container.
    Create,
    /// The creation of an exec.
    Exec,
    /// The start of either.
    Start,
}

/// Result of a compilation.
#[derive(Clone, Copy, Debug)]
pub struct Compiled<'a> {
    /// Path of the artifact in the guest; for a layer, `IMAGE/TITLE`. Untrusted text.
    pub path: &'a Path,
    /// Digest of the artifact.
    pub digest: &'a Digest,
    /// Size of the artifact, in bytes.
    pub wasm_bytes: u64,
    /// Size of the code, in bytes.
    pub code_bytes: u64,
    /// Time from the start of the compilation to the code. The wait for a slot is not in it.
    pub took: Duration,
}

/// A container that has been throttled for most of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttled {
    /// The time looked at.
    pub window: Duration,
    /// Part of it in which the container was throttled.
    pub throttled: Duration,
    /// Total time throttled since its creation.
    pub total: Duration,
}

impl Kind {
    /// Its word in the log and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Native => "native",
            Self::Pause => "pause",
        }
    }
}

impl Cause<'_> {
    /// Its word in the log and in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Signal(_) => "signal",
            Self::OutOfMemory => "oom",
            Self::Trap(_) => "trap",
            Self::Failed(_) => "error",
            Self::Panic => "panic",
            Self::NeverStarted => "never-started",
        }
    }

    /// Text for an event about an end that the exit status does not tell.
    pub fn beyond_status(&self) -> Cow<'static, str> {
        match self {
            Self::Exit => Cow::Borrowed(""),
            // Also of a status that shows it: a program may return the same number itself.
            Self::Signal(signal) => Cow::Owned(format!("signal {}", signal.number())),
            Self::Trap(kind) => Cow::Owned(bounded("trap", kind)),
            Self::Failed(error) => Cow::Owned(bounded("error", error)),
            Self::OutOfMemory | Self::Panic | Self::NeverStarted => Cow::Borrowed(self.name()),
        }
    }

    /// The exit in the metrics.
    fn counted(&self, status: ExitStatus) -> lives::Reason {
        match self {
            Self::Exit if status == ExitStatus::SUCCESS => lives::Reason::Success,
            Self::Exit => lives::Reason::Failure,
            // Apart from other signals: programs that ignore SIGTERM are found by it.
            Self::Signal(Signal::KILL) => lives::Reason::Killed,
            Self::Signal(_) => lives::Reason::Signal,
            Self::OutOfMemory => lives::Reason::OutOfMemory,
            Self::Trap(_) => lives::Reason::Trap,
            Self::Failed(_) | Self::Panic => lives::Reason::Error,
            Self::NeverStarted => lives::Reason::NeverStarted,
        }
    }

    fn signal(&self) -> Option<u32> {
        match self {
            Self::Signal(signal) => Some(signal.number()),
            _ => None,
        }
    }

    fn trap(&self) -> Option<&str> {
        match self {
            Self::Trap(kind) => Some(kind),
            _ => None,
        }
    }

    fn error(&self) -> Option<DisplayValue<&(dyn Display + Sync)>> {
        match self {
            Self::Failed(error) => Some(display(*error)),
            _ => None,
        }
    }
}

impl Step {
    /// Its word in the log and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Exec => "exec",
            Self::Start => "start",
        }
    }

    /// The request in the metrics.
    fn counted(self) -> lives::Call {
        match self {
            Self::Create => lives::Call::Create,
            Self::Exec => lives::Call::Exec,
            Self::Start => lives::Call::Start,
        }
    }
}

/// An untrusted text after its kind.
fn bounded(kind: &str, text: impl Display) -> String {
    let mut text = format!("{kind}: {text}");
    text.truncate(text.floor_char_boundary(LONGEST_CAUSE));
    text
}

/// The kind of process in the metrics.
fn counted(exec: Option<&Id>) -> lives::Kind {
    if exec.is_some() { lives::Kind::Exec } else { lives::Kind::Container }
}

/// One line: the ids of the container and of the exec, then the fields of the event.
// A macro and not a function: tracing keeps the fields of a call site in a static, and looks at
// none of the values if the level is off.
macro_rules! line {
    ($subject:expr, $exec:expr, $event:literal, $($fields:tt)*) => {
        tracing::info!(
            target: TARGET,
            namespace = $subject.namespace.as_str(),
            container = $subject.container.as_str(),
            sandbox = $subject.sandbox.as_str(),
            pod = $subject.pod_name(),
            pod_namespace = $subject.pod_namespace(),
            exec = $exec.map(Id::as_str),
            $($fields)*
            concat!("{} ", $event),
            noun($exec)
        )
    };
}

fn noun(exec: Option<&Id>) -> &'static str {
    if exec.is_some() { "exec" } else { "container" }
}

/// A container or an exec exists. `took` is the time from the request to its answer.
pub fn created(subject: &Subject, exec: Option<&Id>, kind: Kind, took: Duration) {
    lives::created(counted(exec));
    line!(subject, exec, "created", kind = kind.name(), seconds = seconds(took),);
}

/// Its program runs. `took` is the time from the request to its answer.
pub fn started(subject: &Subject, exec: Option<&Id>, took: Duration) {
    lives::started(counted(exec));
    line!(subject, exec, "started", seconds = seconds(took),);
}

/// A process has ended.
pub fn exited(subject: &Subject, exec: Option<&Id>, exited: &Exited<'_>) {
    let Exited { status, cause, run, usage } = exited;
    // Before the line: it is counted whatever the level of the log is.
    lives::exited(counted(exec), cause.counted(*status));
    line!(
        subject,
        exec,
        "exited",
        status = status.get(),
        cause = cause.name(),
        signal = cause.signal(),
        trap = cause.trap(),
        error = cause.error(),
        run_seconds = run.map(seconds),
        cpu_seconds = usage.map(|usage| seconds(usage.cpu)),
        throttled_seconds = usage.map(|usage| seconds(usage.throttled)),
        memory_peak = usage.map(|usage| usage.memory_peak),
        memory_limit = usage.and_then(|usage| usage.memory_limit),
    );
}

/// A container or an exec is forgotten.
pub fn deleted(subject: &Subject, exec: Option<&Id>) {
    lives::deleted(counted(exec));
    line!(subject, exec, "deleted",);
}

/// A request was refused. containerd gets the reason, too; its text is untrusted.
pub fn refused(subject: &Subject, exec: Option<&Id>, step: Step, reason: &dyn Display) {
    lives::refused(step.counted());
    line!(subject, exec, "refused", step = step.name(), reason = %reason,);
}

/// An artifact was compiled, for the container that was the first to need it. Without one it was
/// compiled in advance.
pub fn compiled(subject: Option<&Subject>, compiled: &Compiled<'_>) {
    let Compiled { path, digest, wasm_bytes, code_bytes, took } = compiled;
    // Not by `line!`: code that is compiled in advance has no container whose ids it could name.
    tracing::info!(
        target: TARGET,
        namespace = subject.map(|subject| subject.namespace.as_str()),
        container = subject.map(|subject| subject.container.as_str()),
        sandbox = subject.map(|subject| subject.sandbox.as_str()),
        pod = subject.and_then(Subject::pod_name),
        pod_namespace = subject.and_then(Subject::pod_namespace),
        path = %path.display(),
        %digest,
        wasm_bytes,
        code_bytes,
        seconds = seconds(*took),
        "artifact compiled"
    );
}

/// A container has been throttled for most of a time.
pub fn throttled(subject: &Subject, throttled: &Throttled) {
    let Throttled { window, throttled, total } = *throttled;
    line!(
        subject,
        None::<&Id>,
        "throttled",
        window_seconds = seconds(window),
        throttled_seconds = seconds(throttled),
        total_seconds = seconds(total),
    );
}

/// Seconds to the microsecond.
// Nanoseconds as a float would be printed with up to seventeen digits.
fn seconds(time: Duration) -> f64 {
    Duration::from_micros(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cause_beyond_the_status_is_bounded() {
        assert_eq!(Cause::Exit.beyond_status(), "");
        assert_eq!(Cause::OutOfMemory.beyond_status(), "oom");
        assert_eq!(Cause::Signal(Signal::KILL).beyond_status(), "signal 9");
        assert_eq!(Cause::Trap("unreachable").beyond_status(), "trap: unreachable");
        let long = "ä".repeat(1000);
        assert_eq!(Cause::Failed(&long).beyond_status().len(), LONGEST_CAUSE - 1);
    }
}
