//! containerd's event service, played: takes what a shim forwards and remembers it; started by `shim::ShimDriver`.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use containerd_shim_protos::api::{Empty, ForwardRequest};
use containerd_shim_protos::ttrpc::{self, Server, TtrpcContext};
use containerd_shim_protos::{Events, create_events};

/// The server; stopped when dropped.
pub struct Sink {
    // Option, because stopping takes the server by value.
    server: Option<Server>,
    heard: Arc<Heard>,
}

#[derive(Default)]
struct Heard {
    // Filled by the server's threads, read by the test's.
    topics: Mutex<Vec<String>>,
}

impl Sink {
    /// Listens at `socket`.
    pub fn listen(socket: &Path) -> Result<Self> {
        let heard = Arc::new(Heard::default());
        let mut server = Server::new()
            .bind(&format!("unix://{}", socket.display()))
            .with_context(|| format!("cannot listen at {}", socket.display()))?
            .register_service(create_events(heard.clone()));
        server.start().context("cannot serve events")?;
        Ok(Self { server: Some(server), heard })
    }

    /// The topics heard so far, in order.
    pub fn topics(&self) -> Vec<String> {
        self.heard.topics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown();
        }
    }
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink").field("topics", &self.topics()).finish()
    }
}

impl Events for Heard {
    fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let topic = request.envelope.topic.clone();
        self.topics.lock().unwrap_or_else(PoisonError::into_inner).push(topic);
        Ok(Empty::new())
    }
}
