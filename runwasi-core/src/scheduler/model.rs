//! Model test of the fair queue: any history of wake-ups, turns, pauses, stops and quotas, compared
//! with a model that searches plain lists instead of keeping an order.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{
    bandwidth::Bandwidth,
    lane::{DEFAULT_WEIGHT, LaneId, ProcessId, SeatId, VirtualTime},
    state::{Check, State, TurnAnswer},
};
use crate::bundle::resources::Quota;

const LONGEST_TURN: Duration = Duration::from_millis(10);
const PROCESSES: usize = 3;

/// One operation. Indices count modulo the length of their list.
#[derive(Clone, Copy, Debug)]
enum Step {
    AddLane { weight: u64 },
    RemoveLane(usize),
    AddSeat { lane: usize, process: usize },
    RemoveSeat(usize),
    Wake(usize),
    TakeTurn(usize),
    EndTurn { seat: usize, time: Duration },
    Pause(usize),
    Resume(usize),
    Stop { lane: usize, process: usize },
    Continue { lane: usize, process: usize },
    SetWeight { lane: usize, weight: u64 },
    SetQuota { lane: usize, quota: Option<Quota> },
    Pass(Duration),
}

fn any_index() -> impl Strategy<Value = usize> {
    0..60usize
}

fn any_turn() -> impl Strategy<Value = Duration> {
    (0..=LONGEST_TURN.as_micros() as u64).prop_map(Duration::from_micros)
}

fn any_weight() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(DEFAULT_WEIGHT), 2..5000u64]
}

fn any_quota() -> impl Strategy<Value = Option<Quota>> {
    let quota = (1..20u64).prop_map(|ms| Quota {
        time: Duration::from_millis(ms),
        period: Duration::from_millis(20),
    });
    proptest::option::of(quota)
}

fn any_step() -> impl Strategy<Value = Step> {
    let member = || (any_index(), 0..PROCESSES);
    prop_oneof![
        1 => any_weight().prop_map(|weight| Step::AddLane { weight }),
        1 => any_index().prop_map(Step::RemoveLane),
        3 => member().prop_map(|(lane, process)| Step::AddSeat { lane, process }),
        1 => any_index().prop_map(Step::RemoveSeat),
        8 => any_index().prop_map(Step::Wake),
        8 => any_index().prop_map(Step::TakeTurn),
        8 => (any_index(), any_turn()).prop_map(|(seat, time)| Step::EndTurn { seat, time }),
        1 => any_index().prop_map(Step::Pause),
        1 => any_index().prop_map(Step::Resume),
        1 => member().prop_map(|(lane, process)| Step::Stop { lane, process }),
        1 => member().prop_map(|(lane, process)| Step::Continue { lane, process }),
        1 => (any_index(), any_weight())
            .prop_map(|(lane, weight)| Step::SetWeight { lane, weight }),
        1 => (any_index(), any_quota()).prop_map(|(lane, quota)| Step::SetQuota { lane, quota }),
        2 => (0..30u64).prop_map(|ms| Step::Pass(Duration::from_millis(ms))),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Idle,
    Waiting,
    Granted,
    Running { woken: bool },
}

struct Seat {
    id: SeatId,
    lane: LaneId,
    process: usize,
    turn: Turn,
    /// Number of the step that let it wait.
    since: usize,
    /// Its notifier is known.
    is_known: bool,
}

struct Lane {
    id: LaneId,
    weight: u64,
    /// The least weight it ever had.
    least_weight: u64,
    used: VirtualTime,
    paused: bool,
    bandwidth: Bandwidth,
    processes: [ProcessId; PROCESSES],
    stopped: [bool; PROCESSES],
    ever_stopped: bool,
    /// It may run and has a waiting seat that may run.
    is_runnable: bool,
}

/// The queue under test beside the model.
struct Fixture {
    state: State<SeatId>,
    permits: usize,
    now: Instant,
    checks: Vec<Check>,
    lanes: Vec<Lane>,
    seats: Vec<Seat>,
    /// Virtual time of the lane that was granted last.
    present: VirtualTime,
    steps: usize,
}

impl Fixture {
    fn new(permits: usize) -> Self {
        Self {
            state: State::new(permits),
            permits,
            now: Instant::now(),
            checks: Vec::new(),
            lanes: Vec::new(),
            seats: Vec::new(),
            present: 0,
            steps: 0,
        }
    }

    fn apply(&mut self, step: Step) {
        self.steps += 1;
        match step {
            Step::AddLane { weight } => self.add_lane(weight),
            Step::Pass(time) => self.pass(time),
            Step::RemoveSeat(index) => self.remove_seat(index),
            Step::Wake(index) => self.wake(index),
            Step::TakeTurn(index) => self.take_turn(index),
            Step::EndTurn { seat, time } => self.end_turn(seat, time),
            Step::RemoveLane(lane)
            | Step::AddSeat { lane, .. }
            | Step::Pause(lane)
            | Step::Resume(lane)
            | Step::Stop { lane, .. }
            | Step::Continue { lane, .. }
            | Step::SetWeight { lane, .. }
            | Step::SetQuota { lane, .. } => {
                if !self.lanes.is_empty() {
                    self.change_lane(lane % self.lanes.len(), step);
                }
            }
        }
        self.grant();
        self.check();
    }

    fn add_lane(&mut self, weight: u64) {
        let id = self.state.add_lane(weight);
        self.lanes.push(Lane {
            id,
            weight: weight.max(1),
            least_weight: weight.max(1),
            used: self.present,
            paused: false,
            bandwidth: Bandwidth::default(),
            processes: [(); PROCESSES].map(|()| self.state.add_process()),
            stopped: [false; PROCESSES],
            ever_stopped: false,
            is_runnable: false,
        });
    }

    fn change_lane(&mut self, index: usize, step: Step) {
        let lane = &mut self.lanes[index];
        let id = lane.id;
        match step {
            Step::RemoveLane(_) => {
                // As in the shim: a lane outlives its seats.
                if self.seats.iter().all(|seat| seat.lane != id) {
                    self.state.remove_lane(id);
                    self.lanes.remove(index);
                }
            }
            Step::AddSeat { process, .. } => {
                let seat = self.state.add_seat(id, lane.processes[process]);
                let turn = Turn::Idle;
                self.seats.push(Seat {
                    id: seat,
                    lane: id,
                    process,
                    turn,
                    since: 0,
                    is_known: false,
                });
            }
            Step::Pause(_) => {
                self.state.pause(id);
                lane.paused = true;
            }
            Step::Resume(_) => {
                self.state.resume(id);
                lane.paused = false;
            }
            Step::Stop { process, .. } => {
                self.state.stop_process(id, lane.processes[process]);
                lane.stopped[process] = true;
                lane.ever_stopped = true;
            }
            Step::Continue { process, .. } => {
                self.state.continue_process(id, lane.processes[process]);
                lane.stopped[process] = false;
            }
            Step::SetWeight { weight, .. } => {
                self.state.set_weight(id, weight);
                lane.weight = weight.max(1);
                lane.least_weight = lane.least_weight.min(lane.weight);
            }
            Step::SetQuota { quota, .. } => {
                self.state.set_quota(id, quota, self.now);
                lane.bandwidth.set(quota, self.now);
            }
            other => panic!("{other:?} changes no lane"),
        }
    }

    /// Lets time pass and makes the checks that are due.
    fn pass(&mut self, time: Duration) {
        self.now += time;
        let now = self.now;
        let (due, later) = self.checks.drain(..).partition(|check: &Check| check.at <= now);
        self.checks = later;
        let due: Vec<Check> = due;
        for check in due {
            self.checks.extend(self.state.check_throttling(check.lane, now));
            if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.id == check.lane) {
                lane.bandwidth.look(now);
            }
        }
    }

    fn seat(&mut self, index: usize) -> Option<&mut Seat> {
        let length = self.seats.len();
        (length > 0).then(|| &mut self.seats[index % length])
    }

    fn remove_seat(&mut self, index: usize) {
        let Some(seat) = self.seat(index) else { return };
        // As in the shim: a turn that runs borrows the seat.
        if !matches!(seat.turn, Turn::Running { .. }) {
            let id = seat.id;
            let known = seat.is_known.then_some(id);
            self.seats.retain(|seat| seat.id != id);
            assert_eq!(self.state.remove_seat(id), known);
        }
    }

    fn wake(&mut self, index: usize) {
        let step = self.steps;
        let Some(seat) = self.seat(index) else { return };
        let id = seat.id;
        let was_idle = seat.turn == Turn::Idle;
        match seat.turn {
            Turn::Idle => {
                seat.turn = Turn::Waiting;
                seat.since = step;
            }
            Turn::Running { .. } => seat.turn = Turn::Running { woken: true },
            Turn::Waiting | Turn::Granted => {}
        }
        assert_eq!(self.state.wake(id), was_idle);
    }

    fn take_turn(&mut self, index: usize) {
        let step = self.steps;
        let Some(seat) = self.seat(index) else { return };
        let id = seat.id;
        let was_known = std::mem::replace(&mut seat.is_known, true);
        let wanted = match seat.turn {
            Turn::Idle => {
                seat.turn = Turn::Waiting;
                seat.since = step;
                TurnAnswer::Queued
            }
            Turn::Granted => {
                seat.turn = Turn::Running { woken: false };
                // The number of the turn is not a decision.
                TurnAnswer::Run(0)
            }
            Turn::Waiting | Turn::Running { .. } => TurnAnswer::Wait,
        };
        let is_current = |known: &SeatId| was_known && *known == id;
        let answer = match self.state.take_turn(id, is_current, || id) {
            TurnAnswer::Run(_) => TurnAnswer::Run(0),
            answer => answer,
        };
        assert_eq!(answer, wanted);
    }

    fn end_turn(&mut self, index: usize, time: Duration) {
        let step = self.steps;
        let Some(seat) = self.seat(index) else { return };
        let id = seat.id;
        let Turn::Running { woken } = seat.turn else { return };
        seat.turn = if woken { Turn::Waiting } else { Turn::Idle };
        seat.since = step;
        let lane = seat.lane;
        let now = self.now;
        self.checks.extend(self.state.end_turn(id, time, || now));
        let lane = self.lanes.iter_mut().find(|other| other.id == lane).unwrap();
        lane.used += time.as_nanos() * u128::from(DEFAULT_WEIGHT) / u128::from(lane.weight);
        lane.bandwidth.charge(time, now);
    }

    /// Finds the lanes that can run a seat. One that could not before starts at the present.
    fn find_runnable(&mut self) {
        for lane in &mut self.lanes {
            let is_runnable = !lane.paused
                && !lane.bandwidth.is_throttled()
                && self.seats.iter().any(|seat| {
                    seat.lane == lane.id
                        && seat.turn == Turn::Waiting
                        && !lane.stopped[seat.process]
                });
            if is_runnable && !lane.is_runnable {
                lane.used = lane.used.max(self.present);
                // The queue may have moved the lane to the present before, for a seat that was
                // removed while it waited; a turn that ended since then was charged on top.
                let used = self.state.used(lane.id);
                assert!(used >= lane.used, "lane {} is behind the model", lane.id);
                assert!(used - lane.used <= self.present, "lane {} is too far ahead", lane.id);
                lane.used = used;
            }
            lane.is_runnable = is_runnable;
        }
    }

    /// Takes all grants. Checks that each is the right one, and that no grant is missing.
    fn grant(&mut self) {
        self.find_runnable();
        while let Some(granted) = self.state.grant() {
            let mut new = self
                .seats
                .iter_mut()
                .filter(|seat| seat.turn == Turn::Waiting && self.state.is_granted(seat.id));
            let seat = new.next().expect("the grant of a seat that waited");
            assert!(new.next().is_none(), "one grant each");
            seat.turn = Turn::Granted;
            assert_eq!(granted.notify, seat.is_known.then_some(seat.id));
            let id = seat.lane;
            let since = seat.since;
            let process = seat.process;
            let least = self.lanes.iter().filter(|lane| lane.is_runnable).map(|lane| lane.used);
            let least = least.min().expect("a lane that may run");
            let lane = self.lanes.iter().find(|lane| lane.id == id).unwrap();
            assert!(lane.is_runnable && !lane.stopped[process], "granted while held");
            assert_eq!(lane.used, least, "granted before a lane with less virtual time");
            let overtakes =
                |seat: &Seat| seat.lane == id && seat.turn == Turn::Waiting && seat.since < since;
            assert!(lane.ever_stopped || !self.seats.iter().any(overtakes), "out of order");
            self.present = least;
            self.find_runnable();
        }
        let idle = self.state.free_permits() > 0;
        assert!(!idle || self.lanes.iter().all(|lane| !lane.is_runnable), "a permit lies idle");
    }

    /// Checks what holds between all steps.
    fn check(&self) {
        let busy = |seat: &&Seat| !matches!(seat.turn, Turn::Idle | Turn::Waiting);
        let busy = self.seats.iter().filter(busy).count();
        assert_eq!(self.state.free_permits() + busy, self.permits, "permits");
        assert_eq!(self.state.present(), self.present);
        for lane in &self.lanes {
            if lane.is_runnable {
                assert_eq!(self.state.used(lane.id), lane.used, "virtual time of lane {}", lane.id);
                assert!(lane.used >= self.present, "a lane is behind the present");
            }
            let lead = lead(self.permits, lane.least_weight);
            assert!(lane.used <= self.present + lead, "a lane is too far ahead");
            let has_check = self.checks.iter().any(|check| check.lane == lane.id);
            assert!(!lane.bandwidth.is_throttled() || has_check, "throttled for ever");
        }
    }

    /// Lifts all holds and runs all turns. Returns the number of turns.
    fn drain(&mut self) -> usize {
        for lane in 0..self.lanes.len() {
            self.apply(Step::Resume(lane));
            self.apply(Step::SetQuota { lane, quota: None });
            (0..PROCESSES).for_each(|process| self.apply(Step::Continue { lane, process }));
        }
        let mut turns = 0;
        while let Some(seat) = self
            .seats
            .iter()
            .position(|seat| matches!(seat.turn, Turn::Granted | Turn::Running { .. }))
        {
            self.apply(Step::TakeTurn(seat));
            self.apply(Step::EndTurn { seat, time: LONGEST_TURN });
            turns += 1;
        }
        turns
    }
}

/// The bound of `lane.rs`: `permits` of the longest turns, in virtual time.
fn lead(permits: usize, weight: u64) -> VirtualTime {
    permits as u128 * LONGEST_TURN.as_nanos() * u128::from(DEFAULT_WEIGHT) / u128::from(weight)
}

proptest! {
    #[test]
    fn any_history_grants_as_the_model_does(
        permits in 1..4usize,
        steps in proptest::collection::vec(any_step(), 0..300),
    ) {
        let mut fixture = Fixture::new(permits);
        for _ in 0..3 {
            fixture.apply(Step::AddLane { weight: DEFAULT_WEIGHT });
        }
        for index in 0..6 {
            fixture.apply(Step::AddSeat { lane: index, process: index % PROCESSES });
        }
        steps.into_iter().for_each(|step| fixture.apply(step));
        let due = fixture.seats.iter().filter(|seat| seat.turn != Turn::Idle).count();
        let woken = |seat: &&Seat| seat.turn == Turn::Running { woken: true };
        let again = fixture.seats.iter().filter(woken).count();
        prop_assert_eq!(fixture.drain(), due + again, "every seat that is due has its turn");
        prop_assert!(fixture.seats.iter().all(|seat| seat.turn == Turn::Idle));
        prop_assert_eq!(fixture.state.free_permits(), permits);
    }

    #[test]
    fn lanes_that_always_compute_get_time_by_weight(
        permits in 1..4usize,
        weights in proptest::collection::vec(2..5000u64, 2..6),
        turns in proptest::collection::vec((any_index(), any_turn()), 1..400),
    ) {
        let mut fixture = Fixture::new(permits);
        // One seat more than permits: a lane has a waiting seat at any time.
        for (lane, weight) in weights.iter().enumerate() {
            fixture.apply(Step::AddLane { weight: *weight });
            (0..=permits).for_each(|_| fixture.apply(Step::AddSeat { lane, process: 0 }));
        }
        (0..fixture.seats.len()).for_each(|seat| fixture.apply(Step::Wake(seat)));
        let mut time = vec![0u128; weights.len()];
        for (choice, turn) in turns {
            let granted: Vec<_> = (0..fixture.seats.len())
                .filter(|seat| fixture.seats[*seat].turn == Turn::Granted)
                .collect();
            let seat = granted[choice % granted.len()];
            fixture.apply(Step::TakeTurn(seat));
            fixture.apply(Step::Wake(seat));
            fixture.apply(Step::EndTurn { seat, time: turn });
            let lane = seat / (permits + 1);
            time[lane] += turn.as_nanos();
            let spread = |lane: usize| {
                time[lane] * u128::from(DEFAULT_WEIGHT) / u128::from(weights[lane])
            };
            for one in 0..weights.len() {
                for other in 0..weights.len() {
                    // Each turn is rounded down by less than a nanosecond.
                    let bound = lead(permits, weights[one]) + 400;
                    prop_assert!(spread(one) <= spread(other) + bound, "{time:?} for {weights:?}");
                }
            }
        }
    }
}
