//! A running delegate, from its start to its end.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use containerd_shim_protos::ttrpc;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{CWD, FileType, Mode, mknodat},
    mount::{UnmountFlags, unmount},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, unix::AsyncFd},
    net::unix::pipe,
    sync::OnceCell,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{error::NativeError, launcher::Launcher, oom_score, process, record::Record, socket};
use crate::{
    blocking::blocking,
    containerd::shim_client::{ShimAddress, ShimClient},
    id::Id,
    shutdown::Tasks,
    sys,
};

/// Directory of the directories of all delegates of the node.
const DIRECTORIES: &str = "/run/runwasi/native";

/// FIFO in the directory that the delegate writes its log to.
const LOG: &str = "log";

/// File in it that the program notes its address in.
const ADDRESS: &str = "address";

/// Directory in it where the shared memory of a pod is attached for its containers.
const MEMORY: &str = "shm";

/// Time for a delegate to end after it was asked to.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(3);

/// Time for what a failed start has left to end after its SIGKILL.
const KILLED: Duration = Duration::from_secs(3);

/// Time from the close of a delegate's sockets to its end.
const ENDING: Duration = Duration::from_secs(1);

/// A running delegate, or one that has ended.
pub(crate) struct Delegate {
    pub(crate) launcher: Launcher,
    pub(crate) client: ShimClient,
    id: String,
    address: ShimAddress,
    directory: PathBuf,
    pid: u32,
    /// Readable when the process has ended.
    pidfd: AsyncFd<fs::File>,
    /// Where the shared memory of the pod is attached, once a container needs it.
    memory: OnceCell<PathBuf>,
    /// Cancelled when nothing waits for the delegate any more: it was asked to end, or our server
    /// leaves it behind.
    left: CancellationToken,
}

/// Id of a delegate, by its first container.
// With two hyphens, as no id of containerd's has them: the delegate's socket is named by it, and
// would else be that of a container of this name under runc.
fn id_of(first: &Id) -> String {
    format!("{first}--native")
}

/// The record of a delegate that is about to start with this container.
pub(crate) fn planned(launcher: &Launcher, first: &Id) -> Record {
    let name = format!("{}.{}", launcher.namespace, id_of(first));
    Record {
        program: launcher.program.clone(),
        directory: Path::new(DIRECTORIES).join(name),
        address: ShimAddress::default(),
        pid: 0,
    }
}

impl Delegate {
    /// Starts a delegate that is named after the first container of it. A failed start leaves no
    /// process. Not to be dropped: the start goes on.
    pub(crate) async fn start(
        launcher: Launcher,
        first: &Id,
        tasks: &Tasks,
    ) -> Result<Arc<Self>, NativeError> {
        let id = id_of(first);
        let mut directory = Directory { record: planned(&launcher, first), kept: false };
        let starting = launcher.clone();
        let delegate_id = id.clone();
        let start = move || {
            directory.make()?;
            let log = directory.open_log()?;
            let score = starting.oom_score();
            directory.record.address = starting.start(&delegate_id, directory.path(), score)?;
            Ok((directory, log, score))
        };
        let (directory, log, score) = blocking(start, |error| launcher.failed(error)).await?;
        let place = directory.path().to_owned();
        let address = directory.record.address.clone();
        let delegate = match Self::connect(launcher.clone(), id, place, address).await {
            Ok(delegate) => Arc::new(delegate),
            Err(error) => {
                directory.give_up().await;
                return Err(launcher.failed(error));
            }
        };
        directory.keep();
        if let Some(score) = score
            && let Err(error) = oom_score::set(delegate.pid, score)
        {
            let pid = delegate.pid;
            tracing::warn!(%error, pid, "the OOM score of a native runtime stays as it is");
        }
        tasks.spawn(follow_log(log, delegate.clone()));
        tracing::debug!(pid = delegate.pid, "a native runtime has started");
        Ok(delegate)
    }

    async fn connect(
        launcher: Launcher,
        id: String,
        directory: PathBuf,
        address: ShimAddress,
    ) -> ttrpc::Result<Self> {
        let other = |error: io::Error| ttrpc::Error::Others(error.to_string());
        let client = ShimClient::connect(&address, &launcher.namespace).await?;
        let pid = client.pid(&id).await?;
        let gone = || ttrpc::Error::Others(format!("its process {pid} has ended"));
        let process = Pid::from_raw(pid.cast_signed()).ok_or_else(gone)?;
        let pidfd = pidfd_open(process, PidfdFlags::empty()).map_err(|_| gone())?;
        let pidfd = sys::watch(fs::File::from(pidfd)).map_err(other)?;
        let memory = OnceCell::new();
        let left = CancellationToken::new();
        Ok(Self { launcher, client, id, address, directory, pid, pidfd, memory, left })
    }

    /// Resolves when its process has ended.
    pub(crate) async fn ended(&self) {
        // An error: the runtime is shutting down, and drops this future, too.
        let _ready = self.pidfd.readable().await;
    }

    /// True if its process has ended.
    pub(crate) fn has_ended(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Asked of the kernel: the runtime may not have noticed yet.
        let mut polled = [PollFd::new(self.pidfd.get_ref(), PollFlags::IN)];
        poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// True if its process has ended, or ends now: after a broken connection.
    // A process closes its sockets before its end is told.
    pub(crate) async fn is_ending(&self) -> bool {
        self.has_ended() || timeout(ENDING, self.ended()).await.is_ok()
    }

    /// Resolves when nothing waits for it any more.
    pub(crate) async fn left(&self) {
        self.left.cancelled().await;
    }

    /// Ends all waiting for it.
    pub(crate) fn leave(&self) {
        self.left.cancel();
    }

    /// Pid of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Has the shared memory of a pod attached where its containers can mount it from, until
    /// [`Delegate::detach`] or the end of the delegate. Returns the place.
    pub(crate) async fn attach(
        &self,
        attach: impl FnOnce(&Path) -> io::Result<()> + Send + 'static,
    ) -> io::Result<PathBuf> {
        let place = self.directory.join(MEMORY);
        let made = || async {
            let work = move || {
                fs::create_dir(&place)?;
                attach(&place).map(|()| place)
            };
            blocking(work, |lost| lost).await
        };
        self.memory.get_or_try_init(made).await.cloned()
    }

    /// Detaches the shared memory, if it is attached: no container is to come.
    pub(crate) async fn detach(&self) {
        let Some(place) = self.memory.get().cloned() else { return };
        let work = move || {
            detach(&place);
            Ok(())
        };
        // An error: our process is ending, and `delete` does the same.
        let _: Result<(), ()> = blocking(work, drop).await;
    }

    /// The record for the bundles of its containers.
    pub(crate) fn record(&self) -> Record {
        Record {
            program: self.launcher.program.clone(),
            directory: self.directory.clone(),
            address: self.address.clone(),
            pid: self.pid,
        }
    }

    /// Ends it after its last container, and removes what it leaves.
    pub(crate) async fn shut_down(&self) {
        self.leave();
        let asked = async {
            // An error: it has ended already, or the kill below ends it.
            let _ = self.client.shutdown(&self.id).await;
            self.ended().await;
        };
        if timeout(SHUTDOWN_LIMIT, asked).await.is_err() {
            tracing::warn!(pid = self.pid, "a native runtime does not end, and is killed");
            // An error: it has ended meanwhile.
            let _ = pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL);
            // Bounded: a process in the kernel's hands may not end at once.
            let _ = timeout(SHUTDOWN_LIMIT, self.ended()).await;
        }
        self.remove_traces().await;
    }

    /// Removes its directory and its socket, after its end.
    pub(crate) async fn remove_traces(&self) {
        let record = self.record();
        let work = move || {
            remove_traces(&record);
            Ok(())
        };
        // An error: our process is ending, and `delete` does the same.
        let _: Result<(), ()> = blocking(work, drop).await;
    }
}

/// Removes the directory and the socket of a delegate that has ended. Blocks.
pub(crate) fn remove_traces(record: &Record) {
    // Of one that was killed during its start the program has noted it, if it has come so far.
    let noted = || {
        fs::read(record.directory.join(ADDRESS))
            .ok()
            .and_then(|address| ShimAddress::parse(&address))
    };
    let known = Some(&record.address).filter(|known| !known.address.is_empty());
    if let Some(address) = known.cloned().or_else(noted) {
        socket::remove_left(&address);
    }
    remove(&record.directory);
}

/// Unmounts the shared memory of a pod. Blocks for the grace period of RCU.
fn detach(place: &Path) {
    // An error: it is not attached.
    let _ = unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
}

fn remove(directory: &Path) {
    // Before the files: those of a pod are not to be removed.
    detach(&directory.join(MEMORY));
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, directory = %directory.display(), "a directory stays behind");
        }
        _ => {}
    }
}

/// Directory of a delegate that starts. Removed with the value, unless it is kept, together with
/// the processes that work in it.
struct Directory {
    record: Record,
    kept: bool,
}

impl Directory {
    fn path(&self) -> &Path {
        &self.record.directory
    }

    /// Makes it with all that the program looks for in a bundle.
    fn make(&self) -> Result<(), NativeError> {
        // Left by a delegate whose server was killed together with containerd.
        remove(self.path());
        let made = DirBuilder::new().recursive(true).mode(0o700).create(self.path());
        made.map_err(|source| self.failed("", source))?;
        let config = "config.json";
        // Without annotations: the program names its socket by its id then, and not by a group.
        fs::write(self.path().join(config), "{}").map_err(|source| self.failed(config, source))
    }

    /// Makes the FIFO of the log and opens it for reading, before the program opens it.
    fn open_log(&self) -> Result<fs::File, NativeError> {
        let path = self.path().join(LOG);
        let failed = |source| self.failed(LOG, source);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .map_err(|error| failed(error.into()))?;
        // Also for writing: a reader without any writer would get the end of the file at once.
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        fs::File::options().read(true).write(true).custom_flags(flags).open(&path).map_err(failed)
    }

    fn keep(mut self) {
        self.kept = true;
    }

    /// Drops it on the blocking pool.
    async fn give_up(self) {
        let work = move || {
            drop(self);
            Ok(())
        };
        // An error: our process is ending, and `delete` does the same.
        let _: Result<(), ()> = blocking(work, drop).await;
    }

    fn failed(&self, name: &str, source: io::Error) -> NativeError {
        NativeError::Directory { path: self.path().join(name), source }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.kept {
            process::kill_all(self.path(), Instant::now() + KILLED);
            remove_traces(&self.record);
        }
    }
}

/// Writes the lines of a delegate's log into ours until nothing waits for it.
async fn follow_log(log: fs::File, delegate: Arc<Delegate>) {
    let log = match pipe::Receiver::from_file_unchecked(log) {
        Ok(log) => log,
        Err(error) => return tracing::warn!(%error, "the log of a native runtime is lost"),
    };
    let mut lines = BufReader::new(log).lines();
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line,
            () = delegate.left() => return,
            () = delegate.ended() => return,
        };
        match line {
            Ok(Some(line)) if line.contains("level=error") || line.contains("level=warning") => {
                tracing::warn!(pid = delegate.pid, "native runtime: {line}");
            }
            Ok(Some(line)) => tracing::debug!(pid = delegate.pid, "native runtime: {line}"),
            Ok(None) | Err(_) => return,
        }
    }
}
