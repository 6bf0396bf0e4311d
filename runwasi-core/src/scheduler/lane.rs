//! Pure state of one lane, and the order of the lanes by virtual time.
//!
//! The order rests on two invariants, which [`Order::update`] restores after every change:
//!
//! 1. The order lists exactly the lanes that may run and have a waiting seat, each at its `used`.
//!    While it is full, lanes whose turns may wait in the kernel may not run.
//! 2. No listed lane is before the present. A lane joins at the present or later. The present only
//!    moves when a turn is granted, to the time of the first lane, and no listed lane is before
//!    that. `used` never decreases.
//!
//! An entry of a removed seat counts as a waiting seat until it comes up. A lane with no other
//! entry may so be moved to the present early, which costs it a little of its time and no other
//! lane any.
//!
//! Fairness follows. A lane is granted only while it is first, so it stands at the present then. Of
//! its turns at most `permits` are in progress, and each moves it by its CPU time divided by its
//! weight. Two lanes that both always have work are therefore never further apart than `permits`
//! of the longest turns.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    bandwidth::{Bandwidth, Throttling},
    file_calls::FileThreads,
};
use crate::{bundle::resources::Quota, observe::Subject};

/// Default weight of a container, in the unit of `cpu.shares`.
pub(super) const DEFAULT_WEIGHT: u64 = 1024;

pub(super) type LaneId = u64;
pub(super) type ProcessId = u64;
pub(super) type SeatId = u64;
/// Nanoseconds of CPU time at the default weight.
// 64 bits are too few: 64 CPUs at the least weight use them up within a week.
pub(super) type VirtualTime = u128;

/// State of one lane.
pub(super) struct LaneState {
    /// Virtual time used.
    pub(super) used: VirtualTime,
    weight: u64,
    /// Most turns that may wait in the kernel without a permit: the threads that its file calls may
    /// hold.
    pub(super) most_held: u32,
    /// Its turns that are granted or run.
    pub(super) turns: u32,
    /// True if its turns may wait in the kernel at any time.
    pub(super) may_wait: bool,
    /// Paused: no seat of it is granted.
    pub(super) paused: bool,
    /// In the order of their wake-ups; may name seats that are gone or whose process has stopped.
    // To search for a seat that goes or stops would cost more than to skip it when it comes up.
    pub(super) waiting: VecDeque<SeatId>,
    /// The time at which [`Order`] lists the lane.
    listed: Option<VirtualTime>,
    /// The container in the log.
    pub(super) subject: Option<Arc<Subject>>,
    /// State that few lanes need.
    pub(super) rare: Option<Box<Rare>>,
}

#[derive(Default)]
pub(super) struct Rare {
    pub(super) bandwidth: Bandwidth,
    /// Processes that are stopped.
    pub(super) stopped: Vec<ProcessId>,
    /// Seats of stopped processes that would be waiting; may name seats that are gone.
    pub(super) parked: Vec<SeatId>,
    /// Processes of the turns that wait in the kernel, one entry for each turn.
    pub(super) held: Vec<ProcessId>,
}

impl LaneState {
    /// A lane at that virtual time.
    pub(super) fn new(used: VirtualTime, weight: u64) -> Self {
        let mut lane = Self {
            used,
            weight,
            most_held: FileThreads::default().limit,
            turns: 0,
            may_wait: false,
            paused: false,
            waiting: VecDeque::new(),
            listed: None,
            subject: None,
            rare: None,
        };
        lane.set_weight(weight);
        lane
    }

    pub(super) fn set_weight(&mut self, weight: u64) {
        // A weight of 0 would divide by zero in `charge`.
        self.weight = weight.max(1);
    }

    /// Its weight and its quota.
    pub(super) fn limits(&self) -> (u64, Option<Quota>) {
        (self.weight, self.rare.as_ref().and_then(|rare| rare.bandwidth.quota()))
    }

    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub(super) fn is_throttled(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.bandwidth.is_throttled())
    }

    /// Its throttling counters.
    pub(super) fn throttling(&self) -> Throttling {
        self.rare.as_ref().map(|rare| rare.bandwidth.throttling()).unwrap_or_default()
    }

    pub(super) fn has_stopped(&self, process: ProcessId) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.stopped.contains(&process))
    }

    /// True if it has as many turns as may wait in the kernel, and some do or may do at any time.
    // Running turns count, too: each may wait before it is seen to.
    fn is_held(&self) -> bool {
        let waits = self.may_wait || self.rare.as_ref().is_some_and(|rare| !rare.held.is_empty());
        waits && self.turns >= self.most_held
    }

    /// Books the CPU time of a turn. Returns the time of the next check, if that throttles the
    /// lane. `now` is called for a lane with rare state only.
    pub(super) fn charge(
        &mut self,
        time: Duration,
        now: impl FnOnce() -> Instant,
    ) -> Option<Instant> {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let weighted = VirtualTime::from(nanos) * VirtualTime::from(DEFAULT_WEIGHT);
        self.used += weighted / VirtualTime::from(self.weight);
        // A lane throttled before has its check already, and that one sees the larger debt.
        let throttled = self.is_throttled();
        let check = self.rare.as_mut()?.bandwidth.charge(time, now());
        check.filter(|_| !throttled)
    }

    fn is_eligible(&self) -> bool {
        !self.paused && !self.waiting.is_empty() && !self.is_throttled() && !self.is_held()
    }
}

/// The eligible lanes by virtual time, and the present.
#[derive(Default)]
pub(super) struct Order {
    /// The present: the virtual time of the lane that was granted last.
    present: VirtualTime,
    eligible: BTreeSet<(VirtualTime, LaneId)>,
    /// True if as many turns of all lanes wait in the kernel as may: lanes whose turns may wait are
    /// not eligible then.
    pub(super) full: bool,
}

impl Order {
    pub(super) fn present(&self) -> VirtualTime {
        self.present
    }

    /// The lane with the least virtual time.
    pub(super) fn first(&self) -> Option<LaneId> {
        self.eligible.first().map(|(_, id)| *id)
    }

    /// Moves the present to the virtual time of the first lane, which is granted a turn.
    pub(super) fn advance(&mut self) {
        if let Some((used, _)) = self.eligible.first() {
            // Never back: invariant 2.
            self.present = *used;
        }
    }

    /// Lists a lane as it is after a change.
    pub(super) fn update(&mut self, id: LaneId, lane: &mut LaneState) {
        if !lane.is_eligible() || self.full && lane.may_wait {
            return self.remove(id, lane);
        }
        if lane.listed.is_none() {
            // Time spent idle, paused or throttled is not made up for.
            lane.used = lane.used.max(self.present);
        }
        if lane.listed != Some(lane.used) {
            self.remove(id, lane);
            self.eligible.insert((lane.used, id));
            lane.listed = Some(lane.used);
        }
    }

    pub(super) fn remove(&mut self, id: LaneId, lane: &mut LaneState) {
        if let Some(used) = lane.listed.take() {
            self.eligible.remove(&(used, id));
        }
    }

    /// Number of eligible lanes.
    pub(super) fn len(&self) -> usize {
        self.eligible.len()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.eligible.is_empty()
    }
}
