//! Readers of a guest's output that hold it up, or are slow; the cases are listed in `main.rs`.

use std::fs::{self, File};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::process::Stdio;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use containerd_shim_protos::api::{
    CreateTaskRequest, CreateTaskResponse, WaitRequest, WaitResponse,
};
use runwasi_tests::bundle::{Bundle, fifo};
use runwasi_tests::shim::{LIMIT, TaskClient};
use runwasi_tests::{Containers, ShimDriver};
use rustix::fs::OFlags;
use tempfile::TempDir;

/// Longest wait for a reader.
const PATIENCE: Duration = Duration::from_secs(10);

/// A container whose output has a reader that reads nothing.
struct Unread<'a> {
    p: &'a ShimDriver,
    id: &'static str,
    bundle: Bundle,
    client: TaskClient,
    _reader: File,
}

impl<'a> Unread<'a> {
    fn started(p: &'a ShimDriver, id: &'static str, bytes: usize, terminal: bool) -> Result<Self> {
        let bundle = p.bundle(id, &[p.runtime().guest(), "bytes", &bytes.to_string()])?;
        bundle.add_guests()?;
        let stdout = p.dir().join(id);
        fifo(&stdout)?;
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let reader = File::options().read(true).custom_flags(flags).open(&stdout)?;
        let client = p.connect(id, bundle.path())?;
        let mut request = CreateTaskRequest::new();
        request.id = id.to_owned();
        request.bundle = bundle.path().display().to_string();
        request.stdout = stdout.display().to_string();
        request.terminal = terminal;
        client.call::<CreateTaskResponse>("Create", &request, LIMIT)?;
        client.start(id)?;
        Ok(Self { p, id, bundle, client, _reader: reader })
    }

    /// Waits for the exit, longer than other calls may take.
    fn exit_status(&self) -> Result<u32> {
        let mut request = WaitRequest::new();
        request.id = self.id.to_owned();
        let exit: WaitResponse = self.client.call("Wait", &request, 2 * PATIENCE)?;
        Ok(exit.exit_status)
    }

    fn over(self) -> Result<()> {
        self.client.delete(self.id)?;
        self.p.finish(&self.client, self.id, self.bundle.path())
    }
}

pub(crate) fn exit_is_told_although_a_reader_never_reads(p: &ShimDriver) -> Result<()> {
    let begin = Instant::now();
    // The guest has ended, and its output fits into the pipe.
    let small = Unread::started(p, "small", 1000, false)?;
    // It fits as well, with the bytes that the terminal adds and pages that are not full.
    let terminal = Unread::started(p, "terminal", 48 << 10, true)?;
    for ended in [small, terminal] {
        ensure!(ended.exit_status()? == 0, "{}", ended.id);
        let took = begin.elapsed();
        ensure!(took < PATIENCE + Duration::from_secs(5), "{} told after {took:?}", ended.id);
        ensure!(took > PATIENCE / 2, "{} waited for its reader only for {took:?}", ended.id);
        ended.over()?;
    }
    // The guest waits for room: its kill does not wait for the reader.
    let large = Unread::started(p, "large", 1 << 20, false)?;
    large.client.kill(large.id, 9)?;
    let begin = Instant::now();
    ensure!(large.exit_status()? == 137);
    let took = begin.elapsed();
    ensure!(took < Duration::from_secs(5), "a kill was told after {took:?}");
    large.over()?;
    p.becomes_clean()
}

/// Keeps the cores busy until it is dropped.
struct Load(Vec<std::process::Child>);

impl Load {
    fn start() -> Result<Self> {
        let cores = available_parallelism().map_or(2, usize::from);
        let mut load = Self(Vec::new());
        for _ in 0..2 * cores {
            let mut command = std::process::Command::new("sh");
            command.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
            load.0.push(command.spawn().context("no load")?);
        }
        Ok(load)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Both fail only when it is gone already.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

pub(crate) fn megabyte_through_a_terminal_arrives_whole(c: &mut Containers) -> Result<()> {
    const LINES: usize = 1 << 16;
    let dir = TempDir::new()?;
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755))?;
    let text: String = (0..LINES).map(|n| format!("line {n:010}\n")).collect();
    ensure!(text.len() == 1 << 20);
    fs::write(dir.path().join("f"), &text)?;
    let mount = format!("type=bind,src={},dst=/text,options=rbind:ro", dir.path().display());
    let load = Load::start()?;
    for n in 0..6 {
        let id = c.id(&format!("t{n}"));
        let console = c.at_terminal(&["--rm", "--mount", &mount], &id, &["cat", "/text/f"])?;
        let (status, seen) = console.wait()?;
        ensure!(status == 0, "run {n}: status {status}");
        ensure!(seen == text, "run {n}: {} bytes of {}", seen.len(), text.len());
    }
    drop(load);
    c.fixture.becomes_clean()
}
