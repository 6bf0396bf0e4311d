//! Engine with scripted guests: the first argument selects the behavior.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use async_trait::async_trait;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket},
    sync::Notify,
};

use crate::{
    Engine, EngineError, ExitStatus, GuestContext, Instance, InstanceSpec, Signal, SignalResponse,
};

/// Engine with these programs:
///
/// | args | behavior |
/// |---|---|
/// | `exit N` | ends with N |
/// | `print TEXT` | prints TEXT, ends with 0 |
/// | `cat` | copies stdin to stdout, ends with 0 |
/// | `wait` | waits forever |
/// | `spin` | computes forever and yields |
/// | `spawn` | starts a future that waits forever, ends with 0 |
/// | `graceful` | waits; ends with 0 on SIGTERM |
/// | `deaf` | waits; reports SIGTERM as handled, and ignores it |
/// | `never-ready` | waits without ever reporting itself ready |
/// | `fail` | fails before it is ready |
/// | `fail-late` | fails after it is ready |
/// | `panic` | panics after it is ready |
/// | `panic-in-signal` | waits; panics when it is told SIGTERM |
/// | `panic-in-drop` | ends with 0; its drop panics |
/// | `serve PORT` | accepts on port PORT of 127.0.0.1 and sends its container id, forever |
/// | `visit PORT` | prints the id from that port; ends with 1 if the connection fails |
///
/// Both ports are in the network of the guest's sandbox. `prepare` refuses all other programs.
#[derive(Debug, Default)]
pub struct ScriptedEngine;

const KNOWN: [&str; 16] = [
    "exit",
    "print",
    "cat",
    "wait",
    "spin",
    "spawn",
    "graceful",
    "deaf",
    "never-ready",
    "fail",
    "fail-late",
    "panic",
    "panic-in-signal",
    "panic-in-drop",
    "serve",
    "visit",
];

#[async_trait]
impl Engine for ScriptedEngine {
    async fn prepare(&self, spec: InstanceSpec) -> Result<Arc<dyn Instance>, EngineError> {
        if !KNOWN.contains(&spec.args[0].as_str()) {
            return Err(EngineError::Invalid {
                path: spec.args[0].clone().into(),
                reason: "unknown script".into(),
            });
        }
        Ok(Arc::new(Script { spec, terminated: Notify::new() }))
    }
}

struct Script {
    spec: InstanceSpec,
    terminated: Notify,
}

#[async_trait]
impl Instance for Script {
    async fn run(self: Arc<Self>, context: GuestContext) -> Result<ExitStatus, EngineError> {
        let failed = |reason: &str| EngineError::Failed(reason.to_owned());
        // These programs end before they are ready, never are, or report it themselves.
        match self.spec.args[0].as_str() {
            "never-ready" => std::future::pending().await,
            "serve" => {
                return self.serve(&context).await.map_err(|error| failed(&error.to_string()));
            }
            "fail" => return Err(failed("told to fail")),
            _ => context.ready(),
        }
        match self.spec.args[0].as_str() {
            "exit" => Ok(ExitStatus::code(self.argument().parse().unwrap_or(255))),
            "print" => self.print(self.argument().as_bytes()).await,
            "cat" => self.cat().await,
            "visit" => self.visit().await.map_err(|error| failed(&error.to_string())),
            "spin" => self.spin().await,
            "spawn" => {
                context.spawn(std::future::pending());
                Ok(ExitStatus::SUCCESS)
            }
            "graceful" => {
                // `Notify` keeps one permit: a signal that came before this wait ends it at once.
                self.terminated.notified().await;
                Ok(ExitStatus::SUCCESS)
            }
            "fail-late" => Err(failed("told to fail late")),
            "panic" => panic!("told to panic"),
            "panic-in-drop" => Ok(ExitStatus::SUCCESS),
            _ => std::future::pending().await,
        }
    }

    fn signal(&self, signal: Signal) -> SignalResponse {
        match self.spec.args[0].as_str() {
            "graceful" if signal == Signal::TERM => self.terminated.notify_one(),
            "panic-in-signal" if signal == Signal::TERM => panic!("told to panic at a signal"),
            // Reported as handled without effect: the caller has to send SIGKILL.
            "deaf" if signal == Signal::TERM => {}
            _ => return SignalResponse::Unhandled,
        }
        SignalResponse::Handled
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        assert!(self.spec.args[0] != "panic-in-drop", "told to panic in its drop");
    }
}

impl Script {
    fn argument(&self) -> &str {
        self.spec.args.get(1).map_or("", String::as_str)
    }

    async fn print(&self, bytes: &[u8]) -> Result<ExitStatus, EngineError> {
        let written = self.spec.stdio.stdout.write_all(bytes).await;
        written
            .map(|()| ExitStatus::SUCCESS)
            .map_err(|error| EngineError::Failed(error.to_string()))
    }

    async fn cat(&self) -> Result<ExitStatus, EngineError> {
        let mut buffer = vec![0; 4096];
        loop {
            match self.spec.stdio.stdin.read(&mut buffer).await {
                Ok(0) => return Ok(ExitStatus::SUCCESS),
                // `cat` itself decides its exit status, so that of `print` is dropped.
                Ok(read) => drop(self.print(&buffer[..read]).await?),
                Err(error) => return Err(EngineError::Failed(error.to_string())),
            }
        }
    }

    fn port(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.argument().parse().unwrap_or(0)).into()
    }

    async fn serve(&self, context: &GuestContext) -> io::Result<ExitStatus> {
        let address = self.port();
        // A listener of the standard library: the thread of the network has no Tokio runtime.
        let listener = self.spec.network.run(move || std::net::TcpListener::bind(address))??;
        // `from_std` requires it.
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        // Only now: a guest that is started after this one can connect.
        context.ready();
        loop {
            let (mut visitor, _) = listener.accept().await?;
            visitor.write_all(self.spec.container.as_str().as_bytes()).await?;
        }
    }

    async fn visit(&self) -> io::Result<ExitStatus> {
        let address = self.port();
        // The namespace of a socket is fixed at its creation. It can connect from any thread.
        let socket = self.spec.network.run(TcpSocket::new_v4)??;
        let Ok(mut stream) = socket.connect(address).await else { return Ok(ExitStatus::code(1)) };
        let mut greeting = String::new();
        stream.read_to_string(&mut greeting).await?;
        self.spec.stdio.stdout.write_all(greeting.as_bytes()).await?;
        Ok(ExitStatus::SUCCESS)
    }

    async fn spin(&self) -> Result<ExitStatus, EngineError> {
        loop {
            // Keeps the compiler from removing the computation.
            std::hint::black_box((0..10_000u64).sum::<u64>());
            // Without it the loop would block its worker, and pause and kill would have no effect.
            tokio::task::yield_now().await;
        }
    }
}
