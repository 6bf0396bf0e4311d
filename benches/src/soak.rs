//! `--soak N`: N container lives on each runtime, and what its server and the node hold meanwhile.
//! Called by `main` in the place of the benchmarks; it measures no speed, and fails if a figure
//! grows.
//!
//! One sandbox stays from begin to end, and its server is watched: the node daemon, or the shim of
//! that pod. Lives are of three kinds. Most join that sandbox and end by themselves; one in
//! [`KILLED`] is killed while it runs; one in [`ALONE`] has a sandbox and a network namespace of
//! its own. Half of those that join have limits, which the kernel's cgroups mirror. Every life has
//! an id, a bundle and a root file system of its own, which are removed after it.

use std::{
    collections::BTreeSet,
    fs,
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use runwasi_tests::{Runtime, bundle::fifo, poll_until, proc};
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    fake_containerd::{Container, FakeContainerd, Sandbox, Storage, Tasks},
    interrupt::Interrupt,
    levels::Level,
    options::short,
};

/// One life in this many is killed.
const KILLED: usize = 5;
/// One life in this many has a sandbox of its own.
const ALONE: usize = 50;
/// Containers under way at once.
const IN_FLIGHT: usize = 16;
/// Most lives whose directories are there at once.
const BATCH: usize = 500;

/// Measurements.
const CHECKPOINTS: usize = 10;
/// The measurement that later ones are compared with. Until then pools and caches are filled: each
/// slot of a pool takes a mapping or two when it is used first.
const WARM: usize = 5;
/// Fewest lives: one of each kind before each measurement.
pub(crate) const FEWEST: usize = ALONE * CHECKPOINTS;

/// Time in which the servers of sandboxes end.
const END: Duration = Duration::from_secs(20);

/// What may be more at a later measurement than at the warm one. Nothing of it follows the number of
/// lives: thread pools and the allocator keep a few more or less, as the timing of the calls has
/// it. What a container or a sandbox leaves behind is none.
const MORE: Held = Held {
    // Free lists of the allocator. At 100,000 lives, 42 bytes for each after the warm one.
    memory: usize::MAX,
    anonymous: 2 << 20,
    descriptors: 8,
    threads: 4,
    // Two for each thread's stack, and those of malloc's arenas.
    maps: 24,
    processes: 0,
    networks: 0,
    cgroups: 0,
    mounts: 0,
};

/// What the watched server and the node hold at one moment.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// Proportional set size of the server, in bytes. Printed only: it also changes as other
    /// processes map the same program or compiled code.
    memory: usize,
    /// The part of its memory that no file has, in bytes.
    anonymous: usize,
    /// File descriptors of the server.
    descriptors: usize,
    /// Its threads.
    threads: usize,
    /// Its mappings.
    maps: usize,
    /// Servers of sandboxes, and processes of sandboxes.
    processes: usize,
    /// Network namespaces of all these.
    networks: usize,
    /// Cgroups of containers.
    cgroups: usize,
    /// Mounts of containers, as this program and the server see them.
    mounts: usize,
}

/// Runs the lives on every runtime with guests.
pub(crate) fn run(
    runtimes: &[Runtime],
    lives: usize,
    interrupt: &Interrupt,
    say: &dyn Fn(&str) -> Result<()>,
) -> Result<()> {
    for runtime in runtimes {
        say(&format!("soak: {lives} lives on {}", short(*runtime)))?;
        FakeContainerd::with(*runtime, Storage::Memory, |fake| soak(fake, lives, interrupt, say))?;
    }
    Ok(())
}

fn soak(
    fake: &FakeContainerd,
    lives: usize,
    interrupt: &Interrupt,
    say: &dyn Fn(&str) -> Result<()>,
) -> Result<()> {
    let holder = fake.container("soak", &["sleep", "1000000"])?;
    let sandbox = fake.sandbox(&holder)?;
    fake.run(async {
        sandbox.tasks.create(&holder).await?;
        sandbox.tasks.start(&holder.id).await
    })?;
    let server = server(fake, &sandbox)?;
    say(Held::HEAD)?;
    let mut measured = Vec::new();
    for checkpoint in 0..CHECKPOINTS {
        let part = |number| lives * number / CHECKPOINTS;
        let begin = Instant::now();
        let range = part(checkpoint)..part(checkpoint + 1);
        let rate = range.len() as f64;
        batches(fake, &sandbox, range.clone(), interrupt)?;
        let rate = rate / begin.elapsed().as_secs_f64();
        let held = Held::settled(fake, server, interrupt)?;
        say(&held.line(range.end, rate))?;
        measured.push((range.end, held));
    }
    fake.run(sandbox.tasks.remove(&sandbox.id))?;
    fake.leave(sandbox);
    // All are printed before one is judged.
    let warm = measured[WARM - 1].1;
    measured[WARM..].iter().try_for_each(|(lives, held)| held.check(&warm, *lives))
}

/// The OS process that serves the sandbox.
fn server(fake: &FakeContainerd, sandbox: &Sandbox) -> Result<u32> {
    let shims = fake.shim_driver().shims();
    let shim = shims.iter().find(|shim| shim.id == sandbox.id);
    Ok(shim.with_context(|| format!("no server among {shims:?}"))?.pid)
}

fn batches(
    fake: &FakeContainerd,
    sandbox: &Sandbox,
    lives: Range<usize>,
    interrupt: &Interrupt,
) -> Result<()> {
    for begin in lives.clone().step_by(BATCH) {
        interrupt.check()?;
        let batch = begin..lives.end.min(begin + BATCH);
        let (alone, joining): (Vec<_>, Vec<_>) = batch.partition(|life| life % ALONE == 0);
        let joining = joining.into_iter().map(|life| joins(fake, sandbox, life));
        let joining = joining.collect::<Result<Vec<_>>>()?;
        fake.run(live_all(&sandbox.tasks, &joining))?;
        joining.iter().try_for_each(|life| remove(fake, &life.container))?;
        alone.into_iter().try_for_each(|life| live_alone(fake, life))?;
    }
    Ok(())
}

/// A container that joins the sandbox.
struct Life {
    container: Container,
    is_killed: bool,
}

fn joins(fake: &FakeContainerd, sandbox: &Sandbox, life: usize) -> Result<Arc<Life>> {
    let is_killed = life % KILLED == 1;
    let args: &[&str] = if is_killed { &["sleep", "1000000"] } else { &[] };
    let mut container = fake.joining(&sandbox.id, &format!("life{life}"), args)?;
    if life.is_multiple_of(2) {
        let mut linux = container.bundle.config["linux"].clone();
        linux["resources"] = json!({ "memory": { "limit": 64 << 20 }, "cpu": { "shares": 512 } });
        container.configure("linux", linux)?;
    }
    Ok(Arc::new(Life { container, is_killed }))
}

/// Runs the lives, several at a time.
async fn live_all(tasks: &Tasks, lives: &[Arc<Life>]) -> Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let tasks = tasks.clone();
        let lives = lives.to_vec();
        let next = Arc::clone(&next);
        workers.spawn(async move {
            while let Some(life) = lives.get(next.fetch_add(1, Ordering::Relaxed)) {
                live(&tasks, &life.container, life.is_killed).await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended.context("a worker panicked")??;
    }
    Ok(())
}

async fn live(tasks: &Tasks, container: &Container, is_killed: bool) -> Result<()> {
    let id = &container.id;
    tasks.create(container).await?;
    tasks.start(id).await?;
    if is_killed {
        return tasks.remove(id).await;
    }
    let status = tasks.wait(id).await?;
    ensure!(status == 0, "{id} ended with {status}");
    tasks.delete(id).await
}

/// A life in a sandbox and a network namespace of its own.
fn live_alone(fake: &FakeContainerd, life: usize) -> Result<()> {
    let mut container = fake.container(&format!("alone{life}"), &[])?;
    container.unshare_network()?;
    // Without a reader: one would be held for each sandbox until the end.
    fifo(&container.bundle.path().join("log"))?;
    let sandbox = fake.sandbox(&container)?;
    fake.run(live(&sandbox.tasks, &container, false))?;
    fake.leave(sandbox);
    remove(fake, &container)
}

/// Removes what containerd removes after a container.
fn remove(fake: &FakeContainerd, container: &Container) -> Result<()> {
    for directory in [container.bundle.path(), &fake.snapshot(&container.id)] {
        fs::remove_dir_all(directory)
            .with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    Ok(())
}

impl Held {
    const HEAD: &str = "   lives  PSS MiB  anonymous  fds  threads  maps  processes  networks  cgroups  mounts  lives/s";

    /// What is held once all sandboxes but one have ended and the server is at rest.
    fn settled(fake: &FakeContainerd, server: u32, interrupt: &Interrupt) -> Result<Self> {
        let driver = fake.shim_driver();
        let alone = || driver.shims().len() == 1;
        let ended = poll_until("the end of the other sandboxes", END, || alone().then_some(()));
        ended.with_context(|| format!("left: {:#?}", driver.leftovers()))?;
        let Level { pss, threads, fds, maps } = Level::settled(server, interrupt)?;
        let mut processes: BTreeSet<u32> = proc::sandboxes_of(server).into_iter().collect();
        processes.extend(driver.shims().iter().map(|shim| shim.pid));
        Ok(Self {
            memory: usize::try_from(pss)?,
            anonymous: anonymous(server)?,
            descriptors: fds,
            threads,
            maps,
            networks: networks(&processes)?,
            processes: processes.len(),
            cgroups: cgroups(Path::new("/sys/fs/cgroup"), driver.namespace()),
            mounts: mounts(std::process::id(), driver.dir())? + mounts(server, driver.dir())?,
        })
    }

    fn figures(&self) -> [(&'static str, usize); 8] {
        [
            ("bytes of memory", self.anonymous),
            ("file descriptors", self.descriptors),
            ("threads", self.threads),
            ("mappings", self.maps),
            ("processes", self.processes),
            ("network namespaces", self.networks),
            ("cgroups", self.cgroups),
            ("mounts", self.mounts),
        ]
    }

    fn line(&self, lives: usize, rate: f64) -> String {
        format!(
            "{lives:8} {:8.1} {:10.1} {:4} {:8} {:5} {:10} {:9} {:8} {:7} {rate:8.0}",
            self.memory as f64 / f64::from(1 << 20),
            self.anonymous as f64 / f64::from(1 << 20),
            self.descriptors,
            self.threads,
            self.maps,
            self.processes,
            self.networks,
            self.cgroups,
            self.mounts,
        )
    }

    /// Fails if more is held than at the warm measurement.
    fn check(&self, warm: &Self, lives: usize) -> Result<()> {
        let figures = self.figures().into_iter().zip(warm.figures()).zip(MORE.figures());
        for (((name, now), (_, before)), (_, more)) in figures {
            ensure!(
                now <= before.saturating_add(more),
                "{name} grow: {now} after {lives} lives, {before} at the warm measurement, {more} more allowed"
            );
        }
        Ok(())
    }
}

fn anonymous(pid: u32) -> Result<usize> {
    let file = format!("/proc/{pid}/smaps_rollup");
    let rollup = fs::read_to_string(&file).with_context(|| file.clone())?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    Ok(kilobytes.with_context(|| file)? << 10)
}

fn networks(processes: &BTreeSet<u32>) -> Result<usize> {
    let network = |pid: &u32| {
        let link = format!("/proc/{pid}/ns/net");
        fs::read_link(&link).with_context(|| link)
    };
    Ok(processes.iter().map(network).collect::<Result<BTreeSet<_>>>()?.len())
}

/// Directories in all directories of this name.
fn cgroups(root: &Path, name: &str) -> usize {
    let mut found = 0;
    // A cgroup that goes meanwhile has no entries.
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let is_ours = root.file_name().is_some_and(|parent| parent == name);
            found += usize::from(is_ours) + cgroups(&entry.path(), name);
        }
    }
    found
}

fn mounts(pid: u32, below: &Path) -> Result<usize> {
    let file = format!("/proc/{pid}/mountinfo");
    let table = fs::read_to_string(&file).with_context(|| file)?;
    let below = below.to_string_lossy();
    Ok(table.lines().filter(|line| line.contains(&*below)).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WARM_FIGURES: Held = Held {
        memory: 30 << 20,
        anonymous: 10 << 20,
        descriptors: 20,
        threads: 5,
        maps: 100,
        processes: 1,
        networks: 1,
        cgroups: 3,
        mounts: 2,
    };

    #[test]
    fn what_grows_is_named() {
        assert!(WARM_FIGURES.check(&WARM_FIGURES, 5000).is_ok());
        assert!(
            Held { memory: 60 << 20, anonymous: 11 << 20, threads: 9, ..WARM_FIGURES }
                .check(&WARM_FIGURES, 5000)
                .is_ok()
        );
        for (held, name) in [
            (Held { anonymous: 13 << 20, ..WARM_FIGURES }, "bytes of memory grow"),
            (
                Held { descriptors: 29, ..WARM_FIGURES },
                "file descriptors grow: 29 after 5000 lives",
            ),
            (Held { threads: 10, ..WARM_FIGURES }, "threads grow"),
            (Held { maps: 125, ..WARM_FIGURES }, "mappings grow"),
            (Held { processes: 2, ..WARM_FIGURES }, "processes grow"),
            (Held { networks: 2, ..WARM_FIGURES }, "network namespaces grow"),
            (Held { cgroups: 4, ..WARM_FIGURES }, "cgroups grow"),
            (Held { mounts: 3, ..WARM_FIGURES }, "mounts grow"),
        ] {
            let error = held.check(&WARM_FIGURES, 5000).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }

    #[test]
    fn cgroups_of_a_namespace_are_counted_in_all_hierarchies() {
        let root = tempfile::tempdir().unwrap();
        for path in ["memory/n/a", "memory/n/b", "cpu/docker/n/a", "cpu/m/c"] {
            fs::create_dir_all(root.path().join(path)).unwrap();
        }
        assert_eq!(cgroups(root.path(), "n"), 3);
    }
}
