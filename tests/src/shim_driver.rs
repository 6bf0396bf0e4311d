//! A shim driven as containerd drives it, by its command line and its socket; called by tests for what `ctr` cannot ask for.
//!
//! [`ShimDriver`] plays containerd without being one: what a shim asks of it is answered by [`Sink`] alone.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::ttrpc::{self, Code};
use rustix::fs::OFlags;

use crate::bundle::{self, Bundle};
use crate::command::{Command, Output};
use crate::daemon::{Daemon, SOCKET_VARIABLE, Settings, State};
use crate::poll::poll_until;
use crate::proc::Shim;
use crate::runtime::Runtime;
use crate::shim::{LIMIT, TaskClient, reason};
use crate::sink::Sink;
use crate::traces::{self, Traces};

const NONBLOCK: i32 = OFlags::NONBLOCK.bits().cast_signed();

/// containerd's part of the conversation with one shim program, in a directory of its own.
#[derive(Debug)]
pub struct ShimDriver {
    traces: Traces,
    runtime: Runtime,
    program: PathBuf,
    // For the runtime that needs one.
    daemon: Option<Daemon>,
    // Of the shims, for what is unusual about them.
    env: Vec<(&'static str, OsString)>,
    // None when it plays a containerd that is away.
    sink: Option<Sink>,
    // The reading ends of the bundles' log FIFOs, as containerd holds them; printed when a test fails.
    logs: Mutex<Vec<File>>,
    // What they have held until now.
    logged: Mutex<Vec<u8>>,
}

/// A refusal of a container.
#[derive(Debug)]
pub struct Refusal {
    /// The status code of `Create`. None if `start` has failed: containerd sees an exit status of that.
    pub code: Option<Code>,
    /// The message.
    pub text: String,
}

impl ShimDriver {
    /// Prepares to drive the shim of `runtime`.
    pub fn new(runtime: Runtime) -> Result<Self> {
        Self::with(runtime, Settings::default())
    }

    /// The same with an unusual node daemon, if the runtime needs one.
    pub fn with(runtime: Runtime, daemon: Settings) -> Result<Self> {
        let mut shim_driver = Self::prepared(runtime)?;
        if let Some(directory) = &daemon.programs {
            shim_driver.program = directory.join(runtime.shim());
        }
        shim_driver.comes_back()?;
        shim_driver.start_daemon(daemon)?;
        Ok(shim_driver)
    }

    /// The same with another place for compiled code.
    pub fn with_cache(runtime: Runtime, directory: &Path) -> Result<Self> {
        Self::with_cache_and(runtime, directory, Settings::default())
    }

    /// The same with an unusual node daemon, if the runtime needs one.
    pub fn with_cache_and(runtime: Runtime, directory: &Path, daemon: Settings) -> Result<Self> {
        let daemon = daemon.env("CONTAINERD_WASMTIMED_CACHE", directory);
        let mut shim_driver = Self::with(runtime, daemon)?;
        shim_driver.env.push(("RUNWASI_CACHE", directory.into()));
        Ok(shim_driver)
    }

    /// The same with nobody at the address where events go.
    pub fn away(runtime: Runtime) -> Result<Self> {
        // A daemon that leaves waits for somebody to take its events.
        Self::away_with(runtime, Settings::default().flags(["--grace", "3"]))
    }

    /// The same with an unusual node daemon.
    pub fn away_with(runtime: Runtime, daemon: Settings) -> Result<Self> {
        let mut shim_driver = Self::prepared(runtime)?;
        shim_driver.start_daemon(daemon)?;
        Ok(shim_driver)
    }

    fn prepared(runtime: Runtime) -> Result<Self> {
        let program = match runtime.program_file() {
            Some(file) => file
                .canonicalize()
                .with_context(|| format!("{} is missing: `make build` makes it", file.display()))?,
            None => Path::new("/usr/bin").join(runtime.shim()),
        };
        Ok(Self {
            traces: Traces::new()?,
            runtime,
            program,
            daemon: None,
            env: Vec::new(),
            sink: None,
            logs: Mutex::default(),
            logged: Mutex::default(),
        })
    }

    fn start_daemon(&mut self, settings: Settings) -> Result<()> {
        if self.runtime.needs_daemon() {
            self.daemon = Some(Daemon::start(self.dir(), settings)?);
        }
        Ok(())
    }

    /// Listens at the address where events go, after a time away.
    pub fn comes_back(&mut self) -> Result<()> {
        self.sink = Some(Sink::listen(&self.events_address())?);
        Ok(())
    }

    /// The shim driver's node daemon.
    pub fn daemon(&mut self) -> Result<&mut Daemon> {
        self.daemon.as_mut().context("this shim driver's runtime needs no daemon")
    }

    /// The node daemon's state directory.
    pub fn node(&self) -> &State {
        self.traces.node()
    }

    /// The containerd namespace of this shim driver.
    pub fn namespace(&self) -> &str {
        self.traces.namespace()
    }

    /// The shim's program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The runtime whose shim this drives.
    pub fn runtime(&self) -> Runtime {
        self.runtime
    }

    /// A directory for what a test needs besides bundles; removed with the shim driver.
    pub fn dir(&self) -> &Path {
        self.traces.dir()
    }

    /// A bundle for container `id` that runs `args`.
    pub fn bundle(&self, id: &str, args: &[&str]) -> Result<Bundle> {
        let cgroup = format!("/{}/{id}", self.namespace());
        Bundle::create(self.dir().join("b").join(id), args, &cgroup)
    }

    /// The shim's `start` for container `id`, with the bundle as working directory and a `log` FIFO in it; one
    /// that is there already stays without a reader.
    pub fn start(&self, id: &str, bundle: &Path) -> Result<Output> {
        self.open_log(bundle)?;
        self.command(id, bundle).args(["start"]).run()
    }

    /// The `log` FIFO of a bundle, which `start` makes by itself.
    pub fn open_log(&self, bundle: &Path) -> Result<()> {
        let log = bundle.join("log");
        if !log.exists() {
            bundle::fifo(&log)?;
            // Reading and writing, so that the open waits for nobody.
            let open = File::options().read(true).write(true).custom_flags(NONBLOCK).open(&log)?;
            self.logs.lock().unwrap_or_else(PoisonError::into_inner).push(open);
        }
        Ok(())
    }

    /// Everything that the shims and the daemon have logged until now.
    pub fn log(&self) -> String {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        for mut file in self.logs.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            // Ends with an error, "would block", once it is empty.
            file.read_to_end(&mut logged).err();
        }
        let daemon = self.daemon.as_ref().map(Daemon::log).unwrap_or_default();
        String::from_utf8_lossy(&logged).into_owned() + &daemon
    }

    /// The shim's `delete` for container `id`.
    pub fn delete(&self, id: &str, bundle: &Path) -> Result<Output> {
        let bundle_arg = bundle.to_string_lossy().into_owned();
        self.command(id, bundle).args(["-bundle", &bundle_arg, "delete"]).run()
    }

    /// Starts a shim and connects to the address it printed.
    pub fn connect(&self, id: &str, bundle: &Path) -> Result<TaskClient> {
        let started = self.start(id, bundle)?.ok()?;
        TaskClient::connect(started.out().trim())
    }

    /// Shims of this shim driver that run now.
    pub fn shims(&self) -> Vec<Shim> {
        self.traces.shims()
    }

    /// The socket file of a group.
    pub fn socket(&self, group: &str) -> PathBuf {
        self.traces.socket(group)
    }

    /// Shims, socket files and mounts that exist now, one a line.
    pub fn leftovers(&self) -> Vec<String> {
        self.traces.left()
    }

    /// Waits until shims, socket files and mounts are gone.
    pub fn becomes_clean(&self) -> Result<()> {
        traces::becomes_clean(|| self.leftovers())
    }

    /// Event topics heard so far, in order.
    pub fn topics(&self) -> Vec<String> {
        self.sink.as_ref().map(Sink::topics).unwrap_or_default()
    }

    /// Waits until these event topics have been heard, in this order and no others: the last may come after the call that made it
    /// is answered.
    pub fn hears(&self, wanted: &[&str]) -> Result<()> {
        let heard = poll_until("event topics", Duration::from_secs(20), || {
            (self.topics() == wanted).then_some(())
        });
        heard.with_context(|| format!("{:?} instead of {wanted:?}", self.topics()))
    }

    /// The shim's refusal of this bundle, at `start` or at `Create`, with everything cleaned up as containerd does it.
    pub fn refusal(&self, id: &str, bundle: &Bundle) -> Result<String> {
        Ok(self.refused_create(id, bundle, None)?.text)
    }

    /// The same with its status code, and with runtime options.
    pub fn refused_create(
        &self,
        id: &str,
        bundle: &Bundle,
        options: Option<Any>,
    ) -> Result<Refusal> {
        let started = self.start(id, bundle.path())?;
        if started.status != 0 {
            self.becomes_clean()?;
            return Ok(Refusal { code: None, text: started.refused()? });
        }
        let client = TaskClient::connect(started.out().trim())?;
        let Err(error) = client.create_with_options(id, bundle.path(), options) else {
            bail!("created");
        };
        let code = match &error {
            ttrpc::Error::RpcStatus(status) => Some(status.code()),
            _ => None,
        };
        self.finish(&client, id, bundle.path())?;
        self.becomes_clean()?;
        Ok(Refusal { code, text: reason(&error) })
    }

    /// What containerd does after a container's end or failed creation: shut the shim down, run its `delete`.
    pub fn finish(&self, client: &TaskClient, id: &str, bundle: &Path) -> Result<()> {
        client.shutdown(id);
        let answer = self.delete(id, bundle)?;
        // runc's has no answer for a container it never created, which containerd puts up with.
        if self.runtime != Runtime::Runc {
            let answer = answer.ok()?;
            DeleteResponse::parse_from_bytes(&answer.stdout)
                .with_context(|| format!("no DeleteResponse: {answer}"))?;
        }
        Ok(())
    }

    /// After a failure: containers with OS processes of their own end by `delete`, not with their shim.
    fn delete_all(&self) {
        for entry in std::fs::read_dir(self.dir().join("b")).into_iter().flatten().flatten() {
            self.delete(&entry.file_name().to_string_lossy(), &entry.path()).ok();
        }
    }

    fn events_address(&self) -> PathBuf {
        self.dir().join("c.sock.ttrpc")
    }

    /// The shim's program with the flags containerd gives it, to add a subcommand to.
    pub fn command(&self, id: &str, bundle: &Path) -> Command {
        self.with_flags(Command::new(&self.program), id, bundle)
    }

    /// The same, run by another program: a tracer, for instance, whose last argument is the program that it runs.
    pub fn command_under(&self, tracer: Command, id: &str, bundle: &Path) -> Command {
        self.with_flags(tracer.args([&self.program]), id, bundle)
    }

    fn with_flags(&self, command: Command, id: &str, bundle: &Path) -> Command {
        self.traces.name(id);
        let address = self.traces.address().to_string_lossy().into_owned();
        let place = ["-namespace", self.namespace(), "-address", &address];
        let command =
            self.env.iter().fold(command, |command, (name, value)| command.env(name, value));
        command
            .args(place)
            .args(["-publish-binary", "/bin/true", "-id", id])
            .env("TTRPC_ADDRESS", self.events_address())
            .env(SOCKET_VARIABLE, self.node().socket())
            .current_dir(bundle)
            // Far above what a start takes and below what a user would call hung.
            .deadline(LIMIT)
    }
}

impl Drop for ShimDriver {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of {} and its daemon\n{}---", self.namespace(), self.log());
        }
        let mut faults = match self.becomes_clean() {
            Ok(()) => Vec::new(),
            Err(_) => self.leftovers(),
        };
        if !faults.is_empty() {
            self.delete_all();
        }
        faults.extend(self.daemon.iter_mut().flat_map(Daemon::end));
        faults.extend(self.traces.sweep());
        self.traces.report(&faults);
    }
}
