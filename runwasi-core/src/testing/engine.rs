//! An engine whose guests do what their arguments say. Used by tests of everything but engines.

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

/// Knows these programs:
///
/// | args | what the guest does |
/// |---|---|
/// | `exit N` | ends with N |
/// | `print TEXT` | prints TEXT, ends with 0 |
/// | `cat` | copies stdin to stdout, ends with 0 |
/// | `wait` | waits for ever |
/// | `spin` | computes for ever, yielding |
/// | `spawn` | starts a future that waits for ever, ends with 0 |
/// | `graceful` | waits; SIGTERM makes it end with 0 |
/// | `deaf` | waits; says that it handles SIGTERM, and does not |
/// | `never-ready` | waits without ever reporting itself ready |
/// | `fail` | fails before it is ready |
/// | `fail-late` | fails after it is ready |
/// | `panic` | panics after it is ready |
/// | `serve PORT` | listens on that port of its network's 127.0.0.1 and greets with its container's id, for ever |
/// | `visit PORT` | prints who greets on that port; ends with 1 if nobody listens |
///
/// Anything else is refused when the instance is made.
#[derive(Debug, Default)]
pub struct ScriptedEngine;

const KNOWN: [&str; 14] = [
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
                self.terminated.notified().await;
                Ok(ExitStatus::SUCCESS)
            }
            "fail-late" => Err(failed("told to fail late")),
            "panic" => panic!("told to panic"),
            _ => std::future::pending().await,
        }
    }

    fn signal(&self, signal: Signal) -> SignalResponse {
        match self.spec.args[0].as_str() {
            "graceful" if signal == Signal::TERM => self.terminated.notify_one(),
            "deaf" if signal == Signal::TERM => {}
            _ => return SignalResponse::Unhandled,
        }
        SignalResponse::Handled
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
        let listener = self.spec.network.run(move || std::net::TcpListener::bind(address))??;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        // The port is bound: who is started next can come.
        context.ready();
        loop {
            let (mut visitor, _) = listener.accept().await?;
            visitor.write_all(self.spec.container.as_str().as_bytes()).await?;
        }
    }

    async fn visit(&self) -> io::Result<ExitStatus> {
        let address = self.port();
        // The socket is made inside; it connects there from whatever thread.
        let socket = self.spec.network.run(TcpSocket::new_v4)??;
        let Ok(mut stream) = socket.connect(address).await else { return Ok(ExitStatus::code(1)) };
        let mut greeting = String::new();
        stream.read_to_string(&mut greeting).await?;
        self.spec.stdio.stdout.write_all(greeting.as_bytes()).await?;
        Ok(ExitStatus::SUCCESS)
    }

    async fn spin(&self) -> Result<ExitStatus, EngineError> {
        loop {
            std::hint::black_box((0..10_000u64).sum::<u64>());
            tokio::task::yield_now().await;
        }
    }
}
