//! What a test does with the containers of one runtime, each step one or two `ctr` calls; called by the tests.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use crate::builder::Builder;
use crate::bundle::Bundle;
use crate::command::{Command, Output};
use crate::console::Console;
use crate::containerd::Containerd;
use crate::machine::{Use, tried};
use crate::poll::poll_until;
use crate::proc;
use crate::runtime::{Image, Runtime};
use crate::shim::TaskClient;

/// A fixture together with the runtime its containers use.
#[derive(Debug)]
pub struct Containers {
    /// The private containerd.
    pub fixture: Containerd,
    /// The runtime under test.
    pub runtime: Runtime,
}

/// One line of `ctr task ls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The process id containerd reports.
    pub pid: u32,
    /// `CREATED`, `RUNNING`, `STOPPED`, …
    pub status: String,
}

/// Runs one case on a fixture of its own; an error fails the test while the fixture still stands, so that its log is printed.
#[track_caller]
pub fn check(runtime: Runtime, case: impl Fn(&mut Containers) -> Result<()>) {
    tried(runtime, || check_with(runtime, Containerd::builder().daemon_for(runtime), &case));
}

/// The same for a case that measures: no other runs beside it.
#[track_caller]
pub fn check_alone(runtime: Runtime, case: impl FnOnce(&mut Containers) -> Result<()>) {
    check_alone_with(runtime, Containerd::builder().daemon_for(runtime), case);
}

/// The same as [`check`] on a fixture with something unusual, a daemon's settings for instance.
#[track_caller]
pub fn check_with(
    runtime: Runtime,
    fixture: Builder,
    case: impl FnOnce(&mut Containers) -> Result<()>,
) {
    let _machine = Use::shared();
    check_on(runtime, fixture, case);
}

/// The same for a case that measures: no other runs beside it.
#[track_caller]
pub fn check_alone_with(
    runtime: Runtime,
    fixture: Builder,
    case: impl FnOnce(&mut Containers) -> Result<()>,
) {
    let _machine = Use::alone();
    check_on(runtime, fixture, case);
}

#[track_caller]
fn check_on(runtime: Runtime, fixture: Builder, case: impl FnOnce(&mut Containers) -> Result<()>) {
    let mut containers = match Containers::start_with(runtime, fixture) {
        Ok(containers) => containers,
        Err(error) => panic!("no fixture for {runtime:?}: {error:?}"),
    };
    if let Err(error) = case(&mut containers) {
        panic!("{runtime:?}: {error:?}");
    }
}

impl Containers {
    /// A fresh fixture with the runtime's image loaded.
    pub fn start(runtime: Runtime) -> Result<Self> {
        Self::start_with(runtime, Containerd::builder().daemon_for(runtime))
    }

    /// A fresh fixture with something unusual and the runtime's image loaded.
    pub fn start_with(runtime: Runtime, fixture: Builder) -> Result<Self> {
        if let Some(file) = runtime.program_file() {
            ensure!(file.exists(), "{} is missing: `make build` makes it", file.display());
        }
        let fixture = fixture.start()?;
        fixture.load(runtime.image())?;
        Ok(Self { fixture, runtime })
    }

    /// After a test has killed what serves its containers: starts a node daemon again, as its service manager would.
    /// Shims are started by containerd.
    pub fn restart_daemon(&mut self) -> Result<()> {
        if self.runtime.needs_daemon() { self.fixture.daemon()?.start_again() } else { Ok(()) }
    }

    /// The OS processes that compile for these containers now.
    pub fn compilers(&mut self) -> Vec<u32> {
        proc::compilers_of(&self.servers())
    }

    /// The OS processes that wait to compile for these containers.
    pub fn waiting_compilers(&mut self) -> Vec<u32> {
        proc::waiting_compilers_of(&self.servers())
    }

    /// The daemon, or all shims.
    pub fn servers(&mut self) -> Vec<u32> {
        match self.fixture.daemon() {
            Ok(daemon) => daemon.pid().into_iter().collect(),
            Err(_) => self.fixture.shims().iter().map(|shim| shim.pid).collect(),
        }
    }

    /// A container id of this fixture.
    pub fn id(&self, name: &str) -> String {
        self.fixture.id(name)
    }

    /// `ctr run FLAGS --runtime … IMAGE ID GUEST ARGS`; without `args` the image's own entrypoint runs.
    pub fn run_command(&self, flags: &[&str], id: &str, args: &[&str]) -> Command {
        let mut line = vec!["run", "--runtime", self.runtime.name()];
        line.extend(flags);
        line.extend([self.runtime.image().name(), id]);
        if !args.is_empty() {
            line.push(self.runtime.guest());
            line.extend(args);
        }
        self.fixture.ctr_command(line)
    }

    /// `ctr run FLAGS --runtime … IMAGE ID PROGRAM`, for a guest of another image, which must be loaded.
    pub fn run_of(&self, image: Image, flags: &[&str], id: &str, program: &[&str]) -> Command {
        let line =
            [&["run", "--runtime", self.runtime.name()], flags, &[image.name(), id], program]
                .concat();
        self.fixture.ctr_command(line)
    }

    /// `ctr run FLAGS --runtime … --config … ID` of a bundle made by hand, with this program.
    pub fn run_config(
        &self,
        bundle: &mut Bundle,
        flags: &[&str],
        id: &str,
        program: &[&str],
    ) -> Result<Command> {
        bundle.config["process"]["args"] = json!(program);
        bundle.write()?;
        let config = bundle.path().join("config.json").display().to_string();
        let line = [&["run", "--runtime", self.runtime.name(), "--config", &config], flags, &[id]]
            .concat();
        Ok(self.fixture.ctr_command(line))
    }

    /// An id that no other run of the case has.
    pub fn next_id(&self) -> String {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        self.id(&format!("r{}", RUNS.fetch_add(1, Ordering::Relaxed)))
    }

    /// Runs a guest to its end, attached, and removes it.
    pub fn run(&self, id: &str, args: &[&str]) -> Result<Output> {
        self.run_command(&["--rm"], id, args).run()
    }

    /// Starts a guest in the background.
    pub fn detached(&self, id: &str, args: &[&str]) -> Result<()> {
        self.detached_with(&[], id, args)
    }

    /// Starts a guest in the background, with more flags.
    pub fn detached_with(&self, flags: &[&str], id: &str, args: &[&str]) -> Result<()> {
        let flags = [&["-d"], flags].concat();
        self.run_command(&flags, id, args).run()?.ok()?;
        Ok(())
    }

    /// `ctr task exec FLAGS --exec-id EXEC ID PROGRAM ARGS`.
    pub fn exec_command(&self, flags: &[&str], id: &str, exec: &str, program: &[&str]) -> Command {
        let line = [&["task", "exec"], flags, &["--exec-id", exec, id], program].concat();
        self.fixture.ctr_command(line)
    }

    /// Runs the container's own guest once more, attached, with other arguments.
    pub fn exec(&self, id: &str, exec: &str, args: &[&str]) -> Result<Output> {
        self.exec_command(&[], id, exec, &[&[self.runtime.guest()], args].concat()).run()
    }

    /// `ctr run -t`, its own streams a terminal's.
    pub fn at_terminal(&self, flags: &[&str], id: &str, args: &[&str]) -> Result<Console> {
        self.run_command(&[&["-t"], flags].concat(), id, args).spawn_at_terminal()
    }

    /// The same in the background.
    pub fn exec_detached(&self, id: &str, exec: &str, args: &[&str]) -> Result<()> {
        self.exec_command(&["--detach"], id, exec, &[&[self.runtime.guest()], args].concat())
            .run()?
            .ok()?;
        Ok(())
    }

    /// Starts a container of the pod `pod` in the background, with the annotations the CRI gives.
    pub fn join(&self, pod: &str, kind: &str, id: &str, args: &[&str]) -> Result<()> {
        let pod = format!("io.kubernetes.cri.sandbox-id={pod}");
        let kind = format!("io.kubernetes.cri.container-type={kind}");
        self.detached_with(&["--annotation", &pod, "--annotation", &kind], id, args)
    }

    /// `ctr container create`.
    pub fn create(&self, id: &str, args: &[&str]) -> Result<()> {
        let (name, image, guest) =
            (self.runtime.name(), self.runtime.image().name(), self.runtime.guest());
        let line = [&["container", "create", "--runtime", name, image, id, guest], args].concat();
        self.fixture.ctr(line)?.ok()?;
        Ok(())
    }

    /// What `ctr task ls` says about a container; none if it has no task.
    pub fn task(&self, id: &str) -> Result<Option<Task>> {
        let list = self.fixture.ctr(["task", "ls"])?.ok()?.out();
        let rows = list.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        for row in rows {
            if let [name, pid, status] = row[..]
                && name == id
            {
                let pid = pid.parse().with_context(|| format!("pid in {row:?}"))?;
                return Ok(Some(Task { pid, status: status.to_owned() }));
            }
        }
        Ok(None)
    }

    /// Waits until `ctr task ls` shows this status.
    pub fn becomes(&self, id: &str, status: &str) -> Result<Task> {
        let mut last = None;
        let seen = poll_until(&format!("{id} {status}"), Duration::from_secs(15), || {
            last = Some(self.task(id));
            match &last {
                Some(Ok(Some(task))) if task.status == status => Some(task.clone()),
                _ => None,
            }
        });
        seen.with_context(|| format!("last seen: {last:?}"))
    }

    /// Waits until the task has ended or is gone: containerd drops the tasks of a dead shim by itself.
    pub fn becomes_stopped_or_gone(&self, id: &str) -> Result<()> {
        poll_until(&format!("end of {id}"), Duration::from_secs(15), || match self.task(id) {
            Ok(None) => Some(()),
            Ok(Some(task)) if task.status == "STOPPED" => Some(()),
            _ => None,
        })
    }

    /// Demands that this is a running task with a real pid.
    pub fn is_running(&self, id: &str) -> Result<Task> {
        let task = self.task(id)?.with_context(|| format!("{id} has no task"))?;
        ensure!(task.status == "RUNNING" && task.pid > 0, "{id} should run: {task:?}");
        Ok(task)
    }

    /// `ctr task kill -s SIGNAL`.
    pub fn kill(&self, id: &str, signal: &str) -> Result<()> {
        self.fixture.ctr(["task", "kill", "-s", signal, id])?.ok()?;
        Ok(())
    }

    /// `ctr task delete`; gives the exit status it reports.
    pub fn delete_task(&self, id: &str) -> Result<i32> {
        exit_status(self.fixture.ctr(["task", "delete", id])?)
    }

    /// `ctr task delete --force`; gives the exit status it reports.
    pub fn delete_task_by_force(&self, id: &str) -> Result<i32> {
        exit_status(self.fixture.ctr(["task", "delete", "-f", id])?)
    }

    /// The task service of a container, past containerd.
    pub fn client(&self, id: &str) -> Result<TaskClient> {
        let file = self.fixture.bundle(id).join("address");
        TaskClient::connect(&fs::read_to_string(&file).with_context(|| file.display().to_string())?)
    }

    /// `ctr container delete`.
    pub fn delete_container(&self, id: &str) -> Result<()> {
        self.fixture.ctr(["container", "delete", id])?.ok()?;
        Ok(())
    }

    /// Waits for the task's end, deletes task and container, gives the exit status.
    pub fn finish(&self, id: &str) -> Result<i32> {
        self.becomes(id, "STOPPED")?;
        let status = self.delete_task(id)?;
        self.delete_container(id)?;
        Ok(status)
    }

    /// Waits for the end of a container whose host has left, and removes what containerd still has of it.
    pub fn is_taken_away(&self, id: &str) -> Result<()> {
        self.becomes_stopped_or_gone(id)?;
        self.fixture.ctr(["task", "delete", id])?;
        self.delete_container(id)
    }

    /// Ends a task by SIGKILL and removes it; gives the exit status.
    pub fn kill_and_finish(&self, id: &str) -> Result<i32> {
        self.kill(id, "SIGKILL")?;
        self.finish(id)
    }
}

/// `ctr task delete` reports the guest's status as its own exit code or, in newer versions, in a warning.
fn exit_status(output: Output) -> Result<i32> {
    let said = output.err();
    if let Some((_, code)) = said.rsplit_once("exit with non-zero exit code ") {
        let digits: String = code.chars().take_while(char::is_ascii_digit).collect();
        return digits.parse().with_context(|| format!("status in {said}"));
    }
    if output.status != 0 && !said.trim().is_empty() {
        bail!("not deleted: {output}");
    }
    Ok(output.status)
}
