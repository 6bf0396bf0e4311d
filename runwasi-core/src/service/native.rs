//! Calls for native containers: each goes to the delegate unchanged, and so does its answer.
//!
//! The calls that change what the sandbox knows (`Create`, `Exec`, `Delete`) and those that are
//! answered without a delegate that was killed (`State`, `Wait`, `Pids`, `Delete`) have
//! functions of their own.

use std::{sync::Arc, time::Instant};

use containerd_shim_protos::{
    api::{
        CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse, Empty,
        ExecProcessRequest, PidsRequest, PidsResponse, StartRequest, StartResponse, StateRequest,
        StateResponse, Status, WaitRequest, WaitResponse,
    },
    protobuf::{EnumOrUnknown, Message},
    ttrpc::{self, Code, r#async::TtrpcContext},
    types::task::ProcessInfo,
};
use tracing::Instrument;

use super::{convert, native_usage, options, status::error};
use crate::{
    containerd::shim_client::{has_code, of_delete, of_wait},
    engine::exit::Exit,
    id::Id,
    observe::{self, Kind, Step},
    sandbox::{Sandbox, native::NativePlan, native_container::NativeContainer},
    traces::{context::SpanContext, start::StartTrace},
};

/// A native container that a call is for. Cheap to clone.
#[derive(Clone)]
pub(super) struct Native {
    sandbox: Sandbox,
    container: Arc<NativeContainer>,
}

/// Has the delegate create a container. The creation runs to its end even if the caller goes away,
/// since what has begun of it is taken back only there. The container is ended then: the `Delete`
/// of that caller and the `delete` of containerd may have come before it existed.
pub(super) async fn create(
    sandbox: &Sandbox,
    plan: NativePlan,
    context: &TtrpcContext,
    mut request: CreateTaskRequest,
) -> ttrpc::Result<CreateTaskResponse> {
    let metadata = context.metadata.clone();
    let timeout = context.timeout_nano;
    // Dropped with this call.
    let caller = Arc::new(());
    let waiting = Arc::downgrade(&caller);
    let creating = sandbox.clone();
    let work = async move {
        let place = plan.place().await?;
        let given = request.options.take();
        request.options = options::for_runc(given, place.systemd_cgroup).into();
        let client = place.delegate.client.clone();
        let span = place.part("create");
        let created: ttrpc::Result<CreateTaskResponse> =
            client.forward("Create", &request, metadata, timeout).await;
        drop(span);
        let created = created.and_then(|created| Ok(place.check_ready().map(|()| created)?));
        match &created {
            Ok(created) => {
                place.fill(created.pid, convert::stdio_paths(&request)).await;
                // Not before: from here on a `delete` of containerd finds it.
                if waiting.strong_count() == 0 {
                    creating.end_unclaimed(&request.id).await;
                }
            }
            Err(error) => place.give_up(error).await,
        }
        created
    };
    let created = to_completion(sandbox, work).await;
    drop(caller);
    created
}

/// Runs `work` to its end even if the caller goes away.
async fn to_completion<T: Send + 'static>(
    sandbox: &Sandbox,
    work: impl Future<Output = ttrpc::Result<T>> + Send + 'static,
) -> ttrpc::Result<T> {
    let lost = |_| error(Code::UNAVAILABLE, "the sandbox is ending");
    sandbox.run_to_completion(work.in_current_span()).await.map_err(lost)?
}

/// The parts of a call's context that work needs which outlives the call.
fn owned(context: &TtrpcContext) -> TtrpcContext {
    TtrpcContext {
        metadata: context.metadata.clone(),
        timeout_nano: context.timeout_nano,
        ..TtrpcContext::default()
    }
}

/// The id of an exec. Always valid: containerd has checked it, and the delegate has answered for
/// it.
fn exec(id: &str) -> Option<Id> {
    Id::parse("exec id", id).ok()
}

impl Native {
    /// For a call of a client.
    pub(super) fn new(sandbox: &Sandbox, container: Arc<NativeContainer>) -> Self {
        Self { sandbox: sandbox.clone(), container }
    }

    /// Forwards a call.
    pub(super) async fn forward<Q: Message, A: Message>(
        &self,
        method: &str,
        context: &TtrpcContext,
        request: &Q,
    ) -> ttrpc::Result<A> {
        let client = &self.container.delegate.client;
        let metadata = context.metadata.clone();
        match client.forward(method, request, metadata, context.timeout_nano).await {
            Ok(answer) => Ok(answer),
            Err(answered @ ttrpc::Error::RpcStatus(_)) => Err(answered),
            Err(broken) => Err(self.broken(&broken).await),
        }
    }

    async fn broken(&self, cause: &ttrpc::Error) -> ttrpc::Error {
        let NativeContainer { id, delegate, .. } = &*self.container;
        let pid = delegate.pid();
        let text = format!("container {id}: its native runtime (process {pid}): {cause}");
        // The code that containerd's clients take for "it has ended anyway".
        let ending = delegate.is_ending().await;
        let code = if ending { Code::NOT_FOUND } else { Code::UNAVAILABLE };
        error(code, text)
    }

    fn is_orphan(&self) -> bool {
        self.container.delegate.has_ended()
    }

    /// `Start`.
    pub(super) async fn start(
        &self,
        context: &TtrpcContext,
        request: &StartRequest,
    ) -> ttrpc::Result<StartResponse> {
        self.sandbox.is_ready_for(&self.container.id)?;
        let begun = Instant::now();
        let exec = exec(&request.exec_id);
        // Before the answer: the exit of a short one may be known first.
        let starts_exec = self.container.exec_started(&request.exec_id);
        if starts_exec {
            self.sandbox.follow_exec(&self.container, &request.exec_id);
        }
        let starting = exec.is_none().then(|| self.container.note_start(begun));
        // Ours is the delegate's answer: what runc does before the first instruction is in it.
        let trace = self.container.trace(&request.exec_id);
        let span = trace.part("start");
        let answer = self.forward("Start", context, request).await;
        drop(span);
        let subject = &self.container.subject;
        match &answer {
            Ok(_) => {
                trace.started();
                observe::started(subject, exec.as_ref(), begun.elapsed());
            }
            Err(error) => {
                // Of a broken connection (`broken`) it may run all the same.
                let may_run =
                    has_code(error, Code::UNAVAILABLE) || has_code(error, Code::NOT_FOUND);
                if starts_exec && !may_run {
                    self.container.exec_refused(&request.exec_id);
                }
                trace.failed(error);
                observe::refused(subject, exec.as_ref(), Step::Start, error);
            }
        }
        drop(starting);
        answer
    }

    /// Notes an exit that the caller is told.
    fn note_exit(&self, exec: &str, ended: &WaitResponse) {
        match exec {
            "" => {
                self.container.keep_exit(of_wait(ended));
            }
            exec => self.container.exec_ended(exec, of_wait(ended)),
        }
    }

    /// `State`.
    pub(super) async fn state(
        &self,
        context: &TtrpcContext,
        request: &StateRequest,
    ) -> ttrpc::Result<StateResponse> {
        self.note_question(&request.exec_id);
        let answer: ttrpc::Result<StateResponse> = self.forward("State", context, request).await;
        if let Ok(state) = &answer
            && state.status.enum_value() == Ok(Status::STOPPED)
        {
            let ended = WaitResponse {
                exit_status: state.exit_status,
                exited_at: state.exited_at.clone(),
                ..WaitResponse::default()
            };
            self.note_exit(&request.exec_id, &ended);
        }
        if answer.is_ok() || !self.is_orphan() {
            return answer;
        }
        let exit = self.exit_of_orphan(&request.exec_id).await?;
        let NativeContainer { id, bundle, pid, stdio, .. } = &*self.container;
        Ok(StateResponse {
            id: id.to_string(),
            bundle: bundle.display().to_string(),
            pid: *pid,
            status: EnumOrUnknown::new(Status::STOPPED),
            stdin: stdio.stdin.clone(),
            stdout: stdio.stdout.clone(),
            stderr: stdio.stderr.clone(),
            terminal: stdio.terminal,
            exit_status: exit.status.get(),
            exited_at: convert::timestamp(exit.at),
            exec_id: request.exec_id.clone(),
            ..StateResponse::default()
        })
    }

    /// `Wait`.
    pub(super) async fn wait(
        &self,
        context: &TtrpcContext,
        request: &WaitRequest,
    ) -> ttrpc::Result<WaitResponse> {
        let answer: ttrpc::Result<WaitResponse> = self.forward("Wait", context, request).await;
        self.note_question(&request.exec_id);
        if let Ok(ended) = &answer {
            self.note_exit(&request.exec_id, ended);
        }
        if answer.is_ok() || !self.is_orphan() {
            return answer;
        }
        let exit = self.exit_of_orphan(&request.exec_id).await?;
        Ok(WaitResponse {
            exit_status: exit.status.get(),
            exited_at: convert::timestamp(exit.at),
            ..WaitResponse::default()
        })
    }

    /// `Pids`. The init is listed even if it is stopped, see the Task service.
    pub(super) async fn pids(
        &self,
        context: &TtrpcContext,
        request: &PidsRequest,
    ) -> ttrpc::Result<PidsResponse> {
        let answer = self.forward("Pids", context, request).await;
        if answer.is_ok() || !self.is_orphan() {
            return answer;
        }
        let init = ProcessInfo { pid: self.container.pid, ..ProcessInfo::default() };
        Ok(PidsResponse { processes: vec![init], ..PidsResponse::default() })
    }

    /// `Exec`.
    pub(super) async fn exec(
        &self,
        context: &TtrpcContext,
        request: &ExecProcessRequest,
    ) -> ttrpc::Result<Empty> {
        let begun = Instant::now();
        let exec = exec(&request.exec_id);
        let subject = &self.container.subject;
        let parent = SpanContext::of_metadata(&context.metadata);
        let trace = exec.as_ref().map(|exec| StartTrace::of_exec(subject, exec, parent.as_ref()));
        let trace = trace.unwrap_or_default();
        let span = trace.part("create");
        let answer = self.forward("Exec", context, request).await;
        drop(span);
        match &answer {
            Ok(_) => {
                self.container.exec_added(&request.exec_id, trace);
                observe::created(subject, exec.as_ref(), Kind::Native, begun.elapsed());
            }
            Err(error) => {
                trace.failed(error);
                observe::refused(subject, exec.as_ref(), Step::Exec, error);
            }
        }
        answer
    }

    /// `Delete`. It runs to its end even if the caller goes away: the delegate may have deleted the
    /// container, which is then not to stay here.
    pub(super) async fn delete(
        &self,
        context: &TtrpcContext,
        request: DeleteRequest,
    ) -> ttrpc::Result<DeleteResponse> {
        self.note_question(&request.exec_id);
        let native = self.clone();
        let context = owned(context);
        let work = async move { native.delete_now(&context, &request).await };
        to_completion(&self.sandbox, work).await
    }

    async fn delete_now(
        &self,
        context: &TtrpcContext,
        request: &DeleteRequest,
    ) -> ttrpc::Result<DeleteResponse> {
        // Before the deletion of the cgroup.
        self.container.look_for_oom().await;
        self.learn_last_usage(&request.exec_id).await;
        let answer: ttrpc::Result<DeleteResponse> = self.forward("Delete", context, request).await;
        let orphan = answer.is_err() && self.is_orphan();
        match (answer, request.exec_id.as_str()) {
            (Ok(answer), "") => {
                self.container.set_exit(of_delete(answer.clone()).1, None);
                self.sandbox.native_deleted(&self.container).await;
                Ok(answer)
            }
            (Ok(answer), exec) => {
                self.container.exec_deleted(exec);
                self.tell_exec_deleted(exec, &answer);
                Ok(answer)
            }
            (Err(_), "") if orphan => {
                let exit = self.sandbox.delete_orphan(&self.container).await;
                let exit = exit.ok_or_else(|| self.not_found())?;
                Ok(convert::delete_response(self.container.pid, exit))
            }
            (Err(_), exec) if orphan => {
                let exit = self.exit_of_orphan(exec).await?;
                self.container.exec_deleted(exec);
                Ok(convert::delete_response(0, exit))
            }
            (Err(cause), "") if has_code(&cause, Code::NOT_FOUND) => {
                let exit = self.sandbox.native_unknown(&self.container).await;
                Ok(convert::delete_response(self.container.pid, exit))
            }
            (Err(cause), _) => Err(cause),
        }
    }

    /// Learns the usage of a container before its deletion, for the metrics of its sandbox: its
    /// delegate does not tell it any more after that. Only a managed one has them.
    async fn learn_last_usage(&self, exec: &str) {
        if exec.is_empty() && self.sandbox.is_managed() {
            native_usage::learn(&self.container).await;
        }
    }

    /// Logs the end of an exec, of which only the answer to its deletion tells.
    fn tell_exec_deleted(&self, id: &str, answer: &DeleteResponse) {
        let Some(exec) = exec(id) else { return };
        let (_, exit) = of_delete(answer.clone());
        self.container.tell_exec_exit(&exec, exit, None);
        observe::deleted(&self.container.subject, Some(&exec));
    }

    fn note_question(&self, exec: &str) {
        if exec.is_empty() {
            self.sandbox.note_native_question(&self.container);
        }
    }

    fn not_found(&self) -> ttrpc::Error {
        error(Code::NOT_FOUND, format!("container {}: not found", self.container.id))
    }

    /// The exit of a process whose delegate was killed, once all of its container is gone.
    async fn exit_of_orphan(&self, exec: &str) -> ttrpc::Result<Exit> {
        let ended = self.container.wait().await.ok_or_else(|| self.not_found())?;
        if exec.is_empty() {
            return Ok(ended);
        }
        let unknown = || format!("process {exec} in container {}: not found", self.container.id);
        let exit = self.container.exit_of_exec(exec, ended.at);
        exit.ok_or_else(|| error(Code::NOT_FOUND, unknown()))
    }
}

#[cfg(test)]
mod tests;
