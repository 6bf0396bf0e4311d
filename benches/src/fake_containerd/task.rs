//! A sandbox's socket, asynchronous: the calls containerd makes, on one connection, any number at a time; made by
//! `fake`, used by the benchmarks that act as containerd.

use std::time::Duration;

use anyhow::{Context, Result};
use containerd_shim_protos::api::{
    CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, KillRequest,
    ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest,
    StatsResponse, WaitRequest, WaitResponse,
};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::shim_async::Client;
use containerd_shim_protos::ttrpc::proto::Request;
use runwasi_tests::meter::Figures;
use runwasi_tests::shim::TASK_V2;

use super::Container;

/// Far above what any call but `Wait` takes on a full machine: a hung server is an error, not a hung run.
const LIMIT: Duration = Duration::from_secs(60);

/// `SIGKILL`.
const KILL: u32 = 9;

/// One connection to a sandbox's socket, which stays open as long as this or a clone of it exists.
#[derive(Clone)]
pub(crate) struct Tasks {
    client: Client,
}

impl Tasks {
    /// Connects to `unix://…`.
    pub(super) async fn connect(address: &str) -> Result<Self> {
        let client = Client::connect(address)
            .await
            .with_context(|| format!("cannot connect to {address:?}"))?;
        Ok(Self { client })
    }

    /// `Create`, with the container's root file system; nothing has run then.
    pub(crate) async fn create(&self, container: &Container) -> Result<()> {
        let mut request = CreateTaskRequest::new();
        request.id = container.id.clone();
        request.bundle = container.bundle.path().to_string_lossy().into_owned();
        request.rootfs = vec![container.rootfs.clone()];
        if let Some(fifo) = &container.stdin {
            request.stdin = fifo.to_string_lossy().into_owned();
        }
        if let Some(fifo) = &container.stdout {
            request.stdout = fifo.to_string_lossy().into_owned();
            // runc's shim wants both or none.
            request.stderr.clone_from(&request.stdout);
        }
        self.call::<CreateTaskResponse>("Create", &request.id, &request).await?;
        Ok(())
    }

    /// `Start` of the init process.
    pub(crate) async fn start(&self, id: &str) -> Result<()> {
        let request = StartRequest { id: id.to_owned(), ..Default::default() };
        self.call::<StartResponse>("Start", id, &request).await?;
        Ok(())
    }

    /// `Wait` for the init process: its exit status.
    pub(crate) async fn wait(&self, id: &str) -> Result<u32> {
        let request = WaitRequest { id: id.to_owned(), ..Default::default() };
        Ok(self.call::<WaitResponse>("Wait", id, &request).await?.exit_status)
    }

    /// `State` of the init process, its answer unread.
    pub(crate) async fn state(&self, id: &str) -> Result<()> {
        let request = StateRequest { id: id.to_owned(), ..Default::default() };
        self.call::<StateResponse>("State", id, &request).await?;
        Ok(())
    }

    /// `Kill` of the init process by SIGKILL.
    pub(crate) async fn kill(&self, id: &str) -> Result<()> {
        let request = KillRequest { id: id.to_owned(), signal: KILL, ..Default::default() };
        self.call::<Empty>("Kill", id, &request).await?;
        Ok(())
    }

    /// `Delete` of the init process.
    pub(crate) async fn delete(&self, id: &str) -> Result<()> {
        let request = DeleteRequest { id: id.to_owned(), ..Default::default() };
        self.call::<DeleteResponse>("Delete", id, &request).await?;
        Ok(())
    }

    /// `Kill`, the end, and `Delete`.
    pub(crate) async fn remove(&self, id: &str) -> Result<()> {
        self.kill(id).await?;
        self.wait(id).await?;
        self.delete(id).await
    }

    /// `Shutdown` of the sandbox. Its server may be gone before it can answer.
    pub(crate) async fn shutdown(&self, id: &str) {
        let request = ShutdownRequest { id: id.to_owned(), ..Default::default() };
        drop(self.call::<Empty>("Shutdown", id, &request).await);
    }

    /// CPU time used by a container up to now, from `Stats`.
    pub(crate) async fn cpu(&self, id: &str) -> Result<Duration> {
        let request = StatsRequest { id: id.to_owned(), ..Default::default() };
        let stats = self.call::<StatsResponse>("Stats", id, &request).await?.stats;
        Ok(Figures::of(&stats).with_context(|| format!("Stats of {id}"))?.cpu)
    }

    async fn call<A: Message>(&self, method: &str, id: &str, request: &impl Message) -> Result<A> {
        let mut message = Request::new();
        message.service = TASK_V2.to_owned();
        message.method = method.to_owned();
        message.timeout_nano = i64::try_from(LIMIT.as_nanos())?;
        message.payload = request.write_to_bytes()?;
        let answer =
            self.client.request(message).await.with_context(|| format!("{method} of {id}"))?;
        A::parse_from_bytes(&answer.payload).with_context(|| format!("answer to {method} of {id}"))
    }
}
