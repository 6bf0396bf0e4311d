//! The OS processes, threads, mounts and sockets that belong to a fixture; read by `containerd`'s clean-up and by tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use sha2::{Digest, Sha256};

use crate::poll::poll_until;

/// What serves one sandbox: an OS process that runs a shim, known by its arguments, or a node daemon's part in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shim {
    /// The OS process that serves it; a node daemon serves many.
    pub pid: u32,
    /// The pid whose `/proc/PID/ns/net` is the sandbox's network.
    pub network: u32,
    /// The `-id` it was started with: the container that opened the group; the group itself in a node daemon.
    pub id: String,
    /// Its containerd namespace.
    pub namespace: String,
    /// All arguments, or the daemon's line, for messages.
    pub line: String,
}

/// Ends a service of a fixture by a signal. One that has not ended in time is killed, and that is an error.
pub fn end(mut child: Child, name: &str, signal: Signal, limit: Duration) -> Result<()> {
    let pid = rustix::process::Pid::from_child(&child);
    kill_process(pid, signal).with_context(|| format!("cannot signal {name}"))?;
    let ended = poll_until(&format!("end of {name}"), limit, || child.try_wait().ok().flatten());
    if ended.is_err() {
        child.kill()?;
        child.wait()?;
    }
    ended.map(drop)
}

/// The shims whose `-address` is this containerd's, short-lived `start` and `delete` calls left out.
pub fn shims_of(address: &Path) -> Vec<Shim> {
    pids().into_iter().filter_map(|pid| shim(pid, address)).collect()
}

/// OS processes that have this among their arguments, without those of sandboxes.
pub fn with_argument(wanted: &str) -> Vec<u32> {
    // The name first: a process that ends in between has no arguments any more.
    let has =
        |pid: &u32| !has_name_of_a_sandbox(*pid) && arguments(*pid).iter().any(|arg| arg == wanted);
    pids().into_iter().filter(has).collect()
}

/// The OS processes that compile for one of these, without those that wait for work.
pub fn compilers_of(parents: &[u32]) -> Vec<u32> {
    named_children(parents, "compile")
}

/// The OS processes that wait to compile for one of these.
pub fn waiting_compilers_of(parents: &[u32]) -> Vec<u32> {
    named_children(parents, "compile-waits")
}

fn named_children(parents: &[u32], name: &str) -> Vec<u32> {
    let all = with_argument("compile-worker").into_iter();
    let is_one = |pid: &u32| {
        let own = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        own.trim_end() == name && parent(*pid).is_some_and(|parent| parents.contains(&parent))
    };
    all.filter(is_one).collect()
}

/// Processes of the sandboxes that this OS process serves: they share its memory and arguments.
pub fn sandboxes_of(server: u32) -> Vec<u32> {
    let is_its = |pid: &u32| is_sandbox(*pid) && parent(*pid).is_some_and(|of| of == server);
    pids().into_iter().filter(is_its).collect()
}

/// True for the process of a sandbox that is no zombie.
pub fn is_sandbox(pid: u32) -> bool {
    has_name_of_a_sandbox(pid) && alive(pid)
}

/// True also for one that has ended, and for one that still has the name of the thread that starts
/// it.
fn has_name_of_a_sandbox(pid: u32) -> bool {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    matches!(name.trim_end(), "sandbox" | "sandboxes")
}

fn parent(pid: u32) -> Option<u32> {
    number_in_status(pid, "PPid:")
}

fn number_in_status(pid: u32, field: &str) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(field)?.trim().parse().ok())
}

/// How many threads the OS process has that serves this pid.
pub fn threads(pid: u32) -> Result<usize> {
    let tasks = format!("/proc/{}/task", server_of(pid)?);
    Ok(fs::read_dir(&tasks).with_context(|| tasks)?.count())
}

/// Bytes of its program's code that the OS process has in memory which serves this pid.
pub fn resident_code(pid: u32) -> Result<u64> {
    let of = PathBuf::from(format!("/proc/{}", server_of(pid)?));
    let program = fs::read_link(of.join("exe"))?.display().to_string();
    let maps = fs::read_to_string(of.join("smaps"))?;
    let is_code = |line: &&str| line.contains(" r-xp ") && line.ends_with(&program);
    let mut lines = maps.lines().skip_while(|line| !is_code(line));
    let size = lines.find_map(|line| line.strip_prefix("Rss:")).context("no code")?;
    let size: u64 = size.trim().trim_end_matches(" kB").parse()?;
    Ok(size << 10)
}

/// Networks that a daemon keeps ready for its next sandboxes, made at any time that is quiet.
const SPARE_NETWORKS: usize = 4;

/// How many file descriptors an OS process has open, but for spare networks.
pub fn fds(pid: u32) -> Result<usize> {
    let open = format!("/proc/{pid}/fd");
    let files = fs::read_dir(&open).with_context(|| open)?.flatten();
    // An error: it was closed meanwhile.
    let targets: Vec<_> = files.filter_map(|file| fs::read_link(file.path()).ok()).collect();
    // Of a sandbox's process it would be the sandbox's.
    let own = fs::read_link("/proc/self/ns/net")?;
    let is_other_network =
        |target: &&PathBuf| target.to_string_lossy().starts_with("net:[") && **target != own;
    let networks = targets.iter().filter(is_other_network).count();
    Ok(targets.len() - networks.min(SPARE_NETWORKS))
}

/// Whether this OS process exists and is no zombie.
pub fn alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The state follows the name, which stands in brackets and may hold anything.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Kills an OS process, which may be given by a sandbox that it serves, and waits for its end.
///
/// # Errors
/// There is no such process, or it has not ended after 20 s.
pub fn kill9(pid: u32) -> Result<()> {
    let pid = rustix::process::Pid::from_raw(server_of(pid)?.try_into()?).context("pid 0")?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    pidfd_send_signal(&process, Signal::KILL)?;
    // The signal returns before the kernel has taken the process apart, which takes longer the more memory it has
    // mapped. The descriptor is readable once all its threads have ended.
    let ended = poll(
        &mut [PollFd::new(&process, PollFlags::IN)],
        Some(&Timespec { tv_sec: 20, tv_nsec: 0 }),
    )?;
    ensure!(ended == 1, "process {pid:?} has not ended 20 s after SIGKILL");
    Ok(())
}

/// The OS process that serves what containerd was told for a sandbox: its parent, or itself.
pub fn server_of(pid: u32) -> Result<u32> {
    let server = if is_sandbox(pid) { parent(pid) } else { number_in_status(pid, "Tgid:") };
    server.with_context(|| format!("no process {pid}"))
}

/// A figure of `/proc/PID/status` in bytes, like `VmRSS` or `VmHWM`.
pub fn memory(pid: u32, field: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.with_context(|| format!("no {field}"))?.trim().trim_end_matches(" kB");
    Ok(kib.parse::<u64>()? << 10)
}

/// Begins a new peak of an OS process's memory. Returns its present memory.
pub fn reset_peak(pid: u32) -> Result<u64> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
    memory(pid, "VmRSS")
}

/// Mount points at or below `path`, innermost last.
pub fn mounts_below(path: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points
        .map(|point| PathBuf::from(unescaped(point)))
        .filter(|point| point.starts_with(path))
        .collect()
}

/// The socket file of a group (a pod's id, or the container's) as every containerd shim names it.
pub fn socket_path(address: &Path, namespace: &str, group: &str) -> PathBuf {
    let name = format!("{}/{namespace}/{group}", address.display());
    let digest = Sha256::digest(name.as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Path::new("/run/containerd/s").join(hex)
}

/// FIFO files below `/run/containerd/fifo` of this container: `ctr` makes a directory there for every task.
pub fn fifos_of(id: &str) -> Vec<PathBuf> {
    let prefix = format!("{id}-");
    fifos(|name| name.starts_with(&prefix))
}

/// FIFO files below `/run/containerd/fifo` whose name `ours` accepts.
pub fn fifos(ours: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/run/containerd/fifo") else {
        return Vec::new();
    };
    let files =
        entries.flatten().flat_map(|dir| fs::read_dir(dir.path()).into_iter().flatten().flatten());
    files
        .filter(|file| file.file_name().to_str().is_some_and(&ours))
        .map(|file| file.path())
        .collect()
}

fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Nothing for an OS process that is gone, or a zombie.
fn arguments(pid: u32) -> Vec<String> {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    raw.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect()
}

fn shim(pid: u32, address: &Path) -> Option<Shim> {
    let args = arguments(pid);
    let value = |flag: &str| {
        let at = args.iter().position(|arg| arg.trim_start_matches('-') == flag)?;
        args.get(at + 1).cloned()
    };
    if value("address")? != address.to_str()? {
        return None;
    }
    // A call has the caller's pipe as its stdout. A server has given it up, since the caller reads
    // it to its end.
    if fs::read_link(format!("/proc/{pid}/fd/1")).ok()? != Path::new("/dev/null") {
        return None;
    }
    if is_sandbox(pid) {
        return None;
    }
    let line = args.join(" ").trim().to_owned();
    let network = sandboxes_of(pid).first().copied().unwrap_or(pid);
    Some(Shim { pid, network, id: value("id")?, namespace: value("namespace")?, line })
}

/// mountinfo writes space, tab, newline and backslash as octal escapes.
fn unescaped(point: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(point.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

/// CPU time that the OS process which serves this pid has used since it began, in nanoseconds; threads that have ended are
/// in it.
pub fn cpu_nanos(pid: u32) -> Result<u64> {
    let process = Pid::from_raw(server_of(pid)?.try_into()?);
    let clock = clock_getcpuclockid(process).with_context(|| format!("the CPU clock of {pid}"))?;
    let now = clock.now().with_context(|| format!("CPU time of {pid}"))?;
    Ok(Duration::from(now).as_nanos().try_into()?)
}

/// Ticks a second in `/proc/stat` and `/proc/PID/stat`: what `sysconf(_SC_CLK_TCK)` says on all machines of today.
pub const TICKS: u32 = 100;

/// CPU time that the OS process which serves this pid has used, that of ended threads included, as `/proc/PID/stat` tells it.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let file = format!("/proc/{}/stat", server_of(pid)?);
    let stat = fs::read_to_string(&file).with_context(|| file.clone())?;
    // The name stands in brackets and may hold anything; utime and stime are the 14th and 15th field.
    let (_, fields) = stat.rsplit_once(") ").with_context(|| stat.clone())?;
    let ticks = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(str::parse::<u64>)
        .sum::<Result<u64, _>>()
        .context(file)?;
    Ok(Duration::from_secs(ticks) / TICKS)
}
