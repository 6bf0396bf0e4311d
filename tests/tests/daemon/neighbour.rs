//! Daemons of two engines on one node: `containerd-wasmtimed` and `engine-native-daemon`, each with
//! its own state directory and variables.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use runwasi_tests::{bundle::Bundle, poll::poll_until, runtime};
use rustix::process::{Pid, Signal, kill_process};

/// Time limit for the start and for the end of a daemon.
const LIMIT: Duration = Duration::from_secs(20);

/// The daemon of one engine. It is killed by its drop.
struct Neighbour {
    daemon: PathBuf,
    thin: PathBuf,
    environment: Vec<(&'static str, OsString)>,
    process: Child,
}

impl Neighbour {
    /// Starts a daemon and waits for its replies.
    fn start(
        daemon: PathBuf,
        thin: PathBuf,
        environment: &[(&'static str, OsString)],
    ) -> Result<Self> {
        let mut command = Command::new(&daemon);
        command.envs(environment.iter().cloned()).stdin(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().with_context(|| daemon.display().to_string())?;
        let started = Self { daemon, thin, environment: environment.to_vec(), process };
        poll_until("the daemon's reply", LIMIT, || started.list().ok())?;
        Ok(started)
    }

    /// Lines of the daemon's command `list`.
    fn list(&self) -> Result<String> {
        self.run(&self.daemon, &["list"])
    }

    /// Creates the sandbox of a container with the thin shim.
    fn create(&self, id: &str, bundle: &Path) -> Result<()> {
        let bundle = bundle.to_string_lossy();
        let containerd = format!("{bundle}/no-containerd.sock");
        let flags = ["-namespace", "neighbour", "-id", id, "-address", &containerd];
        self.run(&self.thin, &[&flags[..], &["-bundle", &bundle, "start"]].concat())?;
        Ok(())
    }

    fn run(&self, program: &Path, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(program);
        command.args(arguments).envs(self.environment.iter().cloned()).stdin(Stdio::null());
        let Output { status, stdout, stderr } = command.output()?;
        ensure!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
        Ok(String::from_utf8(stdout)?)
    }

    /// Ends the daemon with SIGTERM and checks that it succeeds.
    fn terminate(&mut self) -> Result<()> {
        let pid = Pid::from_raw(self.process.id().cast_signed()).context("no pid")?;
        kill_process(pid, Signal::TERM)?;
        let ended = || self.process.try_wait().ok().flatten();
        ensure!(poll_until("the daemon's end", LIMIT, ended)?.success());
        Ok(())
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        // Errors mean that it has ended before.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Namespaces and sandboxes of a list, whose first line is the header.
fn names(list: &str) -> Vec<String> {
    let words = list.lines().skip(1).map(|line| line.split_whitespace().take(2));
    words.map(|words| words.collect::<Vec<_>>().join("/")).collect()
}

fn bundle(directory: &Path, id: &str) -> Result<PathBuf> {
    Ok(Bundle::create(directory.join(id), &["/guest"], "")?.path().to_owned())
}

#[test]
fn daemons_of_two_engines_share_a_node() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name).into_os_string();
    // Both see all variables, like services with one environment file: each takes its own.
    let environment = [
        ("CONTAINERD_WASMTIMED_SOCKET", path("wasmtimed/manager.sock")),
        ("CONTAINERD_WASMTIMED_BUNDLE_ROOTS", path("")),
        ("CONTAINERD_WASMTIMED_CACHE", "off".into()),
        ("CONTAINERD_NATIVED_SOCKET", path("natived/manager.sock")),
        ("CONTAINERD_NATIVED_BUNDLE_ROOTS", path("")),
    ];
    let built = runtime::daemon_file();
    let program = |name: &str| built.with_file_name(name);
    let mut wasmtime =
        Neighbour::start(built.clone(), program("containerd-shim-wasmtimed-v1"), &environment)?;
    let mut native = Neighbour::start(
        program("engine-native-daemon"),
        program("engine-native-thin"),
        &environment,
    )?;
    for id in ["wasmtime", "native"] {
        let daemon = if id == "native" { &native } else { &wasmtime };
        daemon.create(id, &bundle(directory.path(), id)?)?;
    }
    let of_wasmtime = wasmtime.list()?;
    let of_native = native.list()?;
    ensure!(names(&of_wasmtime) == ["neighbour/wasmtime"], "{of_wasmtime}");
    ensure!(names(&of_native) == ["neighbour/native"], "{of_native}");
    wasmtime.terminate()?;
    ensure!(names(&native.list()?) == names(&of_native), "the other daemon's end has an effect");
    native.terminate()
}
