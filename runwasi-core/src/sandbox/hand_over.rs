//! The way of a value from the task that has made it to its caller, who may have gone.
//!
//! ```text
//! task: delegate ─▶ place ─▶ HandOver ─▶ call: `take` ─▶ the delegate creates the container
//!                               │ the client has closed its connection
//!                               ▼
//!                            the place is given up, and the delegate ended if it has no other user
//! ```

/// A value on its way. `undo` gets it if it is not taken.
pub(super) struct HandOver<T> {
    value: Option<T>,
    undo: fn(T),
}

impl<T> HandOver<T> {
    pub(super) fn new(value: T, undo: fn(T)) -> Self {
        Self { value: Some(value), undo }
    }

    /// The value. Always there: nothing else takes it.
    pub(super) fn take(mut self) -> Option<T> {
        self.value.take()
    }
}

impl<T> Drop for HandOver<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            (self.undo)(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::PermissionsExt,
        path::{Path, PathBuf},
        process::{Child, Command},
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use async_trait::async_trait;
    use containerd_shim_protos::{
        api::{ConnectRequest, ConnectResponse, Empty, ShutdownRequest},
        shim_async::{Task, create_task},
        ttrpc::{
            self,
            r#async::{Server, TtrpcContext},
        },
    };
    use tokio::time::{sleep, timeout};

    use crate::{
        container::{error::CreateError, host::Host, prepare::NativeProgram},
        id::Id,
        lock::Mutex,
        native::{NativeHost, setting::NativeRuntime},
        network::Network,
        runtime::{self, GuestRuntime},
        sandbox::{Reservation, Sandbox, native::NativePlace},
        shutdown::Tasks,
        testing::{ImageStore, Recorder, ScriptedEngine},
        traces::start::StartTrace,
    };

    const LIMIT: Duration = Duration::from_secs(30);

    /// A shim for native containers, whose process is a `sleep`.
    struct Shim {
        process: Mutex<Child>,
        shutdowns: AtomicUsize,
    }

    #[async_trait]
    impl Task for Shim {
        async fn connect(
            &self,
            _: &TtrpcContext,
            _: ConnectRequest,
        ) -> ttrpc::Result<ConnectResponse> {
            let shim_pid = self.process.lock().id();
            Ok(ConnectResponse { shim_pid, ..ConnectResponse::default() })
        }

        async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> ttrpc::Result<Empty> {
            self.shutdowns.fetch_add(1, Ordering::SeqCst);
            let mut process = self.process.lock();
            process.kill().unwrap();
            process.wait().unwrap();
            Ok(Empty::default())
        }
    }

    /// A program that starts the shim once the file `gate` exists, and tells its address.
    fn program(directory: &Path, socket: &Path) -> PathBuf {
        let path = directory.join("shim");
        let place = directory.display();
        let address = format!(r#"{{"version":3,"address":"unix://{}"}}"#, socket.display());
        let script = format!(
            "#!/bin/sh\n: > {place}/asked\nwhile [ ! -e {place}/gate ]; do sleep 0.01; done\n\
             echo '{address}'\n"
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn sandbox(program: &Path, guests: &GuestRuntime, tasks: &Tasks) -> Sandbox {
        Sandbox::new(Host {
            engine: Arc::new(ScriptedEngine),
            publisher: Arc::new(Recorder::default()),
            guests: guests.guests().clone(),
            tasks: tasks.clone(),
            bundle_roots: Arc::default(),
            namespace: Id::parse("namespace", &format!("t{}", std::process::id())).unwrap(),
            sandbox: Id::parse("sandbox id", "s").unwrap(),
            images: Arc::new(ImageStore::default()),
            cgroups: None,
            native: NativeHost {
                runtime: NativeRuntime::parse(&program.display().to_string()).unwrap(),
                ..NativeHost::off()
            },
            network: Network::of_process(),
        })
    }

    async fn place(sandbox: &Sandbox, bundle: &Path) -> Result<NativePlace, CreateError> {
        let id = Id::parse("id", "c").unwrap();
        let reservation = Reservation::take(&sandbox.shared, &id).unwrap();
        let program = NativeProgram {
            path: "/bin/true".into(),
            runtime: None,
            systemd_cgroup: false,
            pid_namespace: None,
            annotations: Default::default(),
        };
        let trace = StartTrace::default();
        sandbox.native_place(reservation, (bundle.to_owned(), &trace), program, Vec::new()).await
    }

    async fn until(what: &str, is_so: impl Fn() -> bool) {
        let so = async {
            while !is_so() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LIMIT, so).await.expect(what);
    }

    #[tokio::test]
    async fn delegate_ends_if_the_client_goes_away_during_its_start() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let process = Command::new("sleep").arg("1000").spawn().unwrap();
        let shim = Arc::new(Shim { process: Mutex::new(process), shutdowns: AtomicUsize::new(0) });
        let mut server = Server::new()
            .bind(&format!("unix://{}", socket.display()))
            .unwrap()
            .register_service(create_task(shim.clone()));
        server.start().await.unwrap();
        let guests = GuestRuntime::start(runtime::pod_workers()).unwrap();
        let tasks = Tasks::new(LIMIT);
        let sandbox = sandbox(&program(directory.path(), &socket), &guests, &tasks);
        tokio::select! {
            _ = place(&sandbox, directory.path()) => panic!("without the gate"),
            () = until("call of the program", || directory.path().join("asked").exists()) => {}
        }
        // The call is dropped, as by ttrpc for a client that has closed its connection.
        fs::write(directory.path().join("gate"), "").unwrap();
        until("end of the delegate", || shim.shutdowns.load(Ordering::SeqCst) == 1).await;
        until("end of the reservation", || sandbox.count() == 0).await;
        tasks.stop();
        tasks.drained().await;
        assert!(sandbox.shared.delegate.lock().await.is_none());
        guests.end();
    }
}
