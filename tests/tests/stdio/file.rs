//! Output to `file://`; the cases are listed in `main.rs`.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use containerd_shim_protos::api::{CreateTaskRequest, CreateTaskResponse};
use runwasi_tests::{Containers, ShimDriver, poll_until, shim::LIMIT};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

fn becomes(path: &PathBuf, wanted: &str) -> Result<()> {
    let seen = poll_until("output in a file", Duration::from_secs(20), || {
        fs::read_to_string(path).is_ok_and(|text| text == wanted).then_some(())
    });
    seen.with_context(|| format!("{:?} instead of {wanted:?}", fs::read_to_string(path)))
}

/// In a directory that is not there yet.
fn log(c: &Containers) -> (PathBuf, String) {
    let path = c.fixture.dir().join("logs/of this/log");
    let uri = format!("file://{}", path.display().to_string().replace(' ', "%20"));
    (path, uri)
}

/// The shim of containerd 1.6 sometimes loses the second.
pub(crate) fn both_streams_are_added_to_a_file(c: &mut Containers) -> Result<()> {
    let (path, uri) = log(c);
    let flags = ["--rm", "--log-uri", &uri];
    c.run_command(&flags, &c.id("out"), &["echo", "to stdout"]).run()?.ok()?;
    c.run_command(&flags, &c.id("err"), &["stderr", "to stderr"]).run()?.ok()?;
    becomes(&path, "to stdout\nto stderr\n")?;
    c.fixture.becomes_clean()
}

pub(crate) fn output_of_a_detached_container_goes_to_a_file(c: &mut Containers) -> Result<()> {
    let (path, uri) = log(c);
    let id = c.id("much");
    let count = 3_000_000;
    c.detached_with(&["--log-uri", &uri], &id, &["bytes", &count.to_string()])?;
    ensure!(c.finish(&id)? == 0);
    let written = fs::read(&path)?;
    ensure!(
        written.len() == count
            && written.iter().enumerate().all(|(i, byte)| i % 251 == usize::from(*byte))
    );
    c.fixture.becomes_clean()
}

pub(crate) fn output_of_an_exec_goes_to_a_file(c: &mut Containers) -> Result<()> {
    let (path, uri) = log(c);
    let id = c.id("host");
    c.detached(&id, &["sleep", "1000"])?;
    let exec = c.exec_command(
        &["--log-uri", &uri],
        &id,
        "logged",
        &[c.runtime.guest(), "echo", "from an exec"],
    );
    exec.run()?.ok()?;
    becomes(&path, "from an exec\n")?;
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

/// containerd 1.6's own shim cannot; the next version's can.
/// `ctr` does not offer it, but containerd's API does.
pub(crate) fn terminals_output_goes_to_a_file(p: &ShimDriver) -> Result<()> {
    let bundle = p.bundle("tty", &[p.runtime().guest(), "tty"])?;
    bundle.add_guests()?;
    let client = p.connect("tty", bundle.path())?;
    let path = p.dir().join("log");
    let mut request = CreateTaskRequest::new();
    request.id = "tty".to_owned();
    request.bundle = bundle.path().display().to_string();
    request.stdout = format!("file://{}", path.display());
    request.terminal = true;
    let _: CreateTaskResponse = client.call("Create", &request, LIMIT)?;
    client.start("tty")?;
    ensure!(client.wait("tty")?.exit_status == 0);
    // Before the exit is told everything is in the file.
    let text = fs::read_to_string(&path)?;
    ensure!(text == "stdin true, stdout true, stderr true\r\n", "{text:?}");
    client.delete("tty")?;
    p.finish(&client, "tty", bundle.path())?;
    p.becomes_clean()
}

pub(crate) fn full_disk_is_the_guests_error_and_nobody_elses(c: &mut Containers) -> Result<()> {
    let disk = c.fixture.dir().join("disk");
    fs::create_dir(&disk)?;
    mount("tmpfs", &disk, "tmpfs", MountFlags::empty(), Some(c"size=64k"))?;
    let uri = format!("file://{}/log", disk.display());
    let ran =
        c.run_command(&["--rm", "--log-uri", &uri], &c.id("much"), &["bytes", "1000000"]).run();
    let taken = fs::metadata(disk.join("log")).map(|log| log.len());
    let other = c.run(&c.id("other"), &["echo", "fine"]);
    unmount(&disk, UnmountFlags::DETACH)?;
    ran?.status_is(1)?;
    ensure!(taken? == 64 << 10);
    ensure!(other?.ok()?.out() == "fine\n");
    c.fixture.becomes_clean()
}

pub(crate) fn address_that_means_nothing_is_refused(c: &mut Containers) -> Result<()> {
    let directory = format!("file://{}", c.fixture.dir().display());
    for uri in ["https:///log", "file://host/log", "binary://logger", &directory] {
        let said = c
            .run_command(&["--rm", "--log-uri", uri], &c.id("bad"), &["echo", "lost"])
            .run()?
            .refused()?;
        ensure!(
            said.contains("stdout")
                && said.contains(
                    uri.split("//").last().unwrap_or_default().trim_start_matches("/log")
                ),
            "{uri}: {said}"
        );
    }
    c.fixture.becomes_clean()
}
