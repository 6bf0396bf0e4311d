//! Starts, ends and times of processes as clients rely on them; the cases are listed in `main.rs`.

use anyhow::{Context, Result, ensure};
use containerd_shim_protos::api::{
    CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ResizePtyRequest,
    StartRequest, StartResponse, Status,
};
use runwasi_tests::ShimDriver;
use runwasi_tests::bundle::{Bundle, fifo};
use runwasi_tests::shim::{LIMIT, TaskClient, reason};

const ID: &str = "host";
const EXEC: &str = "second";

/// A container whose init waits.
struct Waiting<'a> {
    driver: &'a ShimDriver,
    bundle: Bundle,
    client: TaskClient,
}

impl<'a> Waiting<'a> {
    fn started(driver: &'a ShimDriver) -> Result<Self> {
        let bundle = driver.bundle(ID, &[driver.runtime().guest(), "sleep", "1000"])?;
        bundle.add_guests()?;
        let client = driver.connect(ID, bundle.path())?;
        client.create(ID, bundle.path(), &[])?;
        client.start(ID)?;
        Ok(Self { driver, bundle, client })
    }

    /// `Start` of an exec with these arguments.
    fn starts(&self, args: &[&str]) -> Result<String> {
        self.client.exec(ID, EXEC, args).context("Exec")?;
        let state = self.client.state(ID, EXEC)?;
        ensure!(state.status() == Status::CREATED, "{state:?}");
        let request = StartRequest { id: ID.into(), exec_id: EXEC.into(), ..StartRequest::new() };
        let started = self.client.call::<StartResponse>("Start", &request, LIMIT);
        Ok(reason(&started.err().context("the start is not refused")?))
    }

    fn delete_exec(&self) -> Result<DeleteResponse> {
        let request = DeleteRequest { id: ID.into(), exec_id: EXEC.into(), ..DeleteRequest::new() };
        Ok(self.client.call("Delete", &request, LIMIT)?)
    }

    fn over(self) -> Result<()> {
        self.client.kill(ID, 9)?;
        ensure!(self.client.wait(ID)?.exit_status == 137);
        self.client.delete(ID)?;
        self.driver.finish(&self.client, ID, self.bundle.path())?;
        std::fs::remove_dir_all(self.bundle.path())?;
        self.driver.becomes_clean()
    }
}

pub(crate) fn exec_without_a_program_fails_at_its_start(driver: &ShimDriver) -> Result<()> {
    let waiting = Waiting::started(driver)?;
    // The words by which Docker ends with 127 and 126.
    for (program, words) in
        [("/no/such.wasm", "no such file or directory"), ("/proc", "permission denied")]
    {
        let said = waiting.starts(&[program])?;
        ensure!(said.contains(program) && said.contains(words), "{said}");
        waiting.delete_exec()?;
    }
    waiting.over()
}

pub(crate) fn delete_of_an_exec_that_never_started_is_0(driver: &ShimDriver) -> Result<()> {
    let waiting = Waiting::started(driver)?;
    waiting.client.exec(ID, EXEC, &[driver.runtime().guest(), "exit", "7"])?;
    let deleted = waiting.delete_exec()?;
    ensure!(deleted.exit_status == 0, "{deleted:?}");
    ensure!(waiting.client.state(ID, EXEC).is_err(), "the exec is still there");
    waiting.over()
}

pub(crate) fn running_process_has_no_time_of_an_exit(driver: &ShimDriver) -> Result<()> {
    let waiting = Waiting::started(driver)?;
    let running = waiting.client.state(ID, "")?;
    // Go's zero time, as with runc: clients of containerd ask for it, and 1970 is another.
    ensure!(running.exited_at.seconds == -62_135_596_800, "{running:?}");
    ensure!(running.exit_status == 0, "{running:?}");
    waiting.client.kill(ID, 9)?;
    waiting.client.wait(ID)?;
    let stopped = waiting.client.state(ID, "")?;
    ensure!(stopped.exited_at.seconds > 1_700_000_000, "{stopped:?}");
    waiting.client.delete(ID)?;
    driver.finish(&waiting.client, ID, waiting.bundle.path())?;
    driver.becomes_clean()
}

/// A client sends the size of its terminal when the program has perhaps ended.
pub(crate) fn size_of_the_terminal_of_an_ended_process_is_ignored(
    driver: &ShimDriver,
) -> Result<()> {
    let mut bundle = driver.bundle(ID, &[driver.runtime().guest(), "exit", "3"])?;
    bundle.config["process"]["terminal"] = true.into();
    bundle.write()?;
    bundle.add_guests()?;
    let client = driver.connect(ID, bundle.path())?;
    let stdout = bundle.path().join("stdout");
    fifo(&stdout)?;
    let reader = std::fs::File::options().read(true).write(true).open(&stdout)?;
    let mut request = CreateTaskRequest::new();
    request.id = ID.to_owned();
    request.bundle = bundle.path().display().to_string();
    request.terminal = true;
    request.stdout = stdout.display().to_string();
    let _: CreateTaskResponse = client.call("Create", &request, LIMIT)?;
    client.start(ID)?;
    ensure!(client.wait(ID)?.exit_status == 3);
    let (width, height) = (80, 24);
    let size = ResizePtyRequest { id: ID.to_owned(), width, height, ..ResizePtyRequest::new() };
    let _: Empty = client.call("ResizePty", &size, LIMIT).context("ResizePty")?;
    drop(reader);
    client.delete(ID)?;
    driver.finish(&client, ID, bundle.path())?;
    driver.becomes_clean()
}

/// `docker run --init` mounts it, and puts it before the program.
pub(crate) fn init_for_native_programs_is_refused_with_advice(driver: &ShimDriver) -> Result<()> {
    const INIT: &str = "/sbin/docker-init";
    let mut bundle = driver.bundle(ID, &[INIT, "--", driver.runtime().guest(), "exit", "0"])?;
    bundle.add_guests()?;
    let init = bundle.path().join("init");
    std::fs::write(&init, b"\x7fELF\x02\x01\x01\0 and the rest of a native program")?;
    let mounts = bundle.config["mounts"].as_array_mut().context("mounts")?;
    mounts.push(serde_json::json!({
        "destination": INIT, "type": "bind", "source": init, "options": ["bind", "ro"],
    }));
    bundle.write()?;
    let client = driver.connect(ID, bundle.path())?;
    let error = client.create(ID, bundle.path(), &[]).err().context("it is not refused")?;
    let said = reason(&error);
    ensure!(said.contains(INIT) && said.contains("native program"), "{said}");
    ensure!(said.contains("run the container without --init"), "{said}");
    driver.finish(&client, ID, bundle.path())?;
    driver.becomes_clean()
}
