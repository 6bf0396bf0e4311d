//! A container's handle of its lane in the queue: pause, stop, weight, quota.

use std::{sync::Arc, task::Waker, time::Instant};

use super::{
    bandwidth::Throttling,
    lane::{LaneId, ProcessId},
    queue::FairQueue,
    state::State,
    turn::Seat,
};
use crate::{bundle::resources::Quota, observe::Subject};

/// A container's lane in the queue; dropping it removes the lane.
pub(super) struct Lane {
    queue: FairQueue,
    id: LaneId,
}

impl Lane {
    /// A new lane, which gets turns in proportion to `weight`.
    pub(super) fn new(queue: &FairQueue, weight: u64) -> Self {
        let id = queue.state.lock().add_lane(weight);
        Self { queue: queue.clone(), id }
    }

    /// Names the container in the log.
    pub(super) fn describe(&self, subject: Arc<Subject>) {
        self.queue.state.lock().describe(self.id, subject);
    }

    /// A new id for one process of the container.
    pub(super) fn process(&self) -> ProcessId {
        self.queue.state.lock().add_process()
    }

    /// A seat for one future of a process.
    pub(super) fn seat(&self, process: ProcessId) -> Seat {
        let id = self.queue.state.lock().add_seat(self.id, process);
        Seat::new(self.queue.clone(), id)
    }

    /// Grants no turn to the lane until [`Lane::resume`]. A running future goes on to its next
    /// yield.
    pub(super) fn pause(&self) {
        self.queue.state.lock().pause(self.id);
    }

    /// Ends a pause. Time spent paused is not made up for.
    pub(super) fn resume(&self) {
        self.change(State::resume);
    }

    /// Grants no turn to that process until [`Lane::continue_process`]. A running future goes on to
    /// its next yield.
    pub(super) fn stop_process(&self, process: ProcessId) {
        self.change(|state, lane| state.stop_process(lane, process));
    }

    /// Ends the stop of a process.
    pub(super) fn continue_process(&self, process: ProcessId) {
        self.change(|state, lane| state.continue_process(lane, process));
    }

    /// Sets another weight.
    pub(super) fn set_weight(&self, weight: u64) {
        self.change(|state, lane| state.set_weight(lane, weight));
    }

    /// Sets how many of its turns may wait in the kernel, and if they may do so at any time.
    pub(super) fn bound_held(&self, most: u32, may_wait: bool) {
        self.change(|state, lane| state.bound_held(lane, most, may_wait));
    }

    /// Replaces or removes the quota.
    pub(super) fn set_quota(&self, quota: Option<Quota>) {
        self.change(|state, lane| state.set_quota(lane, quota, Instant::now()));
    }

    /// Number of turns of a process that wait in the kernel.
    pub(super) fn held(&self, process: ProcessId) -> usize {
        self.queue.state.lock().held(self.id, process)
    }

    /// Weight and quota of the lane.
    pub(super) fn limits(&self) -> (u64, Option<Quota>) {
        self.queue.state.lock().limits(self.id)
    }

    /// Throttling counters of the lane.
    pub(super) fn throttling(&self) -> Throttling {
        self.queue.state.lock().throttling(self.id)
    }

    fn change(&self, change: impl FnOnce(&mut State<Waker>, LaneId)) {
        let mut state = self.queue.state.lock();
        change(&mut state, self.id);
        // The change may have ended a pause, a stop or a throttling.
        self.queue.grant(state);
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.queue.state.lock().remove_lane(self.id);
    }
}
