//! A server whose cgroup allows no further thread; the cases are listed in `main.rs`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use runwasi_tests::{Containers, poll_until};

const PATIENCE: Duration = Duration::from_secs(20);

/// A cgroup that counts the threads of one server. Removed when dropped.
struct Threads {
    directory: PathBuf,
    server: u32,
}

impl Threads {
    fn of(server: u32, name: &str) -> Result<Self> {
        let v1 = Path::new("/sys/fs/cgroup/pids");
        let v2 = Path::new("/sys/fs/cgroup");
        let parent = if v1.is_dir() { v1 } else { v2 };
        if parent == v2 {
            fs::write(v2.join("cgroup.subtree_control"), "+pids")?;
        }
        let directory = parent.join(name);
        fs::create_dir(&directory).with_context(|| directory.display().to_string())?;
        let threads = Self { directory, server };
        fs::write(threads.file("cgroup.procs"), server.to_string())?;
        Ok(threads)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Allows no further thread, as soon as no idle one is left to take work.
    fn allow_no_more(&self) -> Result<()> {
        let tasks = PathBuf::from(format!("/proc/{}/task", self.server));
        let is_idle = |task: &Path| {
            fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "blocking")
        };
        poll_until("an end of idle threads", PATIENCE, || {
            let mut all = fs::read_dir(&tasks).ok()?.flatten();
            (!all.any(|task| is_idle(&task.path()))).then_some(())
        })?;
        Ok(fs::write(self.file("pids.max"), fs::read(self.file("pids.current"))?)?)
    }

    fn allow_any(&self) -> Result<()> {
        Ok(fs::write(self.file("pids.max"), "max")?)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let parent = self.directory.parent().unwrap_or(Path::new("/"));
        let procs = fs::read_to_string(self.file("cgroup.procs")).unwrap_or_default();
        for pid in procs.lines() {
            // An error: it has ended.
            let _ = fs::write(parent.join("cgroup.procs"), pid);
        }
        // The kernel may still count a process that has just ended.
        let removed = || fs::remove_dir(&self.directory).ok();
        drop(poll_until("an empty cgroup", PATIENCE, removed));
    }
}

pub(crate) fn container_is_killed_and_deleted_while_no_thread_can_be_started(
    c: &mut Containers,
) -> Result<()> {
    let id = c.id("sleeps");
    c.detached(&id, &["sleep", "1000"])?;
    let server = match c.runtime.needs_daemon() {
        true => c.fixture.daemon()?.pid()?,
        false => c.fixture.shims().first().context("no shim")?.pid,
    };
    let threads = Threads::of(server, &c.id("threads"))?;
    threads.allow_no_more()?;
    ensure!(c.kill_and_finish(&id)? == 137);
    if c.runtime.needs_daemon() {
        let next = c.id("next");
        let said = c.run(&next, &["echo", "next"])?.refused()?;
        ensure!(said.contains("no thread can be made"), "{said}");
        // The daemon's own work after the end of a sandbox does not end it either.
        poll_until("the return of memory", PATIENCE, || {
            let log = c.fixture.daemon().ok()?.log();
            log.contains("memory is not given back").then_some(())
        })?;
    }
    threads.allow_any()?;
    let out = c.run(&c.id("last"), &["echo", "last"])?.ok()?;
    ensure!(out.out() == "last\n", "{out}");
    drop(threads);
    c.fixture.becomes_clean()
}
