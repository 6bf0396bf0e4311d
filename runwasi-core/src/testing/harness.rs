//! The real Task service on a real unix socket in this process, without containerd. Used by tests and examples.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep},
};

use super::{bundle::BundleBuilder, images::ImageStore, recorder::Recorder};
use crate::{
    Engine,
    artifact::oci::Images,
    bootstrap::{
        BootstrapError,
        socket::{self, Bound},
    },
    container::host::Host,
    containerd::task_client::{CallError, TaskClient},
    id::Id,
    network::Network,
    runtime::{self, GuestRuntime},
    sandbox::{Sandbox, error::SandboxError},
    server,
    shutdown::Tasks,
    stdio::paths::StdioPaths,
};

/// How long a paused guest may go on, and how far apart its figures are looked at.
const SETTLED: Duration = Duration::from_secs(10);
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// How long any call of a test may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A sandbox's server and everything around it. Lives on the Tokio runtime it was started on (the control side); its
/// guests have a runtime of their own. [`Harness::stop`] ends it in order; a drop ends it at once.
pub struct Harness {
    directory: tempfile::TempDir,
    socket: PathBuf,
    recorder: Recorder,
    sandbox: Sandbox,
    tasks: Tasks,
    /// Taken only in drop: a runtime must not be dropped inside another.
    guests: Option<GuestRuntime>,
}

impl Harness {
    /// Serves `engine` on a socket in a temporary directory.
    pub fn start(engine: impl Engine) -> Result<Self, BootstrapError> {
        Self::start_in(engine, Network::of_process())
    }

    /// The same for a sandbox that containerd manages by its Sandbox API.
    pub fn start_managed(engine: impl Engine) -> Result<Self, BootstrapError> {
        Self::serve(
            engine,
            Network::of_process(),
            Arc::new(ImageStore::default()),
            Sandbox::managed,
        )
    }

    /// The same for a sandbox in that network.
    pub fn start_in(engine: impl Engine, network: Network) -> Result<Self, BootstrapError> {
        Self::start_with(engine, network, Arc::new(ImageStore::default()))
    }

    /// The same with containers that are made from these images.
    pub fn start_with(
        engine: impl Engine,
        network: Network,
        images: Arc<dyn Images>,
    ) -> Result<Self, BootstrapError> {
        Self::serve(engine, network, images, Sandbox::new)
    }

    fn serve(
        engine: impl Engine,
        network: Network,
        images: Arc<dyn Images>,
        sandbox: fn(Host) -> Sandbox,
    ) -> Result<Self, BootstrapError> {
        let failed = |source| BootstrapError::Io { what: "harness".into(), source };
        let directory = tempfile::tempdir().map_err(failed)?;
        let socket = directory.path().join("s").join("socket");
        let Bound::New(listener) = socket::bind_or_join(&socket)? else {
            return Err(failed(io::ErrorKind::AddrInUse.into()));
        };
        let guests = GuestRuntime::start(runtime::pod_workers()).map_err(failed)?;
        let (tasks, recorder) = (Tasks::new(Duration::from_secs(4)), Recorder::default());
        let sandbox = sandbox(Host {
            engine: Arc::new(engine),
            publisher: Arc::new(recorder.clone()),
            guests: guests.guests().clone(),
            tasks: tasks.clone(),
            bundle_roots: Arc::default(),
            namespace: Id::parse("namespace", "harness")?,
            images,
            cgroups: None,
            network,
        });
        let serving = server::serve(listener, sandbox.clone());
        tasks.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the harness does not serve");
            }
        });
        Ok(Self { directory, socket, recorder, sandbox, tasks, guests: Some(guests) })
    }

    /// A new connection, as containerd would make one.
    pub async fn client(&self) -> Result<TaskClient, CallError> {
        TaskClient::connect(&self.socket.display().to_string(), PATIENCE).await
    }

    /// A bundle for the container `id`, running `args`.
    pub fn bundle(&self, id: &str, args: &[&str]) -> BundleBuilder {
        BundleBuilder::new(&self.directory.path().join("bundles").join(id), args)
    }

    /// FIFOs for the standard streams of `id`, as containerd makes them.
    pub fn pipes(&self, id: &str) -> io::Result<Pipes> {
        Pipes::make(&self.directory.path().join("fifo").join(id))
    }

    /// Where it is served.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What has happened.
    pub fn events(&self) -> &Recorder {
        &self.recorder
    }

    /// The sandbox behind the socket.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// The CPU time of a container once it stands still: what is in a poll when a pause begins goes on to its next yield.
    ///
    /// # Panics
    ///
    /// If it never does, as of a guest that computes.
    pub async fn settled_cpu(&self, id: &Id) -> Result<Duration, SandboxError> {
        let used = || self.sandbox.usage(id).map(|usage| usage.cpu.time);
        let deadline = Instant::now() + SETTLED;
        let mut last = used()?;
        loop {
            sleep(BETWEEN_LOOKS).await;
            match std::mem::replace(&mut last, used()?) {
                before if before == last => return Ok(last),
                _ => assert!(Instant::now() < deadline, "it goes on"),
            }
        }
    }

    /// The tasks of the server.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// The directory that holds everything.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Ends guests and server, and waits for it.
    pub async fn stop(&self) {
        self.tasks.stop();
        self.tasks.drained().await;
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        self.tasks.stop();
        if let Some(guests) = self.guests.take() {
            guests.end();
        }
    }
}

/// The FIFOs of one process.
#[derive(Clone, Debug)]
pub struct Pipes {
    /// What `Create` is given.
    pub paths: StdioPaths,
}

impl Pipes {
    fn make(directory: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let fifo = |name: &str| -> io::Result<String> {
            let path = directory.join(name);
            mknodat(CWD, &path, FileType::Fifo, Mode::from(0o600), 0)?;
            Ok(path.display().to_string())
        };
        let paths = StdioPaths {
            stdin: fifo("stdin")?,
            stdout: fifo("stdout")?,
            stderr: fifo("stderr")?,
            terminal: false,
        };
        Ok(Self { paths })
    }

    /// Reads stdout to its end on a thread of its own; start it before the container is created, as clients do.
    pub fn read_stdout(&self) -> JoinHandle<io::Result<Vec<u8>>> {
        read(self.paths.stdout.clone())
    }

    /// Reads stderr to its end.
    pub fn read_stderr(&self) -> JoinHandle<io::Result<Vec<u8>>> {
        read(self.paths.stderr.clone())
    }

    /// Opens stdin for writing, without waiting for a reader.
    pub fn write_stdin(&self) -> io::Result<File> {
        File::options().read(true).write(true).open(&self.paths.stdin)
    }
}

fn read(path: String) -> JoinHandle<io::Result<Vec<u8>>> {
    spawn_blocking(move || {
        let mut bytes = Vec::new();
        File::open(path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    })
}
