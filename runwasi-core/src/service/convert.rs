//! Conversion between our types and containerd's messages.

use std::time::{SystemTime, UNIX_EPOCH};

use containerd_shim_protos::{
    api::{
        CreateTaskRequest, DeleteResponse, ExecProcessRequest, ResizePtyRequest, StateResponse,
        Status as WireStatus,
    },
    events::task as wire,
    protobuf::{
        EnumOrUnknown, Message, MessageField,
        well_known_types::{any::Any, timestamp::Timestamp},
    },
    shim::oci::ProcessDetails,
    topics as topic,
    ttrpc::{self, Code},
    types,
};

use super::{options, status::error};
use crate::{
    container::{
        Container,
        request::{CreateRequest, ExecRequest},
    },
    engine::exit::Exit,
    events::Event,
    id::Id,
    process::{Info, Process, state::State},
    rootfs::MountConfig,
    stdio::{paths::StdioPaths, pty::Size},
    traces::{context::SpanContext, start::StartTrace},
};

/// Go's zero time, the first second of year 1, in seconds since 1970.
const ZERO_TIME: i64 = -62_135_596_800;

pub(crate) fn timestamp(at: SystemTime) -> MessageField<Timestamp> {
    // An earlier time counts as 1970: there were no containers before.
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    let nanos = i32::try_from(since.subsec_nanos()).unwrap_or_default();
    MessageField::some(Timestamp { seconds, nanos, ..Timestamp::default() })
}

/// Encodes an event under its bare message name, as containerd's `typeurl` does.
// Not by the message's descriptor: that would parse the descriptions of all messages first, a
// megabyte that every shim would keep.
fn any<M: Message>(message: &M) -> ttrpc::Result<Any> {
    any_named(&format!("containerd.events.{}", M::NAME), message)
}

pub(crate) fn any_named<M: Message>(name: &str, message: &M) -> ttrpc::Result<Any> {
    let value =
        message.write_to_bytes().map_err(|error| ttrpc::Error::Others(error.to_string()))?;
    Ok(Any { type_url: name.to_owned(), value, ..Any::default() })
}

pub(super) fn create_request(
    request: &CreateTaskRequest,
    parent: Option<SpanContext>,
) -> ttrpc::Result<CreateRequest> {
    let id = Id::parse("container id", &request.id)?;
    let mounts = request.rootfs.iter().map(|mount| MountConfig {
        kind: mount.type_.clone(),
        source: mount.source.clone(),
        options: mount.options.clone(),
    });
    let options = request.options.as_ref().map(options::decode).transpose();
    let options = options
        .map_err(|wrong| error(Code::INVALID_ARGUMENT, format!("runtime options: {wrong}")))?;
    Ok(CreateRequest {
        id,
        bundle: request.bundle.clone().into(),
        mounts: mounts.collect(),
        stdio: stdio_paths(request),
        options: options.unwrap_or_default(),
        runc_options: request.options.as_ref().map(options::of_runc).unwrap_or_default(),
        checkpoint: !request.checkpoint.is_empty(),
        parent,
        trace: StartTrace::default(),
    })
}

/// The streams of a container's init.
pub(super) fn stdio_paths(request: &CreateTaskRequest) -> StdioPaths {
    StdioPaths {
        stdin: request.stdin.clone(),
        stdout: request.stdout.clone(),
        stderr: request.stderr.clone(),
        terminal: request.terminal,
    }
}

pub(super) fn exec_request(
    request: ExecProcessRequest,
    parent: Option<SpanContext>,
) -> ttrpc::Result<ExecRequest> {
    let id = Id::parse("exec id", &request.exec_id)?;
    // The type is that of the OCI spec's `Process`. Only the value counts, as in containerd's own
    // shims.
    let spec = request.spec.into_option().map(|any| any.value).unwrap_or_default();
    let stdio = StdioPaths {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
        terminal: request.terminal,
    };
    Ok(ExecRequest { id, spec, stdio, parent, trace: StartTrace::default() })
}

pub(super) fn size(request: &ResizePtyRequest) -> ttrpc::Result<Size> {
    // 32 bits in the message, 16 in the kernel's `winsize`.
    let dimension = |what: &str, value: u32| {
        let wrong = |_| error(Code::INVALID_ARGUMENT, format!("{what} {value} is above 65535"));
        u16::try_from(value).map_err(wrong)
    };
    Ok(Size {
        columns: dimension("width", request.width)?,
        rows: dimension("height", request.height)?,
    })
}

pub(super) fn state_response(container: &Container, process: &Process) -> StateResponse {
    let info = process.info();
    let status = process.status();
    let mut response = StateResponse {
        id: info.container.to_string(),
        bundle: container.bundle.display().to_string(),
        pid: info.pid,
        status: EnumOrUnknown::new(wire_status(container.state_of(process))),
        stdin: info.stdio.stdin.clone(),
        stdout: info.stdio.stdout.clone(),
        stderr: info.stdio.stderr.clone(),
        terminal: info.stdio.terminal,
        exec_id: exec_id(info),
        ..StateResponse::default()
    };
    if let Some(exit) = &status.exit {
        response.exit_status = exit.status.get();
    }
    // Until the end as runc's shim: containerd 1.7 and later read 1970 from an absent field, and
    // their clients ask for the zero time.
    let zero = || MessageField::some(Timestamp { seconds: ZERO_TIME, ..Timestamp::default() });
    response.exited_at = status.exit.map_or_else(zero, |exit| timestamp(exit.at));
    response
}

fn wire_status(state: State) -> WireStatus {
    match state {
        // containerd has no status for a process that is starting.
        State::Created | State::Starting => WireStatus::CREATED,
        State::Running => WireStatus::RUNNING,
        State::Paused => WireStatus::PAUSED,
        State::Stopped => WireStatus::STOPPED,
    }
}

pub(crate) fn delete_response(pid: u32, exit: Exit) -> DeleteResponse {
    DeleteResponse {
        pid,
        exit_status: exit.status.get(),
        exited_at: timestamp(exit.at),
        ..DeleteResponse::default()
    }
}

fn exec_id(info: &Info) -> String {
    info.exec.as_ref().map(Id::to_string).unwrap_or_default()
}

/// The id of a process in an exit event: the exec's, or the container's for its init.
fn process_id(info: &Info) -> String {
    info.exec.as_ref().unwrap_or(&info.container).to_string()
}

/// The topic and the message of an event.
///
/// The messages are those of `github.com/containerd/containerd/api/events/task.proto`.
pub(crate) fn event(event: &Event) -> ttrpc::Result<(&'static str, Any)> {
    Ok(match event {
        Event::Created { process, bundle, rootfs } => {
            (topic::TASK_CREATE_EVENT_TOPIC, any(&created(process, bundle, rootfs))?)
        }
        Event::ExecAdded { process } => (
            topic::TASK_EXEC_ADDED_EVENT_TOPIC,
            any(&wire::TaskExecAdded {
                container_id: process.container.to_string(),
                exec_id: exec_id(process),
                ..Default::default()
            })?,
        ),
        Event::Started { process } => started(process)?,
        Event::Exited { process, exit, .. } => (
            topic::TASK_EXIT_EVENT_TOPIC,
            any(&wire::TaskExit {
                container_id: process.container.to_string(),
                id: process_id(process),
                pid: process.pid,
                exit_status: exit.status.get(),
                exited_at: timestamp(exit.at),
                ..Default::default()
            })?,
        ),
        Event::Deleted { process, exit } => (
            topic::TASK_DELETE_EVENT_TOPIC,
            any(&wire::TaskDelete {
                container_id: process.container.to_string(),
                // Always empty: execs have no delete event.
                id: exec_id(process),
                pid: process.pid,
                exit_status: exit.status.get(),
                exited_at: timestamp(exit.at),
                ..Default::default()
            })?,
        ),
        Event::OutOfMemory { container } => (
            topic::TASK_OOM_EVENT_TOPIC,
            any(&wire::TaskOOM { container_id: container.to_string(), ..Default::default() })?,
        ),
        Event::Paused { container } => (
            topic::TASK_PAUSED_EVENT_TOPIC,
            any(&wire::TaskPaused { container_id: container.to_string(), ..Default::default() })?,
        ),
        Event::Resumed { container } => (
            topic::TASK_RESUMED_EVENT_TOPIC,
            any(&wire::TaskResumed { container_id: container.to_string(), ..Default::default() })?,
        ),
    })
}

fn started(process: &Info) -> ttrpc::Result<(&'static str, Any)> {
    let container_id = process.container.to_string();
    let pid = process.pid;
    Ok(match &process.exec {
        None => {
            let message = wire::TaskStart { container_id, pid, ..Default::default() };
            (topic::TASK_START_EVENT_TOPIC, any(&message)?)
        }
        Some(exec) => {
            let exec_id = exec.to_string();
            let message =
                wire::TaskExecStarted { container_id, exec_id, pid, ..Default::default() };
            (topic::TASK_EXEC_STARTED_EVENT_TOPIC, any(&message)?)
        }
    })
}

fn created(process: &Info, bundle: &str, rootfs: &[MountConfig]) -> wire::TaskCreate {
    let rootfs = rootfs.iter().map(|mount| types::mount::Mount {
        type_: mount.kind.clone(),
        source: mount.source.clone(),
        options: mount.options.clone(),
        ..Default::default()
    });
    let io = wire::TaskIO {
        stdin: process.stdio.stdin.clone(),
        stdout: process.stdio.stdout.clone(),
        stderr: process.stdio.stderr.clone(),
        terminal: process.stdio.terminal,
        ..Default::default()
    };
    wire::TaskCreate {
        container_id: process.container.to_string(),
        bundle: bundle.to_owned(),
        rootfs: rootfs.collect(),
        io: MessageField::some(io),
        pid: process.pid,
        ..Default::default()
    }
}

/// A process in the answer of `Pids`.
// All processes have the pid of their sandbox, so only the details identify an exec.
pub(super) fn process_info(info: &Info) -> ttrpc::Result<types::task::ProcessInfo> {
    let details = |exec: &Id| {
        let details = ProcessDetails { exec_id: exec.to_string(), ..ProcessDetails::default() };
        any_named("containerd.runc.v1.ProcessDetails", &details)
    };
    let info = types::task::ProcessInfo {
        pid: info.pid,
        info: info.exec.as_ref().map(details).transpose()?.into(),
        ..Default::default()
    };
    Ok(info)
}
