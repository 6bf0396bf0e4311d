//! An engine whose guests do what their arguments say. Used by tests of everything but engines.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::{Engine, EngineError, ExitStatus, GuestContext, Instance, InstanceSpec, Signal, SignalResponse};

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
/// | `never-ready` | waits without ever reporting itself ready |
/// | `fail` | fails before it is ready |
/// | `fail-late` | fails after it is ready |
/// | `panic` | panics after it is ready |
///
/// Anything else is refused when the instance is made.
#[derive(Debug, Default)]
pub struct ScriptedEngine;

#[async_trait]
impl Engine for ScriptedEngine {
    async fn instance(&self, spec: InstanceSpec) -> Result<Arc<dyn Instance>, EngineError> {
        let known =
            ["exit", "print", "cat", "wait", "spin", "spawn", "graceful", "never-ready", "fail", "fail-late", "panic"];
        if !known.contains(&spec.args[0].as_str()) {
            return Err(EngineError::Invalid { path: spec.args[0].clone().into(), reason: "unknown script".into() });
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
            "fail" => return Err(failed("told to fail")),
            _ => context.ready(),
        }
        match self.spec.args[0].as_str() {
            "exit" => Ok(ExitStatus::code(self.argument().parse().unwrap_or(255))),
            "print" => self.print(self.argument().as_bytes()).await,
            "cat" => self.cat().await,
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
        if self.spec.args[0] != "graceful" || signal != Signal::TERM {
            return SignalResponse::Unhandled;
        }
        self.terminated.notify_one();
        SignalResponse::Handled
    }
}

impl Script {
    fn argument(&self) -> &str {
        self.spec.args.get(1).map_or("", String::as_str)
    }

    async fn print(&self, bytes: &[u8]) -> Result<ExitStatus, EngineError> {
        let written = self.spec.stdio.stdout.write_all(bytes).await;
        written.map(|()| ExitStatus::SUCCESS).map_err(|error| EngineError::Failed(error.to_string()))
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

    async fn spin(&self) -> Result<ExitStatus, EngineError> {
        loop {
            std::hint::black_box((0..10_000u64).sum::<u64>());
            tokio::task::yield_now().await;
        }
    }
}
