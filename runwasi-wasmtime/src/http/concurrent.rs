//! The way from a request to an instance that serves several at once, and the making of instances.

use std::{pin::pin, sync::Arc};

use http::{Request, Response};
use tokio::{sync::oneshot, time::timeout};
use wasmtime::Store;
use wasmtime_wasi_http::WasiBody;

use super::{
    error::Failure,
    guest::Instance,
    instances::Serving,
    shared::{Admission, Job, Making, Place, Runner, Shared},
};
use crate::{component::store::Component, limits, timed_body::TimedBody, trace};

impl Serving {
    /// Asks an instance. Returns the guest's answer, and the place that the request keeps until the
    /// response is complete. A request that is given up before costs its instance.
    pub(super) async fn ask(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        request: Box<Request<TimedBody>>,
    ) -> Result<(Response<WasiBody>, Place), Failure> {
        let parent = trace::current(&request);
        let mut place = self.place(shared).await?;
        let (sender, head) = oneshot::channel();
        place.send(Job { request, head: sender, parent });
        // An error: the instance has ended, and not by itself.
        let head = head.await.unwrap_or(Err(Failure::Failed));
        place.answered();
        Ok((head?, place))
    }

    /// Takes a place. Waits for `queue-timeout` at most.
    async fn place(self: &Arc<Self>, shared: &Arc<Shared>) -> Result<Place, Failure> {
        let (found, making) = shared.find();
        if let Some(making) = making {
            let serving = self.clone();
            let shared = shared.clone();
            // Not by this request, whose client may go.
            self.spawner.spawn(async move { serving.make(&shared, making).await });
        }
        match found {
            Admission::Place(place) => Ok(place),
            Admission::Later(answer) => {
                let answer = timeout(self.settings.queue_timeout, answer).await;
                // An error: there was no place in time, or the server has ended.
                answer.ok().and_then(Result::ok).unwrap_or(Err(Failure::Busy))
            }
        }
    }

    /// Makes an instance, and further ones as long as requests wait.
    async fn make(self: &Arc<Self>, shared: &Arc<Shared>, mut making: Making) {
        loop {
            match self.instantiate().await {
                Ok((store, instance)) => {
                    let serving = self.clone();
                    let runner = making.open();
                    self.spawner.spawn(async move { serving.run(runner, store, instance).await });
                }
                Err(error) => match Self::lack(&error) {
                    None => {
                        // First: the requests need not wait for a reader of stderr.
                        making.fail(Failure::Failed);
                        return self.tell(&error).await;
                    }
                    // Nothing would change that.
                    Some(Failure::NoMemory) if !shared.is_running() => {
                        return making.fail(Failure::NoMemory);
                    }
                    Some(_) if making.end() => return making.is_full(),
                    Some(_) => self.wait_for_room().await,
                },
            }
            if making.end() {
                return;
            }
        }
    }

    /// Runs an instance to its end.
    async fn run(&self, mut runner: Runner, store: Store<Component>, instance: Instance) {
        // Dropped after the store.
        let _freed = self.freed();
        let mut store = store;
        // Dropped before the store, also by a kill.
        let running = store.data_mut().outbound.run();
        // Instances of p2 serve one request: no runner is made for them.
        let Instance::P3(service, _) = instance else { return };
        let served = {
            let run = pin!(runner.run(&mut store, &service, self.settings.request_timeout));
            limits::bounded(&self.spec.memory, run).await
        };
        match served {
            Ok(true) => {
                running.returned();
                self.put_back(store);
            }
            Ok(false) => {
                tracing::debug!("a guest was ended that did not return after its responses");
            }
            Err(error) => {
                let error = store.data().explain(error);
                drop(running);
                // Both before the trap is written, which may wait for a reader of stderr: requests
                // on their way get their answer now.
                drop(store);
                drop(runner);
                self.tell(&error).await;
            }
        }
    }
}
