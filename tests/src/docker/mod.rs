//! A Docker Engine of a fixture's own, above a containerd of its own, and what a test does with its
//! containers; made by the suite `docker`.
//!
//! All it has is in the fixture's directory, and its containers are in the fixture's containerd
//! namespace. It has no bridge, and a host of its own for the networks that a case makes. Its
//! `daemon.json` is the one in `docs/docker.md`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::command::{Command, DEADLINE};
use crate::containerd::Containerd;
use crate::machine::{Use, tried};
use crate::network::on_own_host;
use crate::poll::poll_until;
use crate::runtime::{Image, Runtime};
use crate::version::Version;

mod document;
mod end;
mod version;

pub use document::block;
pub use version::Engine;

/// The deadline for calls that build, or start several containers.
pub const LONG: Duration = Duration::from_secs(DEADLINE.as_secs() * 3);
/// How long it may take to come up or go down on a busy machine.
const UP_OR_DOWN: Duration = Duration::from_secs(40);
/// How long a container may take to change.
const SOON: Duration = Duration::from_secs(30);

/// A Docker Engine, running or stopped, and the runtime that its containers use.
#[derive(Debug)]
pub struct Docker {
    /// The runtime under test.
    pub runtime: Runtime,
    folder: PathBuf,
    // None while stopped.
    process: Option<Child>,
    // Whether it has had no time to clean up.
    killed: bool,
    /// The private containerd. After the engine: it must have stopped before.
    pub fixture: Containerd,
}

/// What `docker inspect` says of a container's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// `running`, `paused`, `exited`, …
    pub status: String,
    /// Of the last end.
    pub exit_code: i64,
    /// Whether the last end was the memory limit's.
    pub oom_killed: bool,
    /// The process id, 0 for one that does not run.
    pub pid: u32,
    /// How often its restart policy has started it.
    pub restarts: u64,
}

/// Runs one case on the newest Docker, on a host of its own; an error fails the test while the
/// fixture still stands.
#[track_caller]
pub fn check_docker(runtime: Runtime, case: impl Fn(&mut Docker) -> Result<()> + Sync) {
    tried(runtime, || check_docker_with(Engine::Newest, runtime, &json!({}), &case));
}

/// As [`check_docker`], on Docker 26.
#[track_caller]
pub fn check_docker_26(runtime: Runtime, case: impl Fn(&mut Docker) -> Result<()> + Sync) {
    tried(runtime, || check_docker_with(Engine::V26, runtime, &json!({}), &case));
}

/// The same with more in its `daemon.json`; members that are objects are joined.
#[track_caller]
pub fn check_docker_with(
    engine: Engine,
    runtime: Runtime,
    settings: &Value,
    case: impl FnOnce(&mut Docker) -> Result<()> + Send,
) {
    let _machine = Use::shared();
    on_own_host(|| {
        let mut docker = match Docker::start(engine, runtime, settings) {
            Ok(docker) => docker,
            Err(error) => panic!("no Docker for {runtime:?}: {error:?}"),
        };
        if let Err(error) = case(&mut docker) {
            panic!("{runtime:?}: {error:?}");
        }
    });
}

impl Docker {
    /// A fresh fixture, in the network of the calling thread; the runtime's image is in
    /// containerd's store, if it uses that.
    fn start(engine: Engine, runtime: Runtime, settings: &Value) -> Result<Self> {
        let folder = engine.folder()?;
        if let Some(file) = runtime.program_file() {
            ensure!(file.exists(), "{} is missing: `make build` makes it", file.display());
        }
        let mut configuration: Value =
            serde_json::from_str(&block("json", "containerd-snapshotter")?)
                .context("daemon.json of docs/docker.md")?;
        join(&mut configuration, settings);
        let fixture = Containerd::builder().version(Version::V2).daemon_for(runtime).start()?;
        let mut docker = Self { runtime, folder, process: None, killed: false, fixture };
        fs::create_dir(docker.home())?;
        fs::create_dir(docker.home().join("client"))?;
        docker.configure(&configuration)?;
        let plugins = docker.folder.join("usr/libexec/docker/cli-plugins");
        let client = json!({"cliPluginsExtraDirs": [plugins]});
        fs::write(docker.home().join("client/config.json"), client.to_string())?;
        docker.start_again()?;
        // Docker's own store does not read the tars of our image tool, which have no manifest of
        // Docker's.
        if configuration["features"]["containerd-snapshotter"] == true {
            docker.load(runtime.image())?;
        }
        Ok(docker)
    }

    /// Starts it once more after its end, and waits until it answers.
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "it runs already");
        let log = File::options().create(true).append(true).open(self.log_file())?;
        let mut command = std::process::Command::new(self.folder.join("usr/sbin/dockerd"));
        for (flag, file) in [
            ("--config-file", "daemon.json"),
            ("--data-root", "data"),
            ("--exec-root", "exec"),
            ("--pidfile", "pid"),
        ] {
            command.arg(flag).arg(self.home().join(file));
        }
        command.args(["--host", &self.address()]).arg("--containerd").arg(self.fixture.address());
        command.args(["--containerd-namespace", self.fixture.namespace()]);
        command.args(["--cgroup-parent", &format!("/{}", self.fixture.namespace())]);
        command.args(["--exec-opt", "native.cgroupdriver=cgroupfs"]);
        for flag in ["bridge=none", "iptables=false", "ip6tables=false", "ip-forward=false"] {
            command.arg(format!("--{flag}"));
        }
        command.env("PATH", self.search_path()?);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn().context("cannot start dockerd")?;
        let up = poll_until("an answer of dockerd", UP_OR_DOWN, || match child.try_wait() {
            Ok(Some(status)) => Some(Err(status)),
            _ => self.docker(["version"]).run().ok()?.ok().ok().map(|_| Ok(())),
        });
        // Kept also if it never answered: dropping the fixture ends it.
        self.process = Some(child);
        if let Err(status) = up.with_context(|| self.log())? {
            self.process = None;
            bail!("dockerd ended with {status}:\n{}", self.log());
        }
        Ok(())
    }

    /// Replaces its `daemon.json`, for its next start or reload.
    fn configure(&self, configuration: &Value) -> Result<()> {
        Ok(fs::write(self.home().join("daemon.json"), configuration.to_string())?)
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The directory of the fixture for files of a case; they go with it.
    pub fn dir(&self) -> &Path {
        self.fixture.dir()
    }

    /// A call of its client.
    pub fn docker<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let client = self.home().join("client");
        let command = Command::new(self.folder.join("usr/bin/docker")).args([
            "--config",
            &client.to_string_lossy(),
            "--host",
            &self.address(),
        ]);
        let args: Vec<String> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        command.args(args)
    }

    /// Such a call that must succeed; what it prints, without the last end of line.
    pub fn says(&self, args: &[&str]) -> Result<String> {
        Ok(self.docker(args).run()?.ok()?.out().trim_end().to_owned())
    }

    /// The runtime's name in `daemon.json`.
    pub fn runtime_name(&self) -> &'static str {
        match self.runtime {
            Runtime::Runc => "runc",
            _ if self.runtime.needs_daemon() => "wasmtimed",
            _ => "wasmtime",
        }
    }

    /// `docker run --rm FLAGS IMAGE ARGS`, its entrypoint the runtime's guest.
    pub fn run(&self, flags: &[&str], args: &[&str]) -> Command {
        let entrypoint = ["--entrypoint", self.runtime.guest()];
        self.run_of(self.runtime.image().name(), &[flags, &entrypoint].concat(), args)
    }

    /// `docker run --rm FLAGS IMAGE ARGS`.
    pub fn run_of(&self, image: &str, flags: &[&str], args: &[&str]) -> Command {
        let begin = ["run", "--rm", "--pull", "never", "--runtime", self.runtime_name()];
        self.docker([&begin[..], flags, &[image], args].concat())
    }

    /// `docker run -d --name NAME FLAGS IMAGE ARGS`, its entrypoint the runtime's guest.
    pub fn detached(&self, name: &str, flags: &[&str], args: &[&str]) -> Result<()> {
        let entrypoint = ["--entrypoint", self.runtime.guest()];
        let image = self.runtime.image().name();
        self.detached_of(image, name, &[flags, &entrypoint].concat(), args)
    }

    /// `docker run -d --name NAME FLAGS IMAGE ARGS`.
    pub fn detached_of(
        &self,
        image: &str,
        name: &str,
        flags: &[&str],
        args: &[&str],
    ) -> Result<()> {
        let begin = ["run", "-d", "--pull", "never", "--name", name];
        let runtime = ["--runtime", self.runtime_name()];
        let id = self.says(&[&begin[..], &runtime, flags, &[image], args].concat())?;
        // So that a socket which it leaves is found.
        self.fixture.socket(id.lines().last().unwrap_or_default());
        Ok(())
    }

    /// `docker exec FLAGS NAME GUEST ARGS`.
    pub fn exec(&self, flags: &[&str], name: &str, args: &[&str]) -> Command {
        self.docker([&["exec"], flags, &[name, self.runtime.guest()], args].concat())
    }

    /// `docker load`.
    pub fn load(&self, image: Image) -> Result<()> {
        let tar = image.tar();
        ensure!(tar.exists(), "{} is missing: `make images` writes it", tar.display());
        self.says(&["load", "-q", "-i", &tar.to_string_lossy()]).map(drop)
    }

    /// How a container is.
    pub fn state(&self, name: &str) -> Result<State> {
        let text = self.says(&["container", "inspect", name])?;
        let all: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        let state = &all[0]["State"];
        let restarts = &all[0]["RestartCount"];
        let state = || {
            Some(State {
                status: state["Status"].as_str()?.to_owned(),
                exit_code: state["ExitCode"].as_i64()?,
                oom_killed: state["OOMKilled"].as_bool()?,
                pid: state["Pid"].as_u64()?.try_into().ok()?,
                restarts: restarts.as_u64()?,
            })
        };
        state().with_context(|| format!("no state in {text}"))
    }

    /// Waits until a container's state is of a kind.
    pub fn becomes(&self, name: &str, what: &str, is: impl Fn(&State) -> bool) -> Result<State> {
        let mut last = None;
        let seen = poll_until(&format!("{name} {what}"), SOON, || {
            last = Some(self.state(name));
            last.as_ref()?.as_ref().ok().filter(|state| is(state)).cloned()
        });
        seen.with_context(|| format!("last seen: {last:?}"))
    }

    /// Waits until the log of a container has this text.
    pub fn prints(&self, name: &str, text: &str) -> Result<String> {
        let mut last = String::new();
        let seen = poll_until(&format!("{text:?} of {name}"), SOON, || {
            last = self.says(&["logs", name]).ok()?;
            last.contains(text).then(|| last.clone())
        });
        seen.with_context(|| format!("last seen: {last}"))
    }

    fn home(&self) -> PathBuf {
        self.fixture.dir().join("docker")
    }

    fn log_file(&self) -> PathBuf {
        self.home().join("log")
    }

    fn address(&self) -> String {
        format!("unix://{}", self.home().join("s").display())
    }

    /// dockerd asks for its userland proxy, and with some options for `runc`.
    fn search_path(&self) -> Result<std::ffi::OsString> {
        let own = [self.folder.join("usr/sbin"), self.folder.join("usr/bin")].into_iter();
        let usual = std::env::var_os("PATH").unwrap_or_default();
        // sbin holds runc and is missing in the PATH of some root shells.
        let all = own.chain(std::env::split_paths(&usual)).chain(["/usr/sbin".into()]);
        Ok(std::env::join_paths(all)?)
    }
}

/// Puts the members of one object into another.
fn join(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                join(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}
