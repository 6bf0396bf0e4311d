//! containerd's event service, played: takes what a shim forwards and remembers it; started by `shim::ShimDriver`.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use async_trait::async_trait;
use containerd_shim_protos::api::{Empty, ForwardRequest};
use containerd_shim_protos::shim_async::{Events, create_events};
use containerd_shim_protos::ttrpc::{self, r#async::Server, r#async::TtrpcContext};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

/// The server; stopped when dropped.
// One thread: the sink shall take little of the CPUs that the benchmarks measure.
pub struct Sink {
    // Option, because stopping takes both by value.
    server: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    heard: Arc<Heard>,
}

#[derive(Default)]
struct Heard {
    // Filled by the server's thread, read by the test's.
    topics: Mutex<Vec<String>>,
}

impl Sink {
    /// Listens at `socket`.
    pub fn listen(socket: &Path) -> Result<Self> {
        let heard = Arc::new(Heard::default());
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let mut server = Server::new()
            .bind(&format!("unix://{}", socket.display()))
            .with_context(|| format!("cannot listen at {}", socket.display()))?
            .register_service(create_events(heard.clone()));
        drop(entered);
        runtime.block_on(server.start()).context("cannot serve events")?;
        let (stop, stopped) = oneshot::channel();
        let serve = async move {
            // An error: the sink is gone, which is the same.
            stopped.await.ok();
            server.shutdown().await.ok();
        };
        let thread = thread::Builder::new().name("events".into());
        let thread = thread.spawn(move || runtime.block_on(serve))?;
        Ok(Self { server: Some((stop, thread)), heard })
    }

    /// The topics heard so far, in order.
    pub fn topics(&self) -> Vec<String> {
        self.heard.topics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.server.take() {
            // Errors: the thread has ended.
            stop.send(()).ok();
            thread.join().ok();
        }
    }
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink").field("topics", &self.topics()).finish()
    }
}

#[async_trait]
impl Events for Heard {
    async fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let topic = request.envelope.topic.clone();
        self.topics.lock().unwrap_or_else(PoisonError::into_inner).push(topic);
        Ok(Empty::new())
    }
}
