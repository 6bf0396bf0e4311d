//! The real Task service on a real unix socket in this process, without containerd.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
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
    native::NativeHost,
    network::Network,
    runtime::{self, GuestRuntime},
    sandbox::{Sandbox, error::SandboxError, records::SandboxRecords},
    server,
    shutdown::Tasks,
    stdio::paths::StdioPaths,
};

/// Longest time for a paused container to come to rest, and the interval between the samples.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);

/// Timeout of the calls of a test.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// containerd's records of sandboxes: all of them, or none.
#[derive(Debug)]
struct Records(Arc<AtomicBool>);

#[async_trait]
impl SandboxRecords for Records {
    async fn has(&self, _: &Id) -> Option<bool> {
        Some(self.0.load(Ordering::SeqCst))
    }
}

/// Server of one sandbox with all it needs. It runs on the Tokio runtime that started it (the
/// control runtime); its guests have a runtime of their own. [`Harness::stop`] shuts it down
/// gracefully, a drop at once.
pub struct Harness {
    directory: tempfile::TempDir,
    socket: PathBuf,
    recorder: Recorder,
    sandbox: Sandbox,
    tasks: Tasks,
    /// `Some` until the drop.
    // Taken there, because a runtime must not be dropped inside another: see `GuestRuntime::end`.
    guests: Option<GuestRuntime>,
}

impl Harness {
    /// Serves `engine` on a socket in a temporary directory.
    pub fn start(engine: impl Engine) -> Result<Self, BootstrapError> {
        Self::start_in(engine, Network::of_process())
    }

    /// Like [`Harness::start`], for a sandbox that containerd manages through its Sandbox API.
    pub fn start_managed(engine: impl Engine) -> Result<Self, BootstrapError> {
        Self::serve(engine, Network::of_process(), Arc::new(ImageStore::default()), |host| {
            Sandbox::managed(host, Arc::new(ImageStore::default()))
        })
    }

    /// Like [`Harness::start`] and, if `managed`, [`Harness::start_managed`], with this runtime for
    /// native containers.
    #[doc(hidden)]
    pub fn start_native(
        engine: impl Engine,
        native: NativeHost,
        managed: bool,
    ) -> Result<Self, BootstrapError> {
        let images = Arc::new(ImageStore::default());
        Self::serve(engine, Network::of_process(), images.clone(), |host| {
            let host = Host { native, ..host };
            if managed { Sandbox::managed(host, images) } else { Sandbox::new(host) }
        })
    }

    /// Like [`Harness::start_managed`], for a containerd that has a record of the sandbox as long
    /// as the flag is true.
    pub fn start_recorded(
        engine: impl Engine,
        recorded: Arc<AtomicBool>,
    ) -> Result<Self, BootstrapError> {
        Self::serve(engine, Network::of_process(), Arc::new(ImageStore::default()), |host| {
            Sandbox::managed(host, Arc::new(Records(recorded)))
        })
    }

    /// Like [`Harness::start`], for a sandbox in this network.
    pub fn start_in(engine: impl Engine, network: Network) -> Result<Self, BootstrapError> {
        Self::start_with(engine, network, Arc::new(ImageStore::default()))
    }

    /// Like [`Harness::start_in`], for containers of these images.
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
        sandbox: impl FnOnce(Host) -> Sandbox,
    ) -> Result<Self, BootstrapError> {
        let failed = |source| BootstrapError::Io { what: "harness".into(), source };
        let directory = tempfile::tempdir().map_err(failed)?;
        // A directory of its own, as in production: `bind_or_join` creates and locks it.
        let socket = directory.path().join("s").join("socket");
        let Bound::New(listener) = socket::bind_or_join(&socket)? else {
            return Err(failed(io::ErrorKind::AddrInUse.into()));
        };
        let guests = GuestRuntime::start(runtime::pod_workers()).map_err(failed)?;
        let tasks = Tasks::new(Duration::from_secs(4));
        let recorder = Recorder::default();
        let sandbox = sandbox(Host {
            engine: Arc::new(engine),
            publisher: Arc::new(recorder.clone()),
            guests: guests.guests().clone(),
            tasks: tasks.clone(),
            bundle_roots: Arc::default(),
            namespace: Id::parse("namespace", "harness")?,
            sandbox: Id::parse("sandbox id", "harness")?,
            images,
            cgroups: None,
            native: NativeHost::off(),
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

    /// A new connection to the Task service.
    pub async fn client(&self) -> Result<TaskClient, CallError> {
        TaskClient::connect(&self.socket.display().to_string(), CALL_TIMEOUT).await
    }

    /// A builder for the bundle of container `id`, which runs `args`.
    pub fn bundle(&self, id: &str, args: &[&str]) -> BundleBuilder {
        BundleBuilder::new(&self.directory.path().join("bundles").join(id), args)
    }

    /// Creates FIFOs for the standard streams of `id`, like containerd.
    pub fn pipes(&self, id: &str) -> io::Result<Pipes> {
        Pipes::make(&self.directory.path().join("fifo").join(id))
    }

    /// Path of the socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Recorder of the events.
    pub fn events(&self) -> &Recorder {
        &self.recorder
    }

    /// The sandbox behind the socket.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// The CPU time of a paused container after it has stopped to grow.
    ///
    /// # Panics
    ///
    /// If it keeps growing, like that of a guest that is not paused and computes.
    pub async fn settled_cpu(&self, id: &Id) -> Result<Duration, SandboxError> {
        let used = || self.sandbox.usage(id).map(|usage| usage.cpu.time);
        // A poll that runs when the pause begins continues to its next yield.
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        let mut last = used()?;
        loop {
            sleep(SAMPLE_INTERVAL).await;
            // Two equal samples in a row: the last poll has ended.
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

    /// The temporary directory with the socket, the bundles and the FIFOs.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Stops guests and server, and waits for their end. What is not deleted stays undeleted.
    pub async fn stop(&self) {
        self.sandbox.note_end_request();
        self.tasks.stop();
        self.tasks.drained().await;
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        // A drop cannot wait: the tasks end with the caller's runtime, the guests in the
        // background.
        self.tasks.stop();
        if let Some(guests) = self.guests.take() {
            guests.end();
        }
    }
}

/// The FIFOs of one process.
#[derive(Clone, Debug)]
pub struct Pipes {
    /// Paths for `Create`.
    pub paths: StdioPaths,
}

impl Pipes {
    fn make(directory: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let fifo = |name: &str| -> io::Result<String> {
            let path = directory.join(name);
            // Mode 0600: only this user connects.
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

    /// Reads stdout to its end on a thread of its own. Call it before `Create`, like containerd's
    /// clients.
    pub fn read_stdout(&self) -> JoinHandle<io::Result<Vec<u8>>> {
        read(self.paths.stdout.clone())
    }

    /// Reads stderr to its end on a thread of its own. Call it before `Create`.
    pub fn read_stderr(&self) -> JoinHandle<io::Result<Vec<u8>>> {
        read(self.paths.stderr.clone())
    }

    /// Opens stdin for writing without waiting for a reader.
    pub fn write_stdin(&self) -> io::Result<File> {
        // Linux opens a FIFO at once for reading and writing, and blocks for writing alone.
        File::options().read(true).write(true).open(&self.paths.stdin)
    }
}

fn read(path: String) -> JoinHandle<io::Result<Vec<u8>>> {
    // Opening a FIFO blocks until its writer opens it, and so does each read.
    spawn_blocking(move || {
        let mut bytes = Vec::new();
        File::open(path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    })
}
