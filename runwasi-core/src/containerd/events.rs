//! Delivery of events to containerd: `containerd.services.events.ttrpc.v1.Events/Forward`.

use std::{
    fmt::Display,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use containerd_shim_protos::{
    api::ForwardRequest,
    protobuf::MessageField,
    shim::event::Envelope,
    shim_async::EventsClient,
    ttrpc::{
        self,
        asynchronous::{Client, transport::Socket},
        context,
    },
};

use super::connect::connect;
use crate::{
    buffered::buffered,
    events::{Event, Forward, ForwardError},
    id::Id,
    service::convert,
};

/// Timeout of one call. containerd's own clients use the same.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Connection to one containerd. It is opened for the first event and again after a failure.
pub struct EventForwarder {
    address: String,
    client: Option<EventsClient>,
}

impl EventForwarder {
    /// For the containerd that serves ttrpc at `address` (a path, with or without `unix://`).
    pub fn new(address: &str) -> Self {
        Self { address: super::task_client::with_scheme(address), client: None }
    }

    async fn client(&mut self) -> Result<&EventsClient, ForwardError> {
        // Opened here and not in `new`, because containerd may be down when a sandbox starts.
        if self.client.is_none() {
            let stream = connect(&self.address).await.map_err(|error| self.unreachable(&error))?;
            let connected = Client::new(Socket::new(buffered(stream)));
            self.client = Some(EventsClient::new(connected));
        }
        // Set above, so the error never occurs.
        self.client.as_ref().ok_or_else(|| self.unreachable(&ttrpc::Error::LocalClosed))
    }

    fn unreachable(&self, error: &dyn Display) -> ForwardError {
        ForwardError::Unreachable { address: self.address.clone(), reason: error.to_string() }
    }

    fn refused(&self, reason: impl ToString) -> ForwardError {
        ForwardError::Refused { address: self.address.clone(), reason: reason.to_string() }
    }
}

#[async_trait]
impl Forward for EventForwarder {
    async fn forward(
        &mut self,
        namespace: &Id,
        event: &Event,
        at: SystemTime,
    ) -> Result<(), ForwardError> {
        // An event that cannot be encoded fails in every retry: the error is final.
        let (topic, message) = convert::event(event).map_err(|error| self.refused(error))?;
        let envelope = Envelope {
            timestamp: convert::timestamp(at),
            namespace: namespace.to_string(),
            topic: topic.to_owned(),
            event: MessageField::some(message),
            ..Default::default()
        };
        let request =
            ForwardRequest { envelope: MessageField::some(envelope), ..Default::default() };
        let answer = self.client().await?.forward(context::with_duration(TIMEOUT), &request).await;
        match answer {
            Ok(_) => Ok(()),
            Err(ttrpc::Error::RpcStatus(status)) if is_final(status.code()) => {
                Err(self.refused(status.message()))
            }
            Err(ttrpc::Error::RpcStatus(status)) => {
                // This containerd may be shutting down. A new connection reaches the containerd
                // that listens at the time of the next attempt.
                self.client = None;
                let reason = status.message().to_owned();
                Err(ForwardError::NotNow { address: self.address.clone(), reason })
            }
            Err(error) => {
                // A timeout or a broken connection: only a new connection is known to work.
                self.client = None;
                Err(self.unreachable(&error))
            }
        }
    }
}

/// True if the status rejects the event itself.
fn is_final(code: ttrpc::Code) -> bool {
    // Every other status may be temporary, like those of a containerd that is shutting down.
    matches!(
        code,
        ttrpc::Code::INVALID_ARGUMENT
            | ttrpc::Code::UNIMPLEMENTED
            | ttrpc::Code::FAILED_PRECONDITION
    )
}
