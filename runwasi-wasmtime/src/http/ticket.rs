//! Call of a guest's handler, and the resources of a request until all its work is done.

use std::{future::Future, pin::Pin, sync::Arc};

use runwasi_core::metrics::http::{self as metrics, UnderWay};
use tokio::time::timeout;

use super::{
    instances::{Serving, Slot},
    shared::Place,
    timeouts::Activity,
    written::Broken,
};

/// Call of a guest's handler in an instance of its own. Ends when the guest has returned and the
/// instance is kept or dropped.
pub(super) type OwnCall = Pin<Box<dyn Future<Output = Result<(), Broken>> + Send>>;

/// Call of a guest's handler.
pub(super) enum Call {
    Own(OwnCall),
    /// In an instance that other requests use, too. Its end is not that of the request.
    Shared(Place),
}

/// Resources that a request holds until all its work is done.
pub(super) struct Ticket {
    serving: Arc<Serving>,
    _slot: Slot,
    busy: Busy,
}

/// Counts a request, of the connection and in the metrics, for as long as it lives.
pub(super) struct Busy(Arc<Activity>, UnderWay);

impl Ticket {
    pub(super) fn new(serving: Arc<Serving>, slot: Slot, busy: Busy) -> Self {
        Self { serving, _slot: slot, busy }
    }

    pub(super) fn is_http2(&self) -> bool {
        self.busy.0.is_http2()
    }

    /// True while an early end of the response has to wait for the client.
    pub(super) fn holds_ends(&self) -> bool {
        self.busy.0.holds_ends()
    }

    /// Takes note that the end of the response is that of the connection.
    pub(super) fn begins_open_ended(&self) {
        self.busy.0.begins_open_ended();
    }

    /// Continues the call of a guest after its complete response, as a member of the group.
    pub(super) fn go_on(self, call: OwnCall) {
        // `_busy` ends with this function: for the connection the request is done.
        let Self { serving, _slot, busy: _busy } = self;
        // As long as the guest might have taken for its response.
        let patience = serving.settings.request_timeout;
        serving.spawner.clone().spawn(async move {
            if timeout(patience, call).await.is_err() {
                tracing::debug!("a guest was ended that did not return after its response");
            }
            // Moved in and freed only now: the guest still counts as a request.
            drop(_slot);
        });
    }
}

impl Busy {
    pub(super) fn new(activity: Arc<Activity>, http2: bool) -> Self {
        activity.request_begins(http2);
        // In one value: both end with the last byte, or with the failure.
        Self(activity, metrics::request())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.request_ended();
    }
}
