//! Interface for running a guest: [`Instance`], implemented by an engine, and its [`GuestContext`].

use std::{future::Future, sync::Arc};

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::{error::EngineError, exit::ExitStatus, signal::Signal};
use crate::{lock::Mutex, scheduler::group::Group};

/// One guest program, before, during or after its run.
///
/// Created by [`Engine::prepare`](super::Engine::prepare) and owned by the driver of its process.
/// The driver drops it when the process has stopped, which is before containerd's `Delete`; a
/// process that was killed before its start, or whose server is torn down, drops it without a run.
/// Dropping the last reference must free all resources of the guest. The driver runs on the control
/// runtime, which answers containerd, so the drop must not block.
///
/// A panic ends no other container:
///
/// | panic in | consequence |
/// |---|---|
/// | `run` before [`GuestContext::ready`] | containerd's `Start` fails |
/// | `run` after it | the process ends with status 134 |
/// | a future of [`GuestContext::spawn`] | that future ends |
/// | `signal` | the signal has its default action |
/// | the drop of the instance | none |
///
/// Each is in the log. This needs a program that unwinds: with `panic = "abort"` in its profile a
/// panic ends the OS process.
#[async_trait]
pub trait Instance: Send + Sync + 'static {
    /// Runs the guest to its end.
    ///
    /// Called once at most, by the driver of the process for containerd's `Start`, on the guest
    /// runtime (a Tokio runtime with I/O and time) and inside the container's group of futures.
    /// Pause, kill and metering control the polls of this future. Therefore it must
    ///
    /// - yield often: within some milliseconds, and about every millisecond while others may wait;
    /// - never block its thread: a run that does not yield cannot be paused or killed, and keeps a
    ///   worker from all other containers;
    /// - free everything when it is dropped at any await, which is the effect of SIGKILL;
    /// - start further futures only with [`GuestContext::spawn`].
    ///
    /// The guest counts as started when [`GuestContext::ready`] is called, at the latest when `run`
    /// returns a status. An error before that fails containerd's `Start`. A later error ends the
    /// process with status 134.
    async fn run(self: Arc<Self>, context: GuestContext) -> Result<ExitStatus, EngineError>;

    /// Delivers a signal with a default action that would end the guest.
    ///
    /// Called by the driver of the process on the control runtime, so it must not block. Called
    /// only between the begin and the end of `run`, perhaps concurrently with a poll of it, and
    /// once for each signal. Never called for SIGKILL, which drops `run` instead.
    ///
    /// An instance with a graceful stop begins it, returns [`SignalResponse::Handled`] and ends
    /// `run` later. Otherwise the group of futures is dropped and the process ends with status
    /// 128+n.
    fn signal(&self, _signal: Signal) -> SignalResponse {
        SignalResponse::Unhandled
    }
}

/// Response of an instance to a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalResponse {
    /// The instance acts on the signal itself.
    Handled,
    /// The instance cannot act on it: the default action applies.
    Unhandled,
}

/// Interface of a running instance to its container. Cheap to clone.
#[derive(Clone)]
pub struct GuestContext {
    group: Group,
    // Taken by the first call of `ready`. A mutex, because tasks of the instance may share the
    // context.
    ready: Arc<Mutex<Option<oneshot::Sender<()>>>>,
}

impl GuestContext {
    /// Creates the context of one run. The receiver resolves at the first `ready`.
    pub(crate) fn new(group: Group) -> (Self, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Self { group, ready: Arc::new(Mutex::new(Some(sender))) }, receiver)
    }

    /// Reports the guest as running. Further calls have no effect.
    pub fn ready(&self) {
        let sender = self.ready.lock().take();
        if let Some(sender) = sender {
            // The receiver is gone if the process was killed during its start: then no report is
            // needed.
            let _ = sender.send(());
        }
    }

    /// True once the guest is reported as running: from then on no error fails its start.
    pub fn is_ready(&self) -> bool {
        self.ready.lock().is_none()
    }

    /// Starts a further future of this container. It is paused, metered and killed together with
    /// the guest, and dropped when `run` ends. After that, a future is dropped without a poll.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.group.spawn(future);
    }
}
