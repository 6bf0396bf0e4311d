//! A played delegate for tests: its program is a script, its process sleeps, and this process
//! serves its Task service. Nothing runs in its containers.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command},
    sync::Arc,
};

use async_trait::async_trait;
use containerd_shim_protos::{
    api::{
        ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse, DeleteRequest,
        DeleteResponse, Empty, ExecProcessRequest, KillRequest, ShutdownRequest, StartRequest,
        StartResponse, StateRequest, StateResponse, StatsRequest, StatsResponse, Status,
        WaitRequest, WaitResponse,
    },
    cgroups_v2::metrics::{CPUStat, Metrics, PidsStat},
    protobuf::{EnumOrUnknown, Message, MessageField, well_known_types::any::Any},
    shim_async::{Task, create_task},
    ttrpc::{
        self, Code,
        r#async::{Server, TtrpcContext},
    },
};
use tokio::sync::{Notify, watch};

use super::{NativeHost, record::Record, setting::NativeRuntime};
use crate::{containerd::shim_client::ShimAddress, lock::Mutex};

/// Directory that its process works in.
const PLACE: &str = "place";

/// A played delegate. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Played(Arc<Shared>);

struct Shared {
    directory: tempfile::TempDir,
    process: Mutex<Child>,
    /// The exit status of each process that has ended, by container and exec.
    processes: watch::Sender<BTreeMap<Key, Option<u32>>>,
    calls: Mutex<Vec<String>>,
    gates: Mutex<HashMap<&'static str, Arc<Gate>>>,
    failures: Mutex<HashMap<&'static str, Code>>,
}

type Key = (String, String);

/// A method that has had its effect and does not answer.
#[derive(Default)]
pub(crate) struct Gate {
    reached: Notify,
    opened: Notify,
}

impl Gate {
    pub(crate) async fn reached(&self) {
        self.reached.notified().await;
    }

    pub(crate) fn open(&self) {
        self.opened.notify_one();
    }
}

fn status(code: Code, text: &str) -> ttrpc::Error {
    ttrpc::Error::RpcStatus(ttrpc::get_status(code, text))
}

impl Played {
    /// Serves it. Keep the server.
    pub(crate) async fn serve() -> (Self, Server) {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join(PLACE);
        fs::create_dir(&place).unwrap();
        let process = Command::new("sleep").arg("1000").current_dir(place).spawn().unwrap();
        let played = Self(Arc::new(Shared {
            directory,
            process: Mutex::new(process),
            processes: watch::Sender::default(),
            calls: Mutex::default(),
            gates: Mutex::default(),
            failures: Mutex::default(),
        }));
        let address = played.record().address.address;
        played.on_start(&format!(
            r#"echo '{{"version":3,"address":"{address}","protocol":"ttrpc"}}'"#
        ));
        let program = played.file("program");
        let directory = played.file("").display().to_string();
        let script = format!(
            "#!/bin/sh\ncd {directory}\nfor action; do :; done\n\
             echo $action >> commands\nif [ $action = start ]; then . ./start; fi\n"
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let mut server = Server::new().bind(&address).unwrap();
        server = server.register_service(create_task(Arc::new(played.clone())));
        server.start().await.unwrap();
        (played, server)
    }

    /// The setting that chooses it.
    pub(crate) fn host(&self) -> NativeHost {
        let program = self.file("program").display().to_string();
        NativeHost { runtime: NativeRuntime::parse(&program).unwrap(), ..NativeHost::off() }
    }

    /// The record of its containers.
    pub(crate) fn record(&self) -> Record {
        let address = format!("unix://{}", self.file("socket").display());
        Record {
            program: self.file("program"),
            directory: self.file(PLACE).canonicalize().unwrap(),
            address: ShimAddress { address, version: 3 },
            pid: self.0.process.lock().id(),
        }
    }

    /// A file in its directory, in which its program runs.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.directory.path().join(name)
    }

    /// Has the action `start` run this script.
    pub(crate) fn on_start(&self, script: &str) {
        fs::write(self.file("start"), format!("{script}\n")).unwrap();
    }

    /// The actions of its program so far.
    pub(crate) fn commands(&self) -> Vec<String> {
        let told = fs::read_to_string(self.file("commands")).unwrap_or_default();
        told.lines().map(str::to_owned).collect()
    }

    /// The calls so far, without `Connect` and `Wait`.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.0.calls.lock().clone()
    }

    /// Holds back the next answer of a method.
    pub(crate) fn hold(&self, method: &'static str) -> Arc<Gate> {
        let gate = Arc::<Gate>::default();
        self.0.gates.lock().insert(method, gate.clone());
        gate
    }

    /// Has the next call of a method fail.
    pub(crate) fn fail(&self, method: &'static str, code: Code) {
        self.0.failures.lock().insert(method, code);
    }

    /// Adds a container.
    pub(crate) fn add(&self, id: &str) {
        let key = (id.to_owned(), String::new());
        self.0.processes.send_modify(|all| {
            all.insert(key, None);
        });
    }

    /// Ends a process. Without an exec, the init.
    pub(crate) fn exit(&self, id: &str, exec: &str, status: u32) {
        self.0.processes.send_modify(|all| {
            if let Some(exit) = all.get_mut(&(id.to_owned(), exec.to_owned())) {
                exit.get_or_insert(status);
            }
        });
    }

    /// Kills it. It answers no further call.
    pub(crate) fn die(&self) {
        let mut process = self.0.process.lock();
        process.kill().unwrap();
        process.wait().unwrap();
        drop(process);
        // Wakes the calls that wait.
        self.0.processes.send_modify(|_| {});
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.0.process.lock().try_wait().unwrap().is_none()
    }

    /// The begin of a call.
    fn called(&self, method: &str, id: &str, exec: &str) -> ttrpc::Result<Key> {
        self.0.calls.lock().push(format!("{method} {id}{exec}"));
        if !self.is_alive() {
            return Err(status(Code::UNAVAILABLE, "dead"));
        }
        match self.0.failures.lock().remove(method) {
            Some(code) => Err(status(code, "told to fail")),
            None => Ok((id.to_owned(), exec.to_owned())),
        }
    }

    /// The end of a call.
    async fn answer(&self, method: &str) {
        let gate = self.0.gates.lock().remove(method);
        if let Some(gate) = gate {
            gate.reached.notify_one();
            gate.opened.notified().await;
        }
    }

    fn find(&self, key: &Key) -> ttrpc::Result<Option<u32>> {
        let found = self.0.processes.borrow().get(key).copied();
        found.ok_or_else(|| status(Code::NOT_FOUND, "no such process"))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut process = self.process.lock();
        let _ = process.kill();
        let _ = process.wait();
    }
}

#[async_trait]
impl Task for Played {
    async fn connect(&self, _: &TtrpcContext, _: ConnectRequest) -> ttrpc::Result<ConnectResponse> {
        let shim_pid = self.0.process.lock().id();
        Ok(ConnectResponse { shim_pid, ..Default::default() })
    }

    async fn create(
        &self,
        _: &TtrpcContext,
        request: CreateTaskRequest,
    ) -> ttrpc::Result<CreateTaskResponse> {
        let key = self.called("Create", &request.id, "")?;
        self.0.processes.send_modify(|all| {
            all.insert(key, None);
        });
        self.answer("Create").await;
        let pid = self.0.process.lock().id();
        Ok(CreateTaskResponse { pid, ..Default::default() })
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> ttrpc::Result<StartResponse> {
        let key = self.called("Start", &request.id, &request.exec_id)?;
        self.find(&key)?;
        Ok(StartResponse::default())
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> ttrpc::Result<Empty> {
        let key = self.called("Exec", &request.id, &request.exec_id)?;
        self.0.processes.send_modify(|all| {
            all.insert(key, None);
        });
        Ok(Empty::default())
    }

    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> ttrpc::Result<StateResponse> {
        let exit = self.find(&self.called("State", &request.id, &request.exec_id)?)?;
        let status = if exit.is_some() { Status::STOPPED } else { Status::RUNNING };
        Ok(StateResponse {
            status: EnumOrUnknown::new(status),
            exit_status: exit.unwrap_or_default(),
            ..Default::default()
        })
    }

    /// Two processes and a second of CPU time each.
    async fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> ttrpc::Result<StatsResponse> {
        self.find(&self.called("Stats", &request.id, "")?)?;
        self.answer("Stats").await;
        let pids = MessageField::some(PidsStat { current: 2, ..Default::default() });
        let cpu = MessageField::some(CPUStat { usage_usec: 1_000_000, ..Default::default() });
        let value = Metrics { pids, cpu, ..Default::default() }.write_to_bytes().unwrap();
        let type_url = "io.containerd.cgroups.v2.Metrics".to_owned();
        let stats = MessageField::some(Any { type_url, value, ..Default::default() });
        Ok(StatsResponse { stats, ..Default::default() })
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> ttrpc::Result<WaitResponse> {
        let key = (request.id, request.exec_id);
        let mut processes = self.0.processes.subscribe();
        loop {
            processes.borrow_and_update();
            if !self.is_alive() {
                return Err(status(Code::UNAVAILABLE, "dead"));
            }
            if let Some(exit_status) = self.find(&key)? {
                return Ok(WaitResponse { exit_status, ..Default::default() });
            }
            let _ = processes.changed().await;
        }
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> ttrpc::Result<Empty> {
        let key = self.called("Kill", &request.id, &request.exec_id)?;
        if self.find(&key)?.is_some() {
            return Err(status(Code::NOT_FOUND, "it has ended"));
        }
        self.exit(&key.0, &key.1, 128 + request.signal);
        Ok(Empty::default())
    }

    async fn delete(
        &self,
        _: &TtrpcContext,
        request: DeleteRequest,
    ) -> ttrpc::Result<DeleteResponse> {
        let key = self.called("Delete", &request.id, &request.exec_id)?;
        let exit = self.find(&key)?;
        let exit_status = exit.ok_or_else(|| status(Code::FAILED_PRECONDITION, "it runs"))?;
        self.0.processes.send_modify(|all| {
            all.remove(&key);
        });
        self.answer("Delete").await;
        Ok(DeleteResponse { exit_status, ..Default::default() })
    }

    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> ttrpc::Result<Empty> {
        self.die();
        Ok(Empty::default())
    }
}
