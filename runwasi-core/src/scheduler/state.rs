//! Pure state of the fair queue: its decisions as plain functions, without locks, wakers and clock.
//!
//! ```text
//!         wake             permit free, lane is first            take_turn
//!   Idle ────────▶ Waiting ────────────────────────────▶ Granted ──────▶ Running
//!    ▲                ▲                                                   ▲ │  │ wake
//!    │                └──────── end_turn ◀─── Woken ◀─────────────────────┼─┼──┘
//!    │                                          └───────── go_on ─────────┘ │
//!    └────────────────────────────────────────────── end_turn ◀─────────────┘
//! ```
//!
//! A permit is free, or belongs to a seat that is granted, running or woken. A turn whose thread
//! waits in the kernel gives its permit back before its end ([`State::hold_turn`]). Every operation
//! that may free a permit or let a seat wait is followed by calls of [`State::grant`] until one
//! returns nothing. Afterwards no permit is free while a seat could use it.

use std::{
    collections::HashMap,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

#[cfg(test)]
use super::lane::VirtualTime;
use super::{
    bandwidth::Throttling,
    lane::{DEFAULT_WEIGHT, LaneId, LaneState, Order, ProcessId, SeatId},
};
use crate::{
    bundle::resources::Quota,
    observe::{Subject, Throttled},
};

/// State of a queue. `W` notifies a seat of its grant; the state keeps it and never uses it.
pub(super) struct State<W> {
    free_permits: usize,
    order: Order,
    lanes: HashMap<LaneId, LaneState>,
    seats: HashMap<SeatId, SeatState<W>>,
    /// Turns of all lanes that wait in the kernel.
    held: usize,
    /// As many of them are all that may: told with each.
    most_held: usize,
    /// Throttling of all lanes, also of those that are gone.
    throttling: Throttling,
    /// The last id of any kind; ids are never reused.
    last_id: u64,
}

struct SeatState<W> {
    lane: LaneId,
    process: ProcessId,
    turn: Turn,
    /// Number of the turn, so that a late [`State::hold_turn`] does not hit the next one.
    number: u32,
    /// True if the present turn has given its permit back.
    held: bool,
    /// Set by the first [`State::take_turn`].
    notify: Option<W>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Idle,
    Waiting,
    Granted,
    Running,
    Woken,
}

/// A permit given to a seat.
pub(super) struct Granted<W> {
    /// Absent if the seat was granted before its first [`State::take_turn`].
    pub(super) notify: Option<W>,
}

/// Answer to a seat that asks for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TurnAnswer {
    /// It was granted one, which runs now and has this number.
    Run(u32),
    /// It was idle and waits from now on.
    Queued,
    /// It waits already, or is gone.
    Wait,
}

/// Turns that wait in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// Turns of the lane.
    pub(super) lane: usize,
    /// Turns of all lanes.
    pub(super) all: usize,
}

/// A lane has used up its quota: [`State::check_throttling`] is due at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) lane: LaneId,
    pub(super) at: Instant,
}

impl<W: Clone> State<W> {
    pub(super) fn new(permits: usize) -> Self {
        Self {
            free_permits: permits,
            order: Order::default(),
            lanes: HashMap::new(),
            seats: HashMap::new(),
            held: 0,
            most_held: usize::MAX,
            throttling: Throttling::default(),
            last_id: 0,
        }
    }

    fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn add_lane(&mut self, weight: u64) -> LaneId {
        let id = self.new_id();
        // Starts at the present: a new lane does not catch up with the time before it.
        self.lanes.insert(id, LaneState::new(self.order.present(), weight));
        id
    }

    /// Names the container of a lane in the log.
    pub(super) fn describe(&mut self, id: LaneId, subject: Arc<Subject>) {
        self.change(id, |lane| lane.subject = Some(subject));
    }

    pub(super) fn remove_lane(&mut self, id: LaneId) {
        if let Some(mut lane) = self.lanes.remove(&id) {
            self.order.remove(id, &mut lane);
        }
        shrink(&mut self.lanes);
    }

    /// A new id for a process.
    pub(super) fn add_process(&mut self) -> ProcessId {
        self.new_id()
    }

    pub(super) fn add_seat(&mut self, lane: LaneId, process: ProcessId) -> SeatId {
        let id = self.new_id();
        self.seats.insert(
            id,
            SeatState { lane, process, turn: Turn::Idle, number: 0, held: false, notify: None },
        );
        id
    }

    /// Removes a seat and takes back a permit that it was granted. Not while its turn runs.
    /// Returns the seat's notifier.
    // Returned, because a waker must not be dropped under the caller's lock.
    pub(super) fn remove_seat(&mut self, id: SeatId) -> Option<W> {
        let seat = self.seats.remove(&id)?;
        shrink(&mut self.seats);
        if seat.turn == Turn::Granted {
            self.free_permits += 1;
            self.change(seat.lane, |lane| lane.turns -= 1);
        }
        seat.notify
    }

    /// Handles the wake-up of a seat. Returns true if it waits from now on.
    #[must_use]
    pub(super) fn wake(&mut self, id: SeatId) -> bool {
        let Some(seat) = self.seats.get_mut(&id) else { return false };
        match seat.turn {
            Turn::Idle => {
                self.wait(id);
                true
            }
            Turn::Running => {
                // Remembered: the end of the turn queues the seat again.
                seat.turn = Turn::Woken;
                false
            }
            // A turn is due already.
            Turn::Waiting | Turn::Granted | Turn::Woken => false,
        }
    }

    /// Begins the turn that a seat was granted. Otherwise the seat waits for one. `is_current`
    /// compares the known notifier with that of this call, `notify` makes the new one.
    pub(super) fn take_turn(
        &mut self,
        id: SeatId,
        is_current: impl FnOnce(&W) -> bool,
        notify: impl FnOnce() -> W,
    ) -> TurnAnswer {
        let Some(seat) = self.seats.get_mut(&id) else { return TurnAnswer::Wait };
        // Also for a turn that begins: the next one may be granted before this one has ended.
        if !seat.notify.as_ref().is_some_and(is_current) {
            seat.notify = Some(notify());
        }
        match seat.turn {
            Turn::Granted => {
                seat.turn = Turn::Running;
                seat.number = seat.number.wrapping_add(1);
                TurnAnswer::Run(seat.number)
            }
            Turn::Idle => {
                self.wait(id);
                TurnAnswer::Queued
            }
            Turn::Waiting | Turn::Running | Turn::Woken => TurnAnswer::Wait,
        }
    }

    /// Continues the turn of a seat that was woken in it. False if it was not, or if the seat gets
    /// no turns now.
    pub(super) fn go_on(&mut self, id: SeatId) -> bool {
        let Some(seat) = self.seats.get_mut(&id) else { return false };
        // A turn that has given its permit back must end to take part again.
        if seat.turn != Turn::Woken || seat.held {
            return false;
        }
        let runs = |lane: &LaneState| {
            !lane.paused && !lane.is_throttled() && !lane.has_stopped(seat.process)
        };
        if !self.lanes.get(&seat.lane).is_some_and(runs) {
            return false;
        }
        seat.turn = Turn::Running;
        true
    }

    /// Ends a turn that has used that CPU time. `now` is called for a lane with rare state only.
    pub(super) fn end_turn(
        &mut self,
        id: SeatId,
        time: Duration,
        now: impl FnOnce() -> Instant,
    ) -> Option<Check> {
        let Some(seat) = self.seats.get_mut(&id) else {
            self.free_permits += 1;
            return None;
        };
        let was_held = mem::take(&mut seat.held);
        let process = seat.process;
        match was_held {
            true => self.held -= 1,
            false => self.free_permits += 1,
        }
        let is_woken = seat.turn == Turn::Woken;
        seat.turn = Turn::Idle;
        let lane_id = seat.lane;
        // Charged before it waits again: the next grant compares up-to-date virtual times.
        let mut check = None;
        if let Some(lane) = self.lanes.get_mut(&lane_id) {
            let before = lane.throttling();
            lane.turns -= 1;
            if was_held {
                let held = &mut lane.rare().held;
                if let Some(n) = held.iter().position(|one| *one == process) {
                    held.swap_remove(n);
                }
            }
            check = lane.charge(time, now).map(|at| Check { lane: lane_id, at });
            self.throttling += lane.throttling() - before;
            self.order.update(lane_id, lane);
        }
        if was_held {
            // Turns that ran already may have made them more than the most.
            self.set_full(self.held >= self.most_held);
        }
        if is_woken {
            self.wait(id);
        }
        check
    }

    /// Takes the permit of a turn whose thread waits in the kernel: other lanes get turns
    /// meanwhile. Returns how many turns wait now, or nothing if that turn is over. From `most`
    /// turns of all lanes on, lanes whose turns may wait get no further ones.
    #[must_use]
    pub(super) fn hold_turn(&mut self, id: SeatId, number: u32, most: usize) -> Option<Held> {
        let seat = self.seats.get_mut(&id)?;
        let runs = matches!(seat.turn, Turn::Running | Turn::Woken) && seat.number == number;
        if !runs || seat.held {
            return None;
        }
        seat.held = true;
        self.free_permits += 1;
        self.held += 1;
        self.most_held = most;
        let process = seat.process;
        let lane = seat.lane;
        let mut held = 0;
        self.change(lane, |lane| {
            lane.rare().held.push(process);
            held = lane.rare().held.len();
        });
        self.set_full(self.held >= most);
        Some(Held { lane: held, all: self.held })
    }

    /// Lets the lanes whose turns may wait get no turns, or get them again.
    fn set_full(&mut self, full: bool) {
        if self.order.full != full {
            self.order.full = full;
            for (id, lane) in self.lanes.iter_mut().filter(|(_, lane)| lane.may_wait) {
                self.order.update(*id, lane);
            }
        }
    }

    /// Number of turns of a process that wait in the kernel.
    pub(super) fn held(&self, lane: LaneId, process: ProcessId) -> usize {
        let rare = self.lanes.get(&lane).and_then(|lane| lane.rare.as_ref());
        rare.map_or(0, |rare| rare.held.iter().filter(|one| **one == process).count())
    }

    /// Puts a seat into the queue of its lane.
    fn wait(&mut self, id: SeatId) {
        let Some(seat) = self.seats.get_mut(&id) else { return };
        seat.turn = Turn::Waiting;
        let Some(lane) = self.lanes.get_mut(&seat.lane) else { return };
        if lane.has_stopped(seat.process) {
            lane.rare().parked.push(id);
        } else {
            lane.waiting.push_back(id);
            self.order.update(seat.lane, lane);
        }
    }

    /// Grants one permit, if one is free and a seat waits: to the seat of the first lane that has
    /// waited longest.
    pub(super) fn grant(&mut self) -> Option<Granted<W>> {
        while self.free_permits > 0 {
            let lane_id = self.order.first()?;
            // Both present in a listed lane: an entry goes with its lane and its last seat.
            let lane = self.lanes.get_mut(&lane_id)?;
            let seat_id = lane.waiting.pop_front()?;
            let granted = match self.seats.get_mut(&seat_id) {
                Some(seat) if lane.has_stopped(seat.process) => {
                    lane.rare().parked.push(seat_id);
                    None
                }
                Some(seat) => {
                    seat.turn = Turn::Granted;
                    lane.turns += 1;
                    self.free_permits -= 1;
                    self.order.advance();
                    Some(Granted { notify: seat.notify.clone() })
                }
                // The seat was removed while it waited.
                None => None,
            };
            // Stays at its time: `end_turn` moves the lane on.
            self.order.update(lane_id, lane);
            if granted.is_some() {
                return granted;
            }
        }
        None
    }

    /// Grants no turn to the lane until [`State::resume`].
    pub(super) fn pause(&mut self, lane: LaneId) {
        self.change(lane, |lane| lane.paused = true);
    }

    pub(super) fn resume(&mut self, lane: LaneId) {
        self.change(lane, |lane| lane.paused = false);
    }

    pub(super) fn set_weight(&mut self, lane: LaneId, weight: u64) {
        self.change(lane, |lane| lane.set_weight(weight));
    }

    /// Sets how many turns of the lane may wait in the kernel, and if they may do so at any time.
    pub(super) fn bound_held(&mut self, lane: LaneId, most: u32, may_wait: bool) {
        self.change(lane, |lane| {
            lane.most_held = most;
            lane.may_wait = may_wait;
        });
    }

    /// Replaces or removes the quota.
    pub(super) fn set_quota(&mut self, lane: LaneId, quota: Option<Quota>, now: Instant) {
        self.change(lane, |lane| {
            // No quota before and after: the lane needs no `rare`.
            if quota.is_some() || lane.rare.is_some() {
                lane.rare().bandwidth.set(quota, now);
            }
        });
    }

    /// Grants no turn to that process of the lane until [`State::continue_process`].
    pub(super) fn stop_process(&mut self, lane: LaneId, process: ProcessId) {
        // Seats that wait now are parked by `grant` when they come up.
        self.change(lane, |lane| {
            if !lane.has_stopped(process) {
                lane.rare().stopped.push(process);
            }
        });
    }

    pub(super) fn continue_process(&mut self, lane: LaneId, process: ProcessId) {
        let Some(rare) = self.lanes.get_mut(&lane).and_then(|lane| lane.rare.as_mut()) else {
            return;
        };
        rare.stopped.retain(|stopped| *stopped != process);
        // `wait` parks the seats of other stopped processes again.
        for seat in mem::take(&mut rare.parked) {
            self.wait(seat);
        }
    }

    /// Ends the throttling of a lane if its debt is paid. Otherwise returns the next check.
    pub(super) fn check_throttling(&mut self, lane: LaneId, now: Instant) -> Option<Check> {
        let mut at = None;
        self.change(lane, |lane| {
            at = lane.rare.as_mut().and_then(|rare| rare.bandwidth.look(now));
        });
        at.map(|at| Check { lane, at })
    }

    /// A long throttling of a lane that has not been told yet.
    pub(super) fn take_long_throttling(
        &mut self,
        lane: LaneId,
    ) -> Option<(Arc<Subject>, Throttled)> {
        let lane = self.lanes.get_mut(&lane)?;
        let long = lane.rare.as_mut()?.bandwidth.take_long()?;
        Some((lane.subject.clone()?, long))
    }

    pub(super) fn limits(&self, lane: LaneId) -> (u64, Option<Quota>) {
        let lane = self.lanes.get(&lane);
        lane.map(LaneState::limits).unwrap_or((DEFAULT_WEIGHT, None))
    }

    pub(super) fn throttling(&self, lane: LaneId) -> Throttling {
        self.lanes.get(&lane).map(LaneState::throttling).unwrap_or_default()
    }

    /// Throttling of all lanes there have been.
    pub(super) fn total_throttling(&self) -> Throttling {
        self.throttling
    }

    /// Number of lanes that wait for a permit.
    pub(super) fn waiting_lanes(&self) -> usize {
        self.order.len()
    }

    /// Number of turns that wait in the kernel.
    pub(super) fn total_held(&self) -> usize {
        self.held
    }

    fn change(&mut self, id: LaneId, change: impl FnOnce(&mut LaneState)) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            let before = lane.throttling();
            change(lane);
            self.throttling += lane.throttling() - before;
            self.order.update(id, lane);
        }
    }
}

fn shrink<V>(table: &mut HashMap<u64, V>) {
    // A `HashMap` keeps its largest size for ever, and a node may have had ten thousand containers.
    // An eighth and twice the length: far apart, so that a table does not shrink and grow in turns.
    if table.capacity() > 1024 && table.len() < table.capacity() / 8 {
        table.shrink_to(table.len() * 2);
    }
}

#[cfg(test)]
impl<W> State<W> {
    pub(super) fn free_permits(&self) -> usize {
        self.free_permits
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty() && self.seats.is_empty() && self.order.is_empty()
    }

    pub(super) fn capacity(&self) -> usize {
        self.lanes.capacity().max(self.seats.capacity())
    }

    pub(super) fn is_granted(&self, seat: SeatId) -> bool {
        self.seats[&seat].turn == Turn::Granted
    }

    /// Virtual time of a lane.
    pub(super) fn used(&self, lane: LaneId) -> VirtualTime {
        self.lanes[&lane].used
    }

    /// The present.
    pub(super) fn present(&self) -> VirtualTime {
        self.order.present()
    }
}
