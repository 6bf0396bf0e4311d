//! Bytes of a connection to a sandbox's socket, up to the end of the containers they made.
//!
//! ```text
//! input:  kind of sandbox, then calls
//! call:   method (1 byte), length (2 bytes, little-endian), payload
//!         method 255: the payload are bytes of the connection, without a frame
//! ```
//!
//! The server is the real one with the engine of scripted guests. It has root's privileges, which
//! it requires, but a file system in memory, a network and mounts of its own: a call may name any
//! path, and finds nothing of the host.

use std::{
    collections::BTreeSet,
    fs, io,
    path::Path,
    sync::{Arc, LazyLock, Mutex, mpsc},
    thread,
    time::Duration,
};

use async_trait::async_trait;
use containerd_shim_protos::{
    protobuf::Message,
    ttrpc::{Request, Response},
};
use runwasi_core::{
    Engine, EngineError, Id, Instance, InstanceSpec, Signal,
    bootstrap::socket,
    container::host::Host,
    native::NativeHost,
    network::Network,
    runtime::{self, GuestRuntime},
    sandbox::Sandbox,
    server,
    shutdown::Tasks,
    testing::{BundleBuilder, ImageStore, Recorder, ScriptedEngine},
};
use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::UnshareFlags,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    time::{Instant, timeout, timeout_at},
};

const TASK: &str = "containerd.task.v3.Task";
const SANDBOX: &str = "containerd.runtime.sandbox.v1.Sandbox";
const METHODS: [(&str, &str); 28] = [
    (TASK, "State"),
    (TASK, "Create"),
    (TASK, "Start"),
    (TASK, "Delete"),
    (TASK, "Pids"),
    (TASK, "Pause"),
    (TASK, "Resume"),
    (TASK, "Checkpoint"),
    (TASK, "Kill"),
    (TASK, "Exec"),
    (TASK, "ResizePty"),
    (TASK, "CloseIO"),
    (TASK, "Update"),
    (TASK, "Wait"),
    (TASK, "Stats"),
    (TASK, "Connect"),
    (TASK, "Shutdown"),
    (TASK, "Unknown"),
    (SANDBOX, "CreateSandbox"),
    (SANDBOX, "StartSandbox"),
    (SANDBOX, "Platform"),
    (SANDBOX, "StopSandbox"),
    (SANDBOX, "WaitSandbox"),
    (SANDBOX, "SandboxStatus"),
    (SANDBOX, "PingSandbox"),
    (SANDBOX, "ShutdownSandbox"),
    (SANDBOX, "SandboxMetrics"),
    ("containerd.task.v2.Task", "State"),
];
const RAW: u8 = 255;

const SOCKET: &str = "/socket";
/// Time that a sandbox gives its connections to end: short, since each input has a sandbox.
const GRACE: Duration = Duration::from_millis(200);
/// Time without an answer after which the guests are killed: what is not answered by now waits for
/// one of them.
const QUIET: Duration = Duration::from_millis(20);
/// Longest time for all answers then. A `Create` waits a second for a reader of a FIFO.
const PATIENCE: Duration = Duration::from_secs(8);
/// Most calls of an input.
const MOST: usize = 64;

/// Every call in a frame is answered, once; unframed bytes may end the connection, but not the
/// server; and the sandbox ends in a bounded time.
pub fn check(input: &[u8]) {
    static SERVER: LazyLock<Mutex<Server>> = LazyLock::new(|| Mutex::new(Server::start()));
    let server = SERVER.lock().expect("a panic has ended the process");
    server.inputs.send(input.to_owned()).expect("the server takes it");
    server.done.recv().expect("the server answers");
}

/// The thread of the server.
struct Server {
    inputs: mpsc::Sender<Vec<u8>>,
    done: mpsc::Receiver<()>,
}

impl Server {
    fn start() -> Self {
        let (inputs, received) = mpsc::channel::<Vec<u8>>();
        let (finished, done) = mpsc::channel();
        let root = crate::directory();
        thread::spawn(move || {
            let network = Network::of_process();
            isolate(&root).expect("a file system of its own: run it as root");
            make_bundles().expect("bundles");
            let guests = GuestRuntime::start(1).expect("a runtime of guests");
            let control = runtime::control().expect("a control runtime");
            for input in received {
                let host = host(&guests, network.clone());
                control.block_on(check_connection(host, &input));
                finished.send(()).expect("it is awaited");
            }
        });
        Self { inputs, done }
    }
}

/// Gives this thread, and those that it starts, a file system in memory and namespaces of its own.
fn isolate(root: &Path) -> io::Result<()> {
    let own = UnshareFlags::FS
        | UnshareFlags::NEWNS
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS;
    // SAFETY: The file descriptors stay shared.
    unsafe { rustix::thread::unshare_unsafe(own) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOSUID;
    mount("tmpfs", root, "tmpfs", flags, c"size=16m,mode=755")?;
    rustix::process::chroot(root)?;
    std::env::set_current_dir("/")
}

fn make_bundles() -> io::Result<()> {
    for args in [&["wait"][..], &["cat"], &["exit", "3"], &["print", "hello"], &["deaf"]] {
        BundleBuilder::new(&Path::new("/").join(args[0]), args).write()?;
    }
    Ok(())
}

fn host(guests: &GuestRuntime, network: Network) -> Host {
    Host {
        engine: Arc::new(Scripts),
        publisher: Arc::new(Recorder::default()),
        guests: guests.guests().clone(),
        tasks: Tasks::new(GRACE),
        bundle_roots: Arc::default(),
        namespace: Id::parse("namespace", "fuzz").expect("a valid id"),
        sandbox: Id::parse("sandbox id", "fuzz").expect("a valid id"),
        images: Arc::new(ImageStore::default()),
        cgroups: None,
        native: NativeHost::off(),
        network,
    }
}

/// The scripted guests, but for the one that panics on purpose.
#[derive(Debug)]
struct Scripts;

#[async_trait]
impl Engine for Scripts {
    async fn prepare(&self, spec: InstanceSpec) -> Result<Arc<dyn Instance>, EngineError> {
        if spec.args[0] == "panic" {
            let reason = "panics".to_owned();
            return Err(EngineError::Invalid { path: "panic".into(), reason });
        }
        ScriptedEngine.prepare(spec).await
    }
}

async fn check_connection(host: Host, input: &[u8]) {
    let (kind, calls) = input.split_first().unwrap_or((&0, &[]));
    let sandbox = match kind % 2 {
        0 => Sandbox::new(host),
        _ => Sandbox::managed(host, Arc::new(ImageStore::default())),
    };
    let tasks = sandbox.tasks().clone();
    // Absent at the first input, and after a sandbox that has ended.
    let _ = fs::remove_file(SOCKET);
    let serving =
        server::serve(socket::listener(Path::new(SOCKET)).expect("a socket"), sandbox.clone());
    tasks.spawn(async move { serving.await.expect("the server runs") });
    let mut connection = Connection::new().await;
    connection.send(calls).await;
    connection.answers(&sandbox).await;
    drop(connection);
    if !is_stopped(&tasks).await {
        let mut other = Connection::new().await;
        other.send(b"\x00\x00\x00").await;
        other.answers(&sandbox).await;
    }
    tasks.stop();
    let stopped = Instant::now();
    tasks.drained().await;
    assert!(stopped.elapsed() < PATIENCE, "the sandbox has not ended for {:?}", stopped.elapsed());
}

async fn is_stopped(tasks: &Tasks) -> bool {
    timeout(Duration::ZERO, tasks.stopped()).await.is_ok()
}

struct Connection {
    stream: BufReader<UnixStream>,
    /// Streams without an answer.
    open: BTreeSet<u32>,
    /// True if bytes without a frame were sent: they may be half a frame, or end the connection.
    is_broken: bool,
}

impl Connection {
    async fn new() -> Self {
        let stream = UnixStream::connect(SOCKET).await.expect("the server listens");
        Self { stream: BufReader::new(stream), open: BTreeSet::new(), is_broken: false }
    }

    async fn send(&mut self, mut calls: &[u8]) {
        let mut bytes = Vec::new();
        for stream in (1..).step_by(2).take(MOST) {
            let Some((&[method, low, high], rest)) = calls.split_first_chunk() else { break };
            let length = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
            let (payload, rest) = rest.split_at(length);
            calls = rest;
            if method == RAW {
                self.is_broken = true;
                bytes.extend_from_slice(payload);
            } else {
                self.open.insert(stream);
                bytes.extend(frame(stream, METHODS[usize::from(method) % METHODS.len()], payload));
            }
        }
        // A broken connection may be closed before all is sent.
        let sent = self.stream.write_all(&bytes).await;
        assert!(sent.is_ok() || self.is_broken, "{sent:?}");
    }

    /// Reads an answer for each call. Kills the guests once no answer comes for some time.
    async fn answers(&mut self, sandbox: &Sandbox) {
        while !self.open.is_empty() {
            // Reads nothing that a timeout could lose.
            let is_quiet = timeout(QUIET, self.stream.fill_buf()).await.is_err();
            if is_quiet {
                break;
            }
            if !self.answer().await {
                return self.closed(sandbox).await;
            }
        }
        let killed = timeout(PATIENCE, sandbox.end_all(Signal::KILL)).await;
        assert!(killed.is_ok(), "guests that are killed do not end");
        // After half a frame the server waits for the other half.
        let patience = if self.is_broken { QUIET } else { PATIENCE };
        let deadline = Instant::now() + patience;
        while !self.open.is_empty() {
            match timeout_at(deadline, self.answer()).await {
                Ok(true) => {}
                Ok(false) => return self.closed(sandbox).await,
                Err(_) => return assert!(self.is_broken, "no answer: {:?}", self.open),
            }
        }
    }

    /// Only a sandbox that a call has ended leaves calls without an answer.
    async fn closed(&self, sandbox: &Sandbox) {
        let is_ended = is_stopped(sandbox.tasks()).await;
        assert!(self.is_broken || is_ended, "closed without an answer: {:?}", self.open);
    }

    /// Reads an answer; false at the end of the connection.
    async fn answer(&mut self) -> bool {
        let mut head = [0; 10];
        if self.stream.read_exact(&mut head).await.is_err() {
            return false;
        }
        let number =
            |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let mut payload = vec![0; number(0) as usize];
        self.stream.read_exact(&mut payload).await.expect("a whole frame");
        let response = Response::parse_from_bytes(&payload).expect("a response");
        let known = self.open.remove(&number(4));
        assert!(known || self.is_broken, "stream {} of nobody: {response:?}", number(4));
        true
    }
}

fn frame(stream: u32, (service, method): (&str, &str), payload: &[u8]) -> Vec<u8> {
    let request = Request {
        service: service.to_owned(),
        method: method.to_owned(),
        payload: payload.to_owned(),
        ..Request::default()
    };
    let request = request.write_to_bytes().expect("a request");
    let mut frame = (request.len() as u32).to_be_bytes().to_vec();
    frame.extend(stream.to_be_bytes());
    // A request, without flags.
    frame.extend([1, 0]);
    frame.extend(request);
    frame
}
