//! One private containerd in a directory of its own; called by `containers` and by tests and benches directly.
//!
//! Everything that all containerds of a machine share (cgroup paths, `/run/containerd/s`, FIFO
//! names) is kept apart by a containerd namespace of the fixture's own. Dropping the fixture kills its tasks,
//! ends containerd, and fails when a shim, mount, socket or bundle of the fixture is left.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::builder::{Builder, Node};
use crate::command::{Command, Output};
use crate::config;
use crate::daemon::{Daemon, INTERPRETER_SOCKET_VARIABLE, SOCKET_VARIABLE, State};
use crate::poll::poll_until;
use crate::proc::Shim;
use crate::runtime::{Image, Runtime};
use crate::traces::{self, Traces};
use crate::version::Version;

mod end;

/// How long containerd may take to come up or go down on a busy machine.
const UP_OR_DOWN: Duration = Duration::from_secs(20);

/// A private containerd, running or stopped.
#[derive(Debug)]
pub struct Containerd {
    traces: Traces,
    options: Builder,
    // None while stopped.
    process: Option<Child>,
    // The fixture's own node daemon; none if nothing needs one, or another fixture has it.
    daemon: Option<Daemon>,
    // Once true, containers may exist.
    ever_ran: bool,
}

impl Containerd {
    /// Starts one with everything as usual and waits until it answers.
    pub fn start() -> Result<Self> {
        Self::builder().start()
    }

    /// A containerd with something unusual.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn with(mut options: Builder) -> Result<Self> {
        if options.containerd.is_none() {
            options.containerd = options.version.program()?;
        }
        let mut fixture =
            Self { traces: Traces::new()?, options, process: None, daemon: None, ever_ran: false };
        fixture.prepare()?;
        match &fixture.options.node {
            Node::Nobody => {}
            Node::Own(settings) => {
                fixture.daemon = Some(Daemon::start(fixture.dir(), settings.clone())?)
            }
            Node::Of(state) => fixture.traces.share(state.clone()),
        }
        fixture.start_again()?;
        Ok(fixture)
    }

    /// The fixture's own containerd namespace.
    pub fn namespace(&self) -> &str {
        self.traces.namespace()
    }

    /// The cgroups of the namespace that exist now.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        self.traces.cgroups()
    }

    /// A container id no other fixture of the machine uses: FIFO directories are told apart by it.
    pub fn id(&self, name: &str) -> String {
        format!("{name}-{}", self.namespace())
    }

    /// The fixture's directory; tests may put files into it, they go with the fixture.
    pub fn dir(&self) -> &Path {
        self.traces.dir()
    }

    /// The gRPC socket.
    pub fn address(&self) -> PathBuf {
        self.traces.address()
    }

    /// The bundle directory containerd makes for a task.
    pub fn bundle(&self, id: &str) -> PathBuf {
        self.bundles("s").join(id)
    }

    /// containerd's process id; an error while it is stopped.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("containerd is stopped")?.id())
    }

    /// The fixture's own node daemon.
    pub fn daemon(&mut self) -> Result<&mut Daemon> {
        self.daemon.as_mut().context("this fixture has no daemon of its own")
    }

    /// Starts another node daemon that takes over; gives the one replaced, which serves what it has.
    pub fn replace_daemon(&mut self) -> Result<Daemon> {
        let daemon = self.daemon()?;
        let successor = daemon.successor()?;
        Ok(std::mem::replace(daemon, successor))
    }

    /// The node daemon's state directory, whoever started the daemon.
    pub fn node(&self) -> &State {
        self.traces.node()
    }

    /// A `ctr` call on this containerd, in the fixture's namespace, to add stdin or a deadline to.
    pub fn ctr_command<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let args: Vec<String> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        // Whatever group a shim is started for is among the arguments, or the value of an annotation.
        args.iter().flat_map(|arg| arg.split('=')).for_each(|name| self.traces.name(name));
        self.ctr_in(self.namespace()).args(args)
    }

    /// The beginning of a `ctr` call in another namespace.
    pub fn ctr_in(&self, namespace: &str) -> Command {
        let ctr = match &self.options.containerd {
            Some(containerd) => containerd.with_file_name("ctr"),
            None => PathBuf::from("ctr"),
        };
        let address = self.address().to_string_lossy().into_owned();
        Command::new(ctr).args(["-a", &address, "-n", namespace])
    }

    /// Which containerd this is.
    pub fn version(&self) -> Version {
        self.options.version
    }

    /// Runs `ctr` to its end; any exit status is an answer.
    pub fn ctr<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Result<Output> {
        self.ctr_command(args).run()
    }

    /// Imports an image the build wrote.
    pub fn load(&self, image: Image) -> Result<()> {
        let tar = image.tar();
        ensure!(tar.exists(), "{} is missing: `make images` writes it", tar.display());
        self.import(&tar, image.is_wasm_image())
    }

    /// Imports an image from a tar. A wasm image is for no machine's platform, and containerd 1.6 cannot unpack it.
    pub fn import(&self, tar: &Path, is_wasm_image: bool) -> Result<()> {
        let flags: &[&str] = if is_wasm_image { &["--all-platforms", "--no-unpack"] } else { &[] };
        self.ctr_command([&["image", "import"], flags, &[&tar.to_string_lossy()]].concat())
            .run()?
            .ok()?;
        Ok(())
    }

    /// The shims of this containerd that run now.
    pub fn shims(&self) -> Vec<Shim> {
        self.traces.shims()
    }

    /// runc's shims that run native containers for these shims now.
    pub fn delegates(&self) -> Vec<Shim> {
        self.traces.delegates()
    }

    /// The socket file of the group `group` (a pod's id, or the container's).
    pub fn socket(&self, group: &str) -> PathBuf {
        self.traces.socket(group)
    }

    /// Mounts anywhere in the fixture.
    pub fn mounts(&self) -> Vec<PathBuf> {
        self.traces.mounts()
    }

    /// What containerd and its shims logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir().join("log")).unwrap_or_default()
    }

    /// Shims, socket files, mounts and bundles that exist now, one a line; empty when the fixture is clean.
    pub fn leftovers(&self) -> Vec<String> {
        let bundles = ["s", "r"].map(|top| self.bundles(top));
        self.traces.left().into_iter().chain(traces::bundles_in(&bundles)).collect()
    }

    /// Waits until nothing of any container is left.
    pub fn becomes_clean(&self) -> Result<()> {
        traces::becomes_clean(|| self.leftovers())
    }

    /// Starts containerd on the same root and state and waits until it answers.
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "containerd runs already");
        let log = fs::File::options().create(true).append(true).open(self.dir().join("log"))?;
        let program = self.options.containerd.as_deref().unwrap_or(Path::new("containerd"));
        let mut command = std::process::Command::new(program);
        command.arg("--config").arg(self.dir().join("config.toml"));
        command.env(SOCKET_VARIABLE, self.node().socket());
        command.env(INTERPRETER_SOCKET_VARIABLE, self.node().socket());
        command.env("PATH", self.search_path()?).envs(self.options.env.iter().cloned());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.options.restrictions.put_on(&mut command);
        let child = command.spawn();
        let mut child = child.with_context(|| {
            format!("cannot start {}: scripts/setup installs it", program.display())
        })?;
        let address = self.address();
        let up = poll_until("containerd's socket", UP_OR_DOWN, || match child.try_wait() {
            Ok(Some(status)) => Some(Err(status)),
            _ => UnixStream::connect(&address).is_ok().then_some(Ok(())),
        });
        // Kept also if it never answered: dropping the fixture ends it.
        self.process = Some(child);
        if let Err(status) = up.with_context(|| self.log())? {
            self.process = None;
            bail!("containerd ended with {status}:\n{}", self.log());
        }
        self.ever_ran = true;
        Ok(())
    }

    fn bundles(&self, top: &str) -> PathBuf {
        self.dir().join(top).join("io.containerd.runtime.v2.task").join(self.namespace())
    }

    /// The configuration and the folder of shims that containerd finds before those of the system.
    fn prepare(&self) -> Result<()> {
        let text = config::text(self.dir(), &self.options.kept, &self.options.extra);
        fs::write(self.dir().join("config.toml"), text)?;
        let shims = self.dir().join("bin");
        fs::create_dir(&shims)?;
        let products = [Runtime::Wasmtime, Runtime::Wasmtimed];
        let others = [Runtime::Native, Runtime::Wasmi, Runtime::Wasmid, Runtime::Floor];
        for runtime in products.into_iter().chain(others) {
            if let Some(file) = runtime.program_file().and_then(|file| file.canonicalize().ok()) {
                symlink(file, shims.join(runtime.shim()))?;
            }
        }
        Ok(())
    }

    fn search_path(&self) -> Result<OsString> {
        let usual = std::env::var_os("PATH").unwrap_or_default();
        // sbin holds runc and is missing in the PATH of some root shells.
        let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
        let own = self.dir().join("bin");
        // A containerd has its own shim for runc beside it.
        let beside = self
            .options
            .containerd
            .iter()
            .filter_map(|containerd| containerd.parent())
            .map(PathBuf::from);
        let all =
            std::iter::once(own).chain(beside).chain(std::env::split_paths(&usual)).chain(sbin);
        Ok(std::env::join_paths(all)?)
    }
}
