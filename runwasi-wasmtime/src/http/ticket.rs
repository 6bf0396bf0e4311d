//! The call of a guest's handler, and what a request holds until all of it is done.

use std::{future::Future, pin::Pin, sync::Arc};

use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::{error::Failure, instances::Serving, timeouts::Activity};

/// A guest's call of its handler; ends when the guest has returned and its instance is gone.
pub(super) type Call = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// What a request holds until all of it is done.
pub(super) struct Ticket {
    serving: Arc<Serving>,
    /// One of the requests that may be worked on at once.
    _slot: OwnedSemaphorePermit,
    _busy: Busy,
}

/// Says that the connection has a request.
pub(super) struct Busy(Arc<Activity>);

impl Ticket {
    pub(super) fn new(serving: Arc<Serving>, slot: OwnedSemaphorePermit, busy: Busy) -> Self {
        Self { serving, _slot: slot, _busy: busy }
    }

    /// The client has all it gets, the guest goes on: in the group, for as long as it might have taken for the response.
    pub(super) fn go_on(self, call: Call) {
        let Self { serving, _slot, _busy } = self;
        let patience = serving.settings.request_timeout;
        serving.spawner.clone().spawn(async move {
            if timeout(patience, call).await.is_err() {
                tracing::debug!("a guest was ended that did not return after its response");
            }
            drop(_slot);
        });
    }
}

impl Busy {
    pub(super) fn new(activity: Arc<Activity>, http2: bool) -> Self {
        activity.request_begins(http2);
        Self(activity)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.request_ended();
    }
}
