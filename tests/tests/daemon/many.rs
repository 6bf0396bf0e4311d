//! Hundreds of sandboxes in one daemon, through a real containerd; the cases are listed in `main.rs`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use runwasi_tests::{Containers, poll_until, proc};

/// How many live at once.
const MANY: usize = 500;
/// How many live when the threads are counted first.
const FEW: usize = 50;
/// `ctr` calls at once: more than cores, since each also waits.
const AT_ONCE: usize = 6;
/// Containers that one `ctr` call removes.
const BATCH: usize = 25;

pub(crate) fn five_hundred_sandboxes_live_at_once(c: &mut Containers) -> Result<()> {
    let daemon = c.fixture.daemon()?.pid()?;
    let ids: Vec<_> = (0..MANY).map(|n| c.id(&format!("m{n}"))).collect();
    // One life before anything is counted: what stays open for this containerd is open then.
    c.run_command(&["--rm", "--net-host"], &c.id("first"), &["exit", "0"]).run()?.ok()?;
    let fds = proc::fds(daemon)?;
    start(c, &ids[..FEW])?;
    let threads = settled_threads(daemon)?;
    start(c, &ids[FEW..])?;
    let tasks = c.fixture.ctr(["task", "ls"])?.ok()?.out();
    let running = tasks.lines().filter(|line| line.ends_with("RUNNING")).count();
    ensure!(running == MANY, "{running} run");
    let listed = c.fixture.node().sandboxes()?;
    ensure!(
        listed.len() == MANY
            && listed.iter().all(|one| one.daemon == daemon && one.containers == 1)
    );
    let with_many = settled_threads(daemon)?;
    ensure!(
        with_many == threads,
        "{with_many} threads with {MANY} sandboxes, {threads} with {FEW}"
    );
    in_parallel(ids.chunks(BATCH).collect(), |batch| {
        // Its exit status is that of a task, 137; what counts is what is left.
        c.fixture.ctr([&["task", "delete", "-f"], &strs(batch)[..]].concat())?;
        c.fixture.ctr([&["container", "delete"], &strs(batch)[..]].concat())?.ok()?;
        Ok(())
    })?;
    let tasks = c.fixture.ctr(["task", "ls", "-q"])?.ok()?.out();
    ensure!(tasks.trim().is_empty(), "tasks are left: {tasks}");
    c.fixture.becomes_clean()?;
    ensure!(c.fixture.node().records().is_empty());
    poll_until("the fds of before", Duration::from_secs(20), || {
        proc::fds(daemon).ok().filter(|now| *now <= fds)
    })
    .with_context(|| format!("{fds} before, {:?} after", proc::fds(daemon)))?;
    Ok(())
}

/// Each in a sandbox of its own on the host's network, where no sandbox has a thread.
fn start(c: &Containers, ids: &[String]) -> Result<()> {
    in_parallel(ids.iter().collect(), |id| c.detached_with(&["--net-host"], id, &["sleep", "1000"]))
}

/// Runs `work` for every item on a few threads; the first error ends it.
fn in_parallel<T: Sync>(items: Vec<T>, work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let worker = || -> Result<()> {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(item)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| anyhow!("a worker panicked"))?)
    })
}

/// The number of threads once it no longer changes: those for mounts and compiling go after a second without work.
fn settled_threads(pid: u32) -> Result<usize> {
    let (mut last, mut since) = (0, Instant::now());
    poll_until("a steady number of threads", Duration::from_secs(30), || {
        let now = proc::threads(pid).ok()?;
        if now != last {
            (last, since) = (now, Instant::now());
        }
        (since.elapsed() > Duration::from_secs(3)).then_some(now)
    })
}

fn strs(ids: &[String]) -> Vec<&str> {
    ids.iter().map(String::as_str).collect()
}
