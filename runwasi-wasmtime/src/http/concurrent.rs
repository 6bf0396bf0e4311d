//! The way from a request to an instance that serves several at once.

use std::sync::Arc;

use http::{Request, Response};
use tokio::{sync::oneshot, time::timeout};
use wasmtime::Store;
use wasmtime_wasi_http::WasiBody;

use super::{
    error::Failure,
    guest::Instance,
    instances::Serving,
    shared::{Choice, Job, Place, Runner, Shared},
};
use crate::{component::store::Component, limits, timed_body::TimedBody, trace};

impl Serving {
    /// Asks an instance. Returns the guest's answer, and the place that the request keeps until the
    /// response is complete. A request that is given up before costs its instance.
    pub(super) async fn ask(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        request: Request<TimedBody>,
    ) -> Result<(Response<WasiBody>, Place), Failure> {
        let parent = trace::current(&request);
        let mut place = self.place(shared).await?;
        let (sender, head) = oneshot::channel();
        place.send(Job { request, head: sender, parent });
        let head = head.await;
        place.answered();
        match head {
            Ok(answer) => Ok((answer?, place)),
            Err(_) if place.has_failed() => Err(Failure::Failed),
            Err(_) => Err(Failure::Silent),
        }
    }

    /// Takes a place, in a further instance if that has a worker or if the others are full. Waits
    /// for `queue-timeout` at most.
    async fn place(self: &Arc<Self>, shared: &Arc<Shared>) -> Result<Place, Failure> {
        if let Some(place) = shared.place(Choice::Spread) {
            return Ok(place);
        }
        let _making = match shared.making().try_lock() {
            Ok(making) => making,
            Err(_) => {
                if let Some(place) = shared.place(Choice::Any) {
                    return Ok(place);
                }
                let making = timeout(self.settings.queue_timeout, shared.making().lock()).await;
                making.map_err(|_| Failure::Busy)?
            }
        };
        // Of the instance that was made meanwhile.
        if let Some(place) = shared.place(Choice::Spread) {
            return Ok(place);
        }
        if let Some(place) = shared.place(Choice::Any) {
            // An error: there is no room for a further instance, and no need.
            let made = self.instantiate().await;
            return Ok(made.map_or(place, |made| self.open(shared, made)));
        }
        tokio::select! {
            made = self.instance() => Ok(self.open(shared, made?)),
            place = shared.next_place() => Ok(place),
        }
    }

    /// Starts a new instance.
    fn open(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        (store, instance): (Store<Component>, Instance),
    ) -> Place {
        let (place, runner) = shared.open();
        let serving = self.clone();
        self.spawner.spawn(async move { serving.run(runner, store, instance).await });
        place
    }

    /// Runs an instance to its end.
    async fn run(&self, mut runner: Runner, mut store: Store<Component>, instance: Instance) {
        // Dropped after the store.
        let _freed = self.freed();
        // Instances of p2 serve one request: no runner is made for them.
        let Instance::P3(service, _) = instance else { return };
        let served = runner.run(&mut store, &service, self.settings.request_timeout);
        match limits::bounded(&self.spec.memory, served).await {
            Ok(true) => self.put_back(store),
            Ok(false) => {
                tracing::debug!("a guest was ended that did not return after its responses");
            }
            Err(error) => {
                let error = store.data().explain(error);
                // Before the store ends: bodies must not seem complete.
                runner.fail();
                drop(store);
                self.failed(&error).await;
            }
        }
    }
}
