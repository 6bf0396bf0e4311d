//! The floor: the fastest containerd shim that does nothing; containerd starts it for the benchmarks.
//!
//! Its containers mount nothing, run nothing and exit with 0 as soon as they are started. What `ctr run`
//! takes with it is what containerd and `ctr` take on this machine, so a real shim's own cost is its time above
//! this one. It is never installed.
//!
//! `start` binds the socket, hands it to a server as that process's stdin and prints the address at once; the server
//! is this program without an action, and leaves at `Shutdown`.

use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use containerd_shim::{Flags, parse};
use containerd_shim_protos::api;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim_async::{Task, create_task};
use containerd_shim_protos::ttrpc::asynchronous::transport::Listener;
use containerd_shim_protos::ttrpc::asynchronous::{Server, TtrpcContext};
use containerd_shim_protos::ttrpc::{Error, Result as RpcResult};
use containerd_shim_protos::types::task::ProcessInfo;
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, watch};

const SOCKETS: &str = "/run/containerd/s";

fn main() -> Result<()> {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let flags = parse(&args)?;
    match flags.action.as_str() {
        "start" => start(&flags),
        "delete" => delete(&flags),
        // containerd gives `-info` and `-v` no action either, and no socket.
        "" if !flags.info && !flags.version => serve(&flags),
        other => bail!("the floor answers start and delete, not {other:?}"),
    }
}

fn socket_path(flags: &Flags) -> PathBuf {
    let name = format!("{}/{}/{}", flags.address, flags.namespace, flags.id);
    let hex: String =
        Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    Path::new(SOCKETS).join(hex)
}

fn start(flags: &Flags) -> Result<()> {
    let path = socket_path(flags);
    let listener = bind(&path).with_context(|| format!("cannot bind {}", path.display()))?;
    let address = format!("unix://{}", path.display());
    // containerd 1.6 reads the address from the bundle, which is the working directory.
    std::fs::write("address", &address).context("cannot write the bundle's address file")?;
    let server = Command::new(std::env::current_exe()?)
        .args(["-namespace", &flags.namespace, "-id", &flags.id, "-address", &flags.address])
        .current_dir("/")
        .stdin(OwnedFd::from(listener))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A Ctrl-C in the terminal of the benchmark is not meant for the shims.
        .process_group(0)
        .spawn();
    if server.is_err() {
        drop(std::fs::remove_file(&path));
    }
    server.context("cannot start the server")?;
    std::io::stdout().write_all(address.as_bytes()).context("cannot print the address")
}

fn bind(path: &Path) -> std::io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => std::fs::create_dir_all(SOCKETS)?,
        // Left by a server that was killed: no two living containers have one id.
        Err(error) if error.kind() == ErrorKind::AddrInUse => std::fs::remove_file(path)?,
        bound => return bound,
    }
    UnixListener::bind(path)
}

fn delete(flags: &Flags) -> Result<()> {
    // Gone already unless the server was killed.
    drop(std::fs::remove_file(socket_path(flags)));
    let reply = api::DeleteResponse { pid: own_pid(), exited_at: now(), ..Default::default() };
    std::io::stdout().write_all(&reply.write_to_bytes()?).context("cannot print the reply")
}

#[tokio::main(flavor = "current_thread")]
async fn serve(flags: &Flags) -> Result<()> {
    let socket =
        std::io::stdin().as_fd().try_clone_to_owned().context("stdin is no listening socket")?;
    let listener =
        Listener::try_from(UnixListener::from(socket)).context("stdin is no listening socket")?;
    let floor = Arc::new(Floor { started: watch::Sender::new(false), leave: Notify::new() });
    let mut services = create_task(floor.clone());
    // The messages of both versions are the same; the crate registers only the newer name.
    for service in create_task(floor.clone()).into_values() {
        services.insert("containerd.task.v2.Task".to_owned(), service);
    }
    let mut server = Server::new().add_listener(listener).register_service(services);
    server.start().await?;
    floor.leave.notified().await;
    drop(std::fs::remove_file(socket_path(flags)));
    server.shutdown().await?;
    Ok(())
}

/// One container that has ended as soon as it has started.
struct Floor {
    // A watch, because any number of clients wait for the one change.
    started: watch::Sender<bool>,
    leave: Notify,
}

#[async_trait]
impl Task for Floor {
    async fn create(
        &self,
        _: &TtrpcContext,
        _: api::CreateTaskRequest,
    ) -> RpcResult<api::CreateTaskResponse> {
        Ok(api::CreateTaskResponse { pid: own_pid(), ..Default::default() })
    }

    async fn start(&self, _: &TtrpcContext, _: api::StartRequest) -> RpcResult<api::StartResponse> {
        self.started.send_replace(true);
        Ok(api::StartResponse { pid: own_pid(), ..Default::default() })
    }

    async fn wait(&self, _: &TtrpcContext, _: api::WaitRequest) -> RpcResult<api::WaitResponse> {
        let ended = self.started.subscribe().wait_for(|started| *started).await.is_ok();
        match ended {
            true => Ok(api::WaitResponse { exited_at: now(), ..Default::default() }),
            false => Err(Error::Others("the shim leaves".to_owned())),
        }
    }

    async fn state(
        &self,
        _: &TtrpcContext,
        asked: api::StateRequest,
    ) -> RpcResult<api::StateResponse> {
        let status =
            if *self.started.borrow() { api::Status::STOPPED } else { api::Status::CREATED };
        let (id, pid) = (asked.id, own_pid());
        Ok(api::StateResponse {
            id,
            pid,
            status: status.into(),
            exited_at: now(),
            ..Default::default()
        })
    }

    async fn delete(
        &self,
        _: &TtrpcContext,
        _: api::DeleteRequest,
    ) -> RpcResult<api::DeleteResponse> {
        Ok(api::DeleteResponse { pid: own_pid(), exited_at: now(), ..Default::default() })
    }

    async fn kill(&self, _: &TtrpcContext, _: api::KillRequest) -> RpcResult<api::Empty> {
        self.started.send_replace(true);
        Ok(api::Empty::new())
    }

    async fn connect(
        &self,
        _: &TtrpcContext,
        _: api::ConnectRequest,
    ) -> RpcResult<api::ConnectResponse> {
        Ok(api::ConnectResponse { shim_pid: own_pid(), task_pid: own_pid(), ..Default::default() })
    }

    async fn pids(&self, _: &TtrpcContext, _: api::PidsRequest) -> RpcResult<api::PidsResponse> {
        let only = ProcessInfo { pid: own_pid(), ..Default::default() };
        Ok(api::PidsResponse { processes: vec![only], ..Default::default() })
    }

    async fn shutdown(&self, _: &TtrpcContext, _: api::ShutdownRequest) -> RpcResult<api::Empty> {
        self.leave.notify_one();
        Ok(api::Empty::new())
    }
}

fn own_pid() -> u32 {
    std::process::id()
}

fn now() -> MessageField<Timestamp> {
    MessageField::some(std::time::SystemTime::now().into())
}
