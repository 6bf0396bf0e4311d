//! What an integrator implements to run a guest: [`Instance`], and what it is given.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::{error::EngineError, exit::ExitStatus, signal::Signal};
use crate::scheduler::group::Group;

/// One guest program: ready, running or done.
#[async_trait]
pub trait Instance: Send + Sync + 'static {
    /// Runs the guest to its end.
    ///
    /// Called once, by containerd's `Start`, on the guest runtime and inside the container's group of futures: pause,
    /// kill and metering act on how this future is polled. It therefore yields often (within some milliseconds, about
    /// one while others may wait), never blocks its thread, and frees everything when it is dropped at any await: that is
    /// what SIGKILL does.
    /// Further futures are started with [`GuestContext::spawn`] only.
    ///
    /// The guest counts as started when [`GuestContext::ready`] is called, at the latest when `run` returns
    /// a status. An error before that fails containerd's `Start`; a later one ends the process with status 134.
    async fn run(self: Arc<Self>, context: GuestContext) -> Result<ExitStatus, EngineError>;

    /// Tells the guest of a signal whose default action would end it. Called on the control runtime, must not block.
    ///
    /// An instance that has a graceful stop begins it, returns [`SignalResponse::Handled`] and ends `run` itself later;
    /// otherwise the group of futures is dropped and the process ends with 128+n. Never called for SIGKILL.
    fn signal(&self, _signal: Signal) -> SignalResponse {
        SignalResponse::Unhandled
    }
}

/// What an instance made of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalResponse {
    /// It will act on the signal itself.
    Handled,
    /// It has no way to: the default action applies.
    Unhandled,
}

/// What a running instance may ask of its container. Cheap to clone.
#[derive(Clone)]
pub struct GuestContext {
    group: Group,
    /// Taken by the first call of `ready`; a mutex since the instance may share the context between tasks.
    ready: Arc<Mutex<Option<oneshot::Sender<()>>>>,
}

impl GuestContext {
    /// Makes the context of one run; the receiver resolves with the first `ready`.
    pub(crate) fn new(group: Group) -> (Self, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Self { group, ready: Arc::new(Mutex::new(Some(sender))) }, receiver)
    }

    /// Reports the guest as running. The first call counts.
    pub fn ready(&self) {
        let sender = self.ready.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // The receiver is gone when the process was killed while starting: nobody is left to tell.
            let _ = sender.send(());
        }
    }

    /// Starts a further future of this container. It is paused, metered and killed together with the guest, and
    /// dropped when `run` ends.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.group.spawn(future);
    }
}
