//! The table of the Task service's calls, by the service's own description; the cases are listed in `main.rs`.
//!
//! | call | | |
//! |---|---|---|
//! | State, Create, Start, Delete, Pids, Pause, Resume, Kill, Exec, ResizePty, CloseIO, Update, Wait, Stats, Connect, Shutdown | work | each leaves a trace that is looked for |
//! | Checkpoint | refused | `UNIMPLEMENTED`: a guest's state cannot be written down |

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
    CreateTaskResponse, Empty, PauseRequest, PidsRequest, PidsResponse, ResizePtyRequest,
    ResumeRequest, StateResponse, StatsRequest, StatsResponse, Status, UpdateTaskRequest,
};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::shim::file_descriptor;
use containerd_shim_protos::ttrpc::{self, Code};
use runwasi_tests::bundle::{Bundle, fifo};
use runwasi_tests::shim::{LIMIT, TASK_V2, TASK_V3, TaskClient};
use runwasi_tests::{ShimDriver, poll_until};
use serde_json::json;

const ID: &str = "good";

/// A container that reads its stdin, and what is needed to speak with it.
struct Stage<'a> {
    p: &'a ShimDriver,
    client: TaskClient,
    bundle: Bundle,
}

impl<'a> Stage<'a> {
    fn created(p: &'a ShimDriver, service: &'static str) -> Result<Self> {
        let bundle = p.bundle(ID, &[p.runtime().guest(), "cat"])?;
        bundle.add_guests()?;
        let client = p.connect(ID, bundle.path())?.speaking(service);
        let stdin = bundle.path().join("stdin");
        fifo(&stdin)?;
        let mut request = CreateTaskRequest::new();
        request.id = ID.to_owned();
        request.bundle = bundle.path().display().to_string();
        request.stdin = stdin.display().to_string();
        let _: CreateTaskResponse = client.call("Create", &request, LIMIT)?;
        Ok(Self { p, client, bundle })
    }

    fn running(p: &'a ShimDriver, service: &'static str) -> Result<Self> {
        let stage = Self::created(p, service)?;
        stage.client.start(ID)?;
        Ok(stage)
    }

    fn state(&self) -> Result<StateResponse> {
        Ok(self.client.state(ID, "")?)
    }

    fn is(&self, status: Status) -> Result<()> {
        let state = self.state()?;
        ensure!(state.status() == status, "{status:?} expected: {state:?}");
        Ok(())
    }

    fn asks(&self, method: &str, request: &impl Message) -> Result<()> {
        let _: Empty =
            self.client.call(method, request, LIMIT).with_context(|| method.to_owned())?;
        Ok(())
    }

    fn pauses(&self) -> Result<()> {
        self.asks("Pause", &PauseRequest { id: ID.to_owned(), ..PauseRequest::new() })
    }

    fn stats(&self) -> Result<Any> {
        let request = StatsRequest { id: ID.to_owned(), ..StatsRequest::new() };
        let answer: StatsResponse = self.client.call("Stats", &request, LIMIT)?;
        answer.stats.into_option().context("no stats")
    }

    fn processes(&self) -> Result<usize> {
        let request = PidsRequest { id: ID.to_owned(), ..PidsRequest::new() };
        let answer: PidsResponse = self.client.call("Pids", &request, LIMIT)?;
        ensure!(answer.processes.iter().all(|process| process.pid > 0), "{answer:?}");
        Ok(answer.processes.len())
    }

    fn exec(&self) -> Result<()> {
        self.client.exec(ID, "second", &[self.p.runtime().guest(), "sleep", "1000"])?;
        Ok(())
    }

    /// Ends and removes it, whatever has become of it, and demands that nothing is left.
    fn over(self) -> Result<()> {
        self.client.kill(ID, 9).ok();
        self.client.wait(ID).ok();
        self.client.delete(ID).ok();
        self.p.finish(&self.client, ID, self.bundle.path())?;
        std::fs::remove_dir_all(self.bundle.path())?;
        self.p.becomes_clean()
    }
}

impl Stage<'_> {
    fn updates(&self) -> Result<()> {
        let before = self.stats()?;
        self.asks("Update", &update()?)?;
        ensure!(self.stats()?.value != before.value, "no figure has changed");
        Ok(())
    }

    fn shuts_down(&self, p: &ShimDriver) -> Result<()> {
        // Not while there is a container; with the last of them the sandbox goes.
        self.client.shutdown(ID);
        self.is(Status::RUNNING)?;
        self.client.kill(ID, 9)?;
        self.client.wait(ID)?;
        self.client.delete(ID)?;
        self.client.shutdown(ID);
        poll_until("end of the sandbox", Duration::from_secs(20), || {
            p.shims().is_empty().then_some(())
        })
    }
}

/// An update of the memory limit.
fn update() -> Result<UpdateTaskRequest> {
    let resources = json!({ "memory": { "limit": 77 << 20 } });
    let any = Any { value: serde_json::to_vec(&resources)?, ..Any::new() };
    let resources = MessageField::some(any);
    Ok(UpdateTaskRequest { id: ID.to_owned(), resources, ..UpdateTaskRequest::new() })
}

/// Makes one call of the service and looks for what it should have done.
fn call(name: &str, p: &ShimDriver, service: &'static str) -> Result<()> {
    let stage =
        if name == "Start" { Stage::created(p, service)? } else { Stage::running(p, service)? };
    match name {
        "State" | "Create" => stage.is(Status::RUNNING)?,
        "Start" => {
            stage.is(Status::CREATED)?;
            ensure!(stage.client.start(ID)?.pid == stage.state()?.pid);
            stage.is(Status::RUNNING)?;
        }
        "Delete" | "Wait" | "Kill" => {
            stage.client.kill(ID, 9)?;
            ensure!(stage.client.wait(ID)?.exit_status == 137);
            stage.is(Status::STOPPED)?;
            ensure!(stage.client.delete(ID)?.exit_status == 137);
            ensure!(stage.state().is_err(), "it is still there");
        }
        "Pids" => ensure!(stage.processes()? == 1),
        "Pause" | "Resume" => {
            stage.pauses()?;
            stage.is(Status::PAUSED)?;
            stage.asks("Resume", &ResumeRequest { id: ID.to_owned(), ..ResumeRequest::new() })?;
            stage.is(Status::RUNNING)?;
        }
        "Exec" => {
            stage.exec()?;
            let state = stage.client.state(ID, "second")?;
            ensure!(state.status() == Status::CREATED && state.exec_id == "second", "{state:?}");
        }
        // The suite `stdio` has one with a terminal.
        "ResizePty" => {
            let (width, height) = (80, 24);
            stage.asks(
                name,
                &ResizePtyRequest { id: ID.to_owned(), width, height, ..ResizePtyRequest::new() },
            )?;
        }
        "CloseIO" => {
            stage.asks(
                name,
                &CloseIORequest { id: ID.to_owned(), stdin: true, ..CloseIORequest::new() },
            )?;
            // Its guest reads until the end.
            ensure!(stage.client.wait(ID)?.exit_status == 0);
        }
        "Update" => stage.updates()?,
        "Stats" => {
            let stats = stage.stats()?;
            ensure!(
                stats.type_url.starts_with("io.containerd.cgroups.v") && !stats.value.is_empty(),
                "{stats:?}"
            );
        }
        "Connect" => {
            let request = ConnectRequest { id: ID.to_owned(), ..ConnectRequest::new() };
            let answer: ConnectResponse = stage.client.call(name, &request, LIMIT)?;
            ensure!(
                answer.shim_pid == p.shims()[0].pid && answer.task_pid == stage.state()?.pid,
                "{answer:?}"
            );
        }
        "Shutdown" => stage.shuts_down(p)?,
        "Checkpoint" => {
            let request = CheckpointTaskRequest {
                id: ID.to_owned(),
                path: "/nowhere".to_owned(),
                ..Default::default()
            };
            let refused =
                stage.client.call::<Empty>(name, &request, LIMIT).err().context("not refused")?;
            is(&refused, Code::UNIMPLEMENTED, "a guest's state cannot be written down")?;
        }
        other => bail!("{other}: a call this table does not know"),
    }
    stage.over()
}

fn is(error: &ttrpc::Error, code: Code, says: &str) -> Result<()> {
    let ttrpc::Error::RpcStatus(status) = error else { bail!("{error}") };
    ensure!(
        status.code() == code && status.message.contains(says),
        "{code:?}, {says:?} expected: {status:?}"
    );
    Ok(())
}

pub(crate) fn every_call_of_the_task_service_works_or_is_refused_with_a_reason(
    p: &ShimDriver,
) -> Result<()> {
    let service = &file_descriptor().proto().service[0];
    ensure!(service.name() == "Task" && service.method.len() >= 17, "{service}");
    for version in [TASK_V2, TASK_V3] {
        for method in &service.method {
            call(method.name(), p, version)
                .with_context(|| format!("{version}: {}", method.name()))?;
        }
    }
    let unknown = Stage::running(p, TASK_V2)?;
    let error =
        unknown.client.call::<Empty>("Juggle", &Empty::new(), LIMIT).err().context("juggles")?;
    ensure!(
        matches!(&error, ttrpc::Error::RpcStatus(status) if status.message.contains("Juggle")),
        "{error}"
    );
    unknown.over()
}

pub(crate) fn calls_in_the_wrong_state_are_refused(p: &ShimDriver) -> Result<()> {
    let stage = Stage::created(p, TASK_V2)?;
    let pause = PauseRequest { id: ID.to_owned(), ..PauseRequest::new() };
    let resume = ResumeRequest { id: ID.to_owned(), ..ResumeRequest::new() };
    let refused = |method: &str, request: &dyn Fn() -> Result<(), ttrpc::Error>, says: &str| {
        let error = request().err().with_context(|| format!("{method} is not refused"))?;
        is(&error, Code::FAILED_PRECONDITION, says).with_context(|| method.to_owned())
    };
    let pauses = || stage.client.call::<Empty>("Pause", &pause, LIMIT).map(drop);
    let resumes = || stage.client.call::<Empty>("Resume", &resume, LIMIT).map(drop);
    let starts = || stage.client.start(ID).map(drop);
    let deletes = || stage.client.delete(ID).map(drop);
    refused("Pause", &pauses, "cannot pause a process that is created")?;
    refused("Resume", &resumes, "cannot resume a process that is created")?;
    stage.client.start(ID)?;
    refused("Start", &starts, "cannot start a process that is running")?;
    refused("Resume", &resumes, "cannot resume a process that is running")?;
    refused("Delete", &deletes, "cannot delete a process that is running")?;
    stage.pauses()?;
    refused("Pause", &pauses, "cannot pause a process that is paused")?;
    refused("Delete", &deletes, "cannot delete a process that is paused")?;
    let exec = stage.exec().err().context("an exec in a paused container")?;
    ensure!(format!("{exec:#}").contains("paused"), "{exec:#}");
    stage.client.kill(ID, 9)?;
    stage.client.wait(ID)?;
    refused("Start", &starts, "cannot start a process that is stopped")?;
    refused("Pause", &pauses, "cannot pause a process that is stopped")?;
    let update = update()?;
    let updates = || stage.client.call::<Empty>("Update", &update, LIMIT).map(drop);
    refused("Update", &updates, "cannot update a process that is stopped")?;
    let kill = stage.client.kill(ID, 9).err().context("killed twice")?;
    is(&kill, Code::NOT_FOUND, "process already finished")?;
    stage.over()
}
