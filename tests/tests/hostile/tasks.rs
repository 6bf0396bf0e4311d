//! Limits of threads and processes: a server that can have no more refuses what needs one, with the
//! names of the limits, and works again afterwards. The cases are listed in `main.rs`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use runwasi_tests::{
    Containerd, Containers, Runtime, check_with, daemon::Settings, hostile::hung::Hung, poll_until,
    proc, says,
};

const SANDBOX: &str = "io.kubernetes.cri.sandbox-id";
const KIND: &str = "io.kubernetes.cri.container-type=container";
const SOON: Duration = Duration::from_secs(20);

/// The limits that a refusal names.
const LIMITS: [&str; 3] = ["pids.max", "TasksMax=", "kernel.threads-max"];

/// A cgroup that bounds threads and processes, of either version.
pub(crate) struct Tasks(PathBuf);

impl Tasks {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let old = Path::new("/sys/fs/cgroup/pids");
        let root = if old.is_dir() { old } else { Path::new("/sys/fs/cgroup") };
        if root != old {
            fs::write(root.join("cgroup.subtree_control"), "+pids")
                .context("no controller of pids for a cgroup of this test")?;
        }
        let directory = root.join(name);
        fs::create_dir(&directory).with_context(|| directory.display().to_string())?;
        Ok(Self(directory))
    }

    /// Its directory.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Moves an OS process into it.
    pub(crate) fn take(&self, pid: u32) -> Result<()> {
        fs::write(self.0.join("cgroup.procs"), pid.to_string())
            .with_context(|| format!("process {pid} into {}", self.0.display()))
    }

    fn limit(&self, most: &str) -> Result<()> {
        Ok(fs::write(self.0.join("pids.max"), most)?)
    }

    /// A line of the shell after which its process is inside.
    fn enter(&self) -> String {
        format!("echo $$ > {}/cgroup.procs", self.0.display())
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        let removed = || {
            let inside = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
            for pid in inside.lines() {
                // An error: it has ended.
                drop(fs::write(self.0.with_file_name("cgroup.procs"), pid));
            }
            let removed = fs::remove_dir(&self.0);
            (removed.is_ok() || !self.0.exists()).then_some(())
        };
        // An error leaves an empty cgroup.
        let _ = poll_until("empty cgroup", SOON, removed);
    }
}

/// Waits until a server has only the threads that never end.
fn becomes_idle(server: u32) -> Result<()> {
    let busy = || {
        let tasks = fs::read_dir(format!("/proc/{server}/task"))?;
        let name =
            |task: std::io::Result<fs::DirEntry>| fs::read_to_string(task?.path().join("comm"));
        let names = tasks.map(name).filter_map(Result::ok);
        Ok::<_, std::io::Error>(names.filter(|name| name == "blocking\n").count())
    };
    // The main thread has a name of its own.
    poll_until("no thread without work", SOON, || (busy().ok()? == 0).then_some(()))
}

/// A pod, whose containers one OS process serves with both runtimes.
fn pod(c: &Containers) -> String {
    format!("{SANDBOX}={}", c.id("pod"))
}

pub(crate) fn server_without_further_threads_refuses_by_name_and_works_again(
    c: &mut Containers,
) -> Result<()> {
    let pod = pod(c);
    let flags = ["--annotation", &pod, "--annotation", KIND];
    let [lives, ends] = ["lives", "ends"].map(|name| c.id(name));
    for id in [&lives, &ends] {
        c.detached_with(&flags, id, &["sleep", "1000"])?;
    }
    let server = c.fixture.shims().first().context("no server")?.pid;
    let tasks = Tasks::new(&c.id("tasks"))?;
    tasks.take(server)?;
    becomes_idle(server)?;
    tasks.limit("1")?;
    for _ in 0..3 {
        let flags = [&flags[..], &["--rm"]].concat();
        let id = c.next_id();
        let refused = c.run_command(&flags, &id, &["echo", "hello"]).run()?.refused()?;
        says(&refused, &[&[id.as_str()], &LIMITS[..]].concat(), &[])?;
    }
    let refused = c.exec(&lives, "more", &["echo", "hello"])?.refused()?;
    says(&refused, &LIMITS, &[])?;
    // What needs no thread goes on.
    ensure!(c.kill_and_finish(&ends)? == 137, "{ends} was not killed");
    c.is_running(&lives)?;
    ensure!(proc::alive(server), "the server has ended");
    tasks.limit("max")?;
    c.run_command(&[&flags[..], &["--rm"]].concat(), &c.next_id(), &["echo", "hello"])
        .run()?
        .ok()?;
    c.exec(&lives, "again", &["echo", "hello"])?.ok()?;
    ensure!(c.fixture.shims().first().context("no server")?.pid == server, "another server");
    ensure!(c.kill_and_finish(&lives)? == 137);
    c.fixture.becomes_clean()
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
    let tasks = Tasks::new(&c.id("threads"))?;
    tasks.take(server)?;
    // In this order: a thread of the server's own work would serve for a second.
    tasks.limit("1")?;
    becomes_idle(server)?;
    ensure!(c.kill_and_finish(&id)? == 137);
    if c.runtime.needs_daemon() {
        let next = c.id("next");
        let said = c.run(&next, &["echo", "next"])?.refused()?;
        ensure!(said.contains("no thread can be made"), "{said}");
        // The daemon's own work after the end of a sandbox does not end it either.
        poll_until("the return of memory", SOON, || {
            let log = c.fixture.daemon().ok()?.log();
            log.contains("memory is not given back").then_some(())
        })?;
    }
    tasks.limit("max")?;
    let out = c.run(&c.id("last"), &["echo", "last"])?.ok()?;
    ensure!(out.out() == "last\n", "{out}");
    drop(tasks);
    c.fixture.becomes_clean()
}

/// Each of its turns needs a thread that does the worker's work meanwhile.
pub(crate) fn container_on_a_slow_file_system_waits_for_a_thread(c: &mut Containers) -> Result<()> {
    let hung = Hung::mount(&c.fixture.dir().join("hung"))?;
    let pod = pod(c);
    let mount =
        format!("type=bind,src={},dst=/v,options=bind", c.fixture.dir().join("hung").display());
    let flags = ["--annotation", &pod, "--annotation", KIND];
    let [slow, other] = ["slow", "other"].map(|name| c.id(name));
    c.detached_with(&flags, &other, &["sleep", "1000"])?;
    c.detached_with(&[&flags[..], &["--mount", &mount]].concat(), &slow, &["sleep", "5"])?;
    let server = c.fixture.shims().first().context("no server")?.pid;
    let tasks = Tasks::new(&c.id("slow"))?;
    tasks.take(server)?;
    tasks.limit("1")?;
    let told = |c: &mut Containers| {
        let log = c.fixture.log() + &c.fixture.daemon().map(|d| d.log()).unwrap_or_default();
        let told = |line: &str| line.contains("no thread can be made") && line.contains(&slow);
        log.lines().find(|line| told(line)).map(str::to_owned)
    };
    let told = poll_until("a warning", SOON, || told(c))?;
    says(&told, &LIMITS, &[])?;
    says(&told, &["/v"], &[])?;
    c.is_running(&slow)?;
    tasks.limit("max")?;
    ensure!(c.finish(&slow)? == 0, "{slow} did not go on");
    ensure!(c.kill_and_finish(&other)? == 137);
    drop(hung);
    c.fixture.becomes_clean()
}

/// Of the daemon: each of its sandboxes has a process.
#[track_caller]
pub(crate) fn check_few_tasks(runtime: Runtime, case: impl FnOnce(&mut Containers) -> Result<()>) {
    let tasks = match Tasks::new(&format!("runwasi-few-{}", std::process::id())) {
        Ok(tasks) => tasks,
        Err(error) => panic!("{error:?}"),
    };
    if let Err(error) = tasks.limit("24") {
        panic!("{error:?}");
    }
    let settings = Settings::default().before(&tasks.enter()).config("slots = 200\n");
    check_with(runtime, Containerd::builder().daemon(settings), case);
}

pub(crate) fn daemon_with_few_tasks_lives_on_under_load(c: &mut Containers) -> Result<()> {
    let daemon = c.fixture.daemon()?.pid()?;
    let mut runs = Vec::new();
    for _ in 0..40 {
        let id = c.next_id();
        let run = c.run_command(&["-d"], &id, &["sleep", "1000"]).spawn()?;
        runs.push((id, run));
    }
    let mut started = Vec::new();
    let mut refused = Vec::new();
    for (id, run) in runs {
        let ended = run.wait()?;
        match ended.status {
            0 => started.push(id),
            _ => refused.push((id, ended.refused()?)),
        }
    }
    ensure!(!started.is_empty() && !refused.is_empty(), "{} and {}", started.len(), refused.len());
    for (id, refusal) in &refused {
        says(refusal, &[&[id.as_str()], &LIMITS[..]].concat(), &[])?;
    }
    ensure!(c.fixture.daemon()?.pid()? == daemon && proc::alive(daemon), "the daemon has ended");
    for id in &started {
        ensure!(c.kill_and_finish(id)? == 137, "{id} was not killed");
    }
    c.run_command(&["--rm"], &c.next_id(), &["echo", "hello"]).run()?.ok()?;
    c.fixture.becomes_clean()
}

pub(crate) fn daemon_without_its_threads_does_not_start_and_says_why(
    c: &mut Containers,
) -> Result<()> {
    let tasks = Tasks::new(&c.id("none"))?;
    tasks.limit("1")?;
    let home = c.fixture.dir().join("other");
    fs::create_dir(&home)?;
    let settings = Settings::default().before(&tasks.enter());
    match runwasi_tests::daemon::Daemon::start(&home, settings) {
        Ok(_) => bail!("a daemon of one thread"),
        Err(error) => says(&format!("{error:#}"), &LIMITS, &[]),
    }
}
