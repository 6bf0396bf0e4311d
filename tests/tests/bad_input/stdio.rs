//! FIFOs nobody reads, and ones that are not there; the cases are listed in `main.rs`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use containerd_shim_protos::api::{CreateTaskRequest, CreateTaskResponse};
use runwasi_tests::ShimDriver;
use runwasi_tests::bundle::fifo;
use runwasi_tests::shim::{LIMIT, reason};

pub(crate) fn unread_output_does_not_outlive_a_kill(p: &ShimDriver) -> Result<()> {
    let bundle = p.bundle("mute", &[p.runtime().guest(), "bytes", "1000000"])?;
    bundle.add_guests()?;
    let client = p.connect("mute", bundle.path())?;
    let stdout = p.dir().join("out");
    fifo(&stdout)?;
    client.create_with_output("mute", bundle.path(), &stdout)?;
    client.start("mute")?;
    // A pipe holds 64 KiB: the guest is stuck, the shim must not be.
    client.kill("mute", 9)?;
    let status = client.wait("mute")?.exit_status;
    ensure!(status == 137, "status {status}");
    client.delete("mute")?;
    p.finish(&client, "mute", bundle.path())?;
    p.becomes_clean()
}

pub(crate) fn little_unread_output_does_not_delay_the_exit(p: &ShimDriver) -> Result<()> {
    let bundle = p.bundle("quiet", &[p.runtime().guest(), "echo", "x"])?;
    bundle.add_guests()?;
    let client = p.connect("quiet", bundle.path())?;
    let stdout = p.dir().join("out");
    fifo(&stdout)?;
    client.create_with_output("quiet", bundle.path(), &stdout)?;
    let began = Instant::now();
    client.start("quiet")?;
    let status = client.wait("quiet")?.exit_status;
    ensure!(status == 0, "status {status}");
    ensure!(began.elapsed() < Duration::from_secs(8), "took {:?}", began.elapsed());
    client.delete("quiet")?;
    p.finish(&client, "quiet", bundle.path())?;
    p.becomes_clean()
}

pub(crate) fn missing_fifo_is_refused(p: &ShimDriver) -> Result<()> {
    let bundle = p.bundle("pipeless", &[p.runtime().guest(), "echo", "x"])?;
    bundle.add_guests()?;
    let client = p.connect("pipeless", bundle.path())?;
    let stdout = p.dir().join("nowhere/out");
    let error =
        client.create_with_output("pipeless", bundle.path(), &stdout).err().context("created")?;
    super::says(&reason(&error), &[&stdout.to_string_lossy()], &["no such file"])?;
    p.finish(&client, "pipeless", bundle.path())?;
    p.becomes_clean()
}

pub(crate) fn path_of_stderr_is_ignored_at_a_terminal(p: &ShimDriver) -> Result<()> {
    let mut bundle = p.bundle("screen", &[p.runtime().guest(), "echo", "shown"])?;
    bundle.add_guests()?;
    bundle.config["process"]["terminal"] = serde_json::json!(true);
    bundle.write()?;
    let client = p.connect("screen", bundle.path())?;
    let stdout = p.dir().join("out");
    fifo(&stdout)?;
    let mut request = CreateTaskRequest::new();
    request.id = "screen".to_owned();
    request.bundle = bundle.path().to_string_lossy().into_owned();
    request.terminal = true;
    request.stdout = stdout.to_string_lossy().into_owned();
    request.stderr = p.dir().join("nowhere/err").to_string_lossy().into_owned();
    // Before the creation, as clients do: one that opens after the end would wait for ever.
    let reader = std::thread::spawn(move || std::fs::read_to_string(stdout));
    client.call::<CreateTaskResponse>("Create", &request, LIMIT)?;
    client.start("screen")?;
    ensure!(client.wait("screen")?.exit_status == 0);
    let said = reader.join().ok().context("the reader has panicked")??;
    ensure!(said == "shown\r\n", "{said:?}");
    client.delete("screen")?;
    p.finish(&client, "screen", bundle.path())?;
    p.becomes_clean()
}

pub(crate) fn log_nobody_reads_does_not_hang_start(p: &ShimDriver) -> Result<()> {
    let bundle = p.bundle("unread", &["/a"])?;
    fifo(&bundle.path().join("log"))?;
    let client = p.connect("unread", bundle.path())?;
    p.finish(&client, "unread", bundle.path())?;
    p.becomes_clean()
}
