//! The fair queue in front of the guest runtime: selects the future that is polled next.
//!
//! Tokio alone is not fair to futures that compute: of three spinners on two workers one gets twice
//! the turns of the others. Therefore a guest's wake-ups go to this queue instead of Tokio, and only
//! a future that is *granted* a permit is woken in Tokio. There are as many permits as workers, so a
//! granted future finds a worker at once.
//!
//! ```text
//!         wake             permit free, lane has least           polled
//!   Idle ────────▶ Waiting ────────────────────────────▶ Granted ──────▶ Running
//!    ▲                ▲                                                    │  │ wake
//!    │                └──────── poll over ◀── Woken ◀──────────────────────┼──┘
//!    └────────────────────────────────────────────── poll over ◀───────────┘
//! ```
//!
//! Turns are shared among *lanes* (a lane is a container), not among futures: a server with a
//! thousand connections gets as many turns as one spinner. A lane's virtual time is the CPU time it
//! has used, divided by its weight. The waiting lane with the least virtual time is next. A lane that
//! has slept starts at the present: it is next but has saved up nothing.
//!
//! A lane that is held or has used up its [`bandwidth`](super::bandwidth) is not eligible. The futures
//! of a stopped process are parked, and the rest of its lane goes on.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, MutexGuard},
    task::{Wake, Waker},
    time::{Duration, Instant},
};

use tokio::runtime::Handle;

use super::bandwidth::{Bandwidth, Throttling};
use crate::{bundle::resources::Quota, lock::Mutex, panics};

/// Default weight of a container, in the unit of `cpu.shares`.
pub const DEFAULT_WEIGHT: u64 = 1024;

/// The queue of one guest runtime. Cheap to clone.
#[derive(Clone)]
pub struct FairQueue {
    /// Locked for single steps, never across a poll or an await.
    state: Arc<Mutex<State>>,
    /// The runtime for the timers of throttled lanes.
    timers: Handle,
}

type LaneId = u64;
type ProcessId = u64;
type SeatId = u64;

struct State {
    /// Free permits.
    free: usize,
    /// The present: the virtual time of the lane that was granted last.
    now: u64,
    /// Lanes that may run and have a waiting future, by virtual time.
    eligible: BTreeSet<(u64, LaneId)>,
    lanes: HashMap<LaneId, LaneState>,
    seats: HashMap<SeatId, SeatState>,
    /// The last id of any kind; ids are never reused.
    next: u64,
}

struct LaneState {
    /// Virtual time used, in nanoseconds at the default weight.
    used: u64,
    weight: u64,
    /// Paused: no seat of it is granted.
    held: bool,
    /// In the order of their wake-ups; may name seats that are gone.
    waiting: VecDeque<SeatId>,
    /// State that few lanes need.
    rare: Option<Box<Rare>>,
}

#[derive(Default)]
struct Rare {
    bandwidth: Bandwidth,
    /// Processes that are stopped.
    stopped: Vec<ProcessId>,
    /// Seats of stopped processes that would be waiting; may name seats that are gone.
    parked: Vec<SeatId>,
}

impl LaneState {
    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    fn may_run(&self) -> bool {
        !self.held && !self.rare.as_ref().is_some_and(|rare| rare.bandwidth.is_throttled())
    }

    fn has_stopped(&self, process: ProcessId) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.stopped.contains(&process))
    }
}

struct SeatState {
    lane: LaneId,
    process: ProcessId,
    turn: Turn,
    /// Wakes the Tokio task; set by its first poll.
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Idle,
    Waiting,
    Granted,
    Running,
    Woken,
}

impl FairQueue {
    /// A queue for a runtime of `permits` workers; its timers run on `timers`.
    pub fn new(permits: usize, timers: Handle) -> Self {
        let state = State {
            free: permits,
            now: 0,
            eligible: BTreeSet::new(),
            lanes: HashMap::new(),
            seats: HashMap::new(),
            next: 0,
        };
        Self { state: Arc::new(Mutex::new(state)), timers }
    }

    /// A new lane, which gets turns in proportion to `weight`.
    pub(super) fn lane(&self, weight: u64) -> Lane {
        let mut state = self.lock();
        let id = state.id();
        // Starts at the present: a new lane does not catch up with the time before it.
        let used = state.now;
        let lane = LaneState {
            used,
            // A weight of 0 would divide by zero in `charge`.
            weight: weight.max(1),
            held: false,
            waiting: VecDeque::new(),
            rare: None,
        };
        state.lanes.insert(id, lane);
        Lane { queue: self.clone(), id }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Checks a throttled lane when its debt is paid.
    fn look_at(&self, lane: LaneId, at: Instant) {
        let queue = self.clone();
        // Fatal: without this check the lane would never be polled again.
        self.timers.spawn(panics::fatal_future(async move {
            tokio::time::sleep_until(at.into()).await;
            queue.look(lane);
        }));
    }

    fn look(&self, id: LaneId) {
        let mut state = self.lock();
        let Some(lane) = state.lanes.get_mut(&id) else { return };
        let again = lane.rare().bandwidth.look(Instant::now());
        // No effect if the lane is still throttled.
        state.let_run(id);
        drop(state);
        match again {
            Some(at) => self.look_at(id, at),
            None => self.grant(),
        }
    }

    /// Hands out free permits.
    fn grant(&self) {
        // The inner block releases the lock before the wake-up: a waker runs Tokio's code, which may
        // drop a task and with it a `Seat` that locks the queue.
        while let Some(granted) = { self.lock().grant() } {
            // Without a waker the seat was granted before its first poll, which Tokio owes it anyway.
            if let Some(waker) = granted {
                waker.wake();
            }
        }
    }
}

impl State {
    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn turn(&self, seat: SeatId) -> Option<Turn> {
        self.seats.get(&seat).map(|seat| seat.turn)
    }

    /// Puts a seat into the queue of its lane.
    fn wait(&mut self, seat: SeatId) {
        let Some(place) = self.seats.get_mut(&seat) else { return };
        place.turn = Turn::Waiting;
        let id = place.lane;
        let process = place.process;
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        if lane.has_stopped(process) {
            return lane.rare().parked.push(seat);
        }
        lane.waiting.push_back(seat);
        // With more than one the lane is eligible already, or may not run.
        if lane.waiting.len() == 1 {
            self.let_run(id);
        }
    }

    /// Makes a lane eligible from the present on, if it may run and has a waiting future.
    fn let_run(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        if lane.may_run() && !lane.waiting.is_empty() && !self.eligible.contains(&(lane.used, id)) {
            // Time spent idle, held or throttled is not made up for.
            lane.used = lane.used.max(self.now);
            self.eligible.insert((lane.used, id));
        }
    }

    /// Grants one permit, if one is free and a future waits. Returns its waker, if it has one yet.
    fn grant(&mut self) -> Option<Option<Waker>> {
        while self.free > 0 {
            let (used, id) = self.eligible.pop_first()?;
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            let next = lane.waiting.pop_front();
            // At its old time: `charge` moves the lane on when the turn is over.
            if !lane.waiting.is_empty() {
                self.eligible.insert((used, id));
            }
            let Some((id, seat)) = next.and_then(|id| Some((id, self.seats.get_mut(&id)?))) else {
                // A dropped seat leaves its id in the queue: to search for it costs more.
                continue;
            };
            // Stopped while it waited.
            if lane.has_stopped(seat.process) {
                lane.rare().parked.push(id);
                continue;
            }
            seat.turn = Turn::Granted;
            // Never back: a lane may be granted at a time before the present.
            self.now = self.now.max(used);
            self.free -= 1;
            return Some(seat.waker.clone());
        }
        None
    }

    /// Charges CPU time to a lane. If that uses up its quota, returns the time of the next check.
    fn charge(&mut self, id: LaneId, time: Duration) -> Option<Instant> {
        let lane = self.lanes.get_mut(&id)?;
        // The entry is keyed by `used`: out before the change, in again after it.
        let was_eligible = self.eligible.remove(&(lane.used, id));
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        lane.used = lane.used.saturating_add(nanos.saturating_mul(DEFAULT_WEIGHT) / lane.weight);
        let throttled = lane.rare.as_ref().is_some_and(|rare| rare.bandwidth.is_throttled());
        let until = lane.rare.as_mut().and_then(|rare| rare.bandwidth.charge(time, Instant::now()));
        if was_eligible && lane.may_run() {
            self.eligible.insert((lane.used, id));
        }
        // A lane throttled before has its timer already, and that check sees the larger debt.
        until.filter(|_| !throttled)
    }

    fn hold(&mut self, id: LaneId) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.held = true;
            self.eligible.remove(&(lane.used, id));
        }
    }

    /// Returns table memory after many containers have gone.
    fn shrink(&mut self) {
        shrink(&mut self.lanes);
        shrink(&mut self.seats);
    }
}

fn shrink<V>(table: &mut HashMap<u64, V>) {
    // A `HashMap` keeps its largest size for ever, and a node may have had ten thousand containers.
    // An eighth and twice the length: far apart, so that a table does not shrink and grow in turns.
    if table.capacity() > 1024 && table.len() < table.capacity() / 8 {
        table.shrink_to(table.len() * 2);
    }
}

/// A container's lane in the queue; dropping it removes the lane.
pub(super) struct Lane {
    queue: FairQueue,
    id: LaneId,
}

impl Lane {
    /// A new id for one process of the container.
    pub(super) fn process(&self) -> ProcessId {
        self.queue.lock().id()
    }

    /// A seat for one future of a process.
    pub(super) fn seat(&self, process: ProcessId) -> Seat {
        let mut state = self.queue.lock();
        let id = state.id();
        state.seats.insert(id, SeatState { lane: self.id, process, turn: Turn::Idle, waker: None });
        Seat(Arc::new(SeatHandle { queue: self.queue.clone(), id }))
    }

    /// Grants no turn to the lane until [`Lane::resume`]. A running future goes on to its next yield.
    pub(super) fn pause(&self) {
        self.queue.lock().hold(self.id);
    }

    /// Ends a pause. Time spent paused is not made up for.
    pub(super) fn resume(&self) {
        self.change(|lane| lane.held = false);
    }

    /// Grants no turn to that process until [`Lane::continue_process`]. A running future goes on to
    /// its next yield.
    pub(super) fn stop_process(&self, process: ProcessId) {
        // Seats that wait now are parked by `grant` when they come up.
        self.change(|lane| {
            if !lane.has_stopped(process) {
                lane.rare().stopped.push(process);
            }
        });
    }

    /// Ends the stop of a process.
    pub(super) fn continue_process(&self, process: ProcessId) {
        let mut state = self.queue.lock();
        let Some(rare) = state.lanes.get_mut(&self.id).and_then(|lane| lane.rare.as_mut()) else {
            return;
        };
        rare.stopped.retain(|stopped| *stopped != process);
        // `wait` parks the seats of processes that are still stopped again.
        for seat in std::mem::take(&mut rare.parked) {
            state.wait(seat);
        }
        drop(state);
        self.queue.grant();
    }

    /// Sets another weight.
    pub(super) fn set_weight(&self, weight: u64) {
        self.change(|lane| lane.weight = weight.max(1));
    }

    /// Replaces or removes the quota.
    pub(super) fn set_quota(&self, quota: Option<Quota>) {
        self.change(|lane| {
            // No quota before and after: the lane needs no `rare`.
            if quota.is_some() || lane.rare.is_some() {
                lane.rare().bandwidth.set(quota, Instant::now());
            }
        });
    }

    /// Throttling counters of the lane.
    pub(super) fn throttling(&self) -> Throttling {
        let state = self.queue.lock();
        let rare = state.lanes.get(&self.id).and_then(|lane| lane.rare.as_ref());
        rare.map(|rare| rare.bandwidth.throttling()).unwrap_or_default()
    }

    fn change(&self, change: impl FnOnce(&mut LaneState)) {
        let mut state = self.queue.lock();
        let Some(lane) = state.lanes.get_mut(&self.id) else { return };
        change(lane);
        // The change may have ended a pause or a throttling.
        state.let_run(self.id);
        drop(state);
        self.queue.grant();
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        if let Some(lane) = state.lanes.remove(&self.id) {
            state.eligible.remove(&(lane.used, self.id));
        }
        state.shrink();
    }
}

/// The seat of one future in its lane; dropping it returns a permit it was granted.
pub(super) struct Seat(Arc<SeatHandle>);

struct SeatHandle {
    queue: FairQueue,
    id: SeatId,
}

impl Seat {
    /// The waker to poll the future with.
    pub(super) fn waker(&self) -> Waker {
        self.0.clone().into()
    }

    /// Queues the future for its first turn before Tokio has polled it. If a permit is free, the
    /// first poll already runs it.
    pub(super) fn enter(&self) {
        let Self(handle) = self;
        handle.queue.lock().wait(handle.id);
        handle.queue.grant();
    }

    /// Takes the granted turn. Otherwise the future waits, and a later grant wakes `task`.
    pub(super) fn take_turn(&self, task: &Waker) -> Option<RunningTurn<'_>> {
        let Self(handle) = self;
        let mut state = handle.queue.lock();
        let seat = state.seats.get_mut(&handle.id)?;
        // Stored under the lock that a grant takes: no grant can miss the waker. Also when it runs
        // now, since its next turn may be granted before Tokio sees the end of this poll.
        if !seat.waker.as_ref().is_some_and(|known| known.will_wake(task)) {
            seat.waker = Some(task.clone());
        }
        if seat.turn == Turn::Granted {
            seat.turn = Turn::Running;
            return Some(RunningTurn { handle, used: Duration::ZERO });
        }
        if seat.turn == Turn::Idle {
            // Polled without a wake-up of this queue: Tokio has a reason of its own.
            state.wait(handle.id);
            drop(state);
            handle.queue.grant();
        }
        None
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Self(handle) = self;
        let mut state = handle.queue.lock();
        let Some(seat) = state.seats.remove(&handle.id) else { return };
        state.shrink();
        // Not `Running`: a running turn borrows the seat and returns its permit itself.
        if seat.turn == Turn::Granted {
            state.free += 1;
            drop(state);
            handle.queue.grant();
        }
    }
}

impl Wake for SeatHandle {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.queue.lock();
        match state.turn(self.id) {
            Some(Turn::Idle) => state.wait(self.id),
            Some(Turn::Running) => {
                // Remembered: the end of the turn queues the seat again.
                if let Some(seat) = state.seats.get_mut(&self.id) {
                    seat.turn = Turn::Woken;
                }
                return;
            }
            // A turn is due already, or the seat is gone.
            Some(Turn::Waiting | Turn::Granted | Turn::Woken) | None => return,
        }
        drop(state);
        self.queue.grant();
    }
}

/// A turn in progress; ends when it is dropped, also when the poll panics.
pub(super) struct RunningTurn<'a> {
    handle: &'a SeatHandle,
    /// CPU time of the turn, to be set before the end.
    pub(super) used: Duration,
}

impl Drop for RunningTurn<'_> {
    fn drop(&mut self) {
        let Self { handle, used } = self;
        let mut state = handle.queue.lock();
        state.free += 1;
        let mut throttled = None;
        if let Some(seat) = state.seats.get_mut(&handle.id) {
            let lane = seat.lane;
            let woken = seat.turn == Turn::Woken;
            seat.turn = Turn::Idle;
            // Charged before it waits again: the next grant compares up-to-date virtual times.
            throttled = state.charge(lane, *used).map(|until| (lane, until));
            if woken {
                state.wait(handle.id);
            }
        }
        // Timers and grants call into Tokio: not under the lock.
        drop(state);
        if let Some((lane, until)) = throttled {
            handle.queue.look_at(lane, until);
        }
        handle.queue.grant();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A future that is always ready: counts its turns and the wake-ups of its task.
    struct Spinner {
        _lane: Lane,
        seat: Seat,
        woken: Arc<Count>,
        turns: usize,
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn queue(permits: usize) -> FairQueue {
        // Shut down at once: no test of the queue itself throttles.
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        FairQueue::new(permits, runtime.handle().clone())
    }

    impl Spinner {
        fn new(queue: &FairQueue, weight: u64) -> Self {
            let lane = queue.lane(weight);
            Self { seat: lane.seat(lane.process()), _lane: lane, woken: Arc::default(), turns: 0 }
        }

        /// Polls as Tokio does, and again if the poll has woken the task.
        fn take(&self) -> Option<RunningTurn<'_>> {
            take(&self.seat, &self.woken)
        }
    }

    fn take<'a>(seat: &'a Seat, woken: &Arc<Count>) -> Option<RunningTurn<'a>> {
        let waker = woken.clone().into();
        seat.take_turn(&waker).or_else(|| seat.take_turn(&waker))
    }

    /// `workers` run every granted spinner for a millisecond, `rounds` times.
    fn run(spinners: &mut [Spinner], workers: usize, rounds: usize) {
        let mut turns = vec![0; spinners.len()];
        let mut running = VecDeque::new();
        for _ in 0..rounds {
            for (i, spinner) in spinners.iter().enumerate() {
                if let Some(turn) = spinner.take() {
                    turns[i] += 1;
                    running.push_back((i, turn));
                }
            }
            assert!(running.len() <= workers, "{} run on {workers} workers", running.len());
            if let Some((i, mut turn)) = running.pop_front() {
                spinners[i].seat.waker().wake();
                turn.used = Duration::from_millis(1);
            }
        }
        drop(running);
        spinners.iter_mut().zip(turns).for_each(|(spinner, turns)| spinner.turns = turns);
    }

    #[test]
    fn equal_spinners_get_equal_turns_on_any_number_of_workers() {
        for (count, workers) in [(1, 2), (2, 2), (3, 2), (5, 2), (64, 2), (7, 4)] {
            let queue = queue(workers);
            let mut spinners: Vec<_> =
                (0..count).map(|_| Spinner::new(&queue, DEFAULT_WEIGHT)).collect();
            run(&mut spinners, workers, 1000 * count);
            let turns: Vec<_> = spinners.iter().map(|spinner| spinner.turns).collect();
            let least = turns.iter().min().unwrap();
            let most = turns.iter().max().unwrap();
            assert!(*least > 0 && most - least <= 2, "{count} on {workers}: {turns:?}");
        }
    }

    #[test]
    fn turns_follow_the_weights() {
        let queue = queue(1);
        let mut spinners: Vec<_> =
            [2048, 1024, 512].map(|weight| Spinner::new(&queue, weight)).into();
        run(&mut spinners, 1, 7000);
        let turns: Vec<_> = spinners.iter().map(|spinner| spinner.turns).collect();
        assert!(
            turns[0].abs_diff(4000) <= 4
                && turns[1].abs_diff(2000) <= 4
                && turns[2].abs_diff(1000) <= 4,
            "{turns:?}"
        );
    }

    #[test]
    fn a_lane_that_slept_is_next_for_one_turn_only() {
        let queue = queue(1);
        let sleeper = Spinner::new(&queue, DEFAULT_WEIGHT);
        let mut spinners: Vec<_> = (0..4).map(|_| Spinner::new(&queue, DEFAULT_WEIGHT)).collect();
        run(&mut spinners, 1, 400);
        let mut turn = spinners.iter().find_map(Spinner::take).unwrap();
        assert!(sleeper.take().is_none(), "the only permit is taken");
        turn.used = Duration::from_millis(1);
        drop(turn);
        let mut turn = sleeper.take().expect("it is next");
        sleeper.seat.waker().wake();
        turn.used = Duration::from_millis(1);
        drop(turn);
        assert!(sleeper.take().is_none(), "the others come first now");
    }

    #[test]
    fn a_lane_of_many_gets_no_more_than_a_lane_of_one() {
        let queue = queue(1);
        let crowd = queue.lane(DEFAULT_WEIGHT);
        let seats: Vec<_> = (0..10).map(|_| crowd.seat(0)).collect();
        let alone = Spinner::new(&queue, DEFAULT_WEIGHT);
        // Both lanes have a waiting future when the first turn ends.
        let first = take(&seats[0], &Arc::default()).unwrap();
        assert!(alone.take().is_none() && take(&seats[1], &Arc::default()).is_none());
        drop(first);
        let mut many = 0;
        let mut one = 0;
        for _ in 0..1000 {
            let turn = seats
                .iter()
                .find_map(|seat| take(seat, &Arc::default()).map(|turn| (seat, turn, true)));
            let turn = turn.or_else(|| alone.take().map(|turn| (&alone.seat, turn, false)));
            let (seat, mut turn, of_many) = turn.unwrap();
            *if of_many { &mut many } else { &mut one } += 1;
            seat.waker().wake();
            turn.used = Duration::from_millis(1);
        }
        assert!(i32::abs(many - one) <= 2, "{many} to {one}");
    }

    #[test]
    fn a_held_lane_gets_no_turn_and_keeps_its_wake_ups() {
        let queue = queue(1);
        let lane = queue.lane(DEFAULT_WEIGHT);
        let seat = lane.seat(0);
        let woken = Arc::<Count>::default();
        lane.pause();
        assert!(take(&seat, &woken).is_none());
        seat.waker().wake();
        assert_eq!(woken.0.load(Ordering::SeqCst), 0);
        lane.resume();
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(take(&seat, &woken).is_some());
    }

    #[test]
    fn a_stopped_process_gets_no_turn_and_its_lane_goes_on() {
        let queue = queue(1);
        let lane = queue.lane(DEFAULT_WEIGHT);
        let one = lane.process();
        let other = lane.process();
        let stopped = lane.seat(one);
        let runs = lane.seat(other);
        let woken = Arc::<Count>::default();
        stopped.enter();
        lane.stop_process(one);
        lane.stop_process(one);
        drop(take(&stopped, &woken).expect("what was granted goes on to its next yield"));
        stopped.waker().wake();
        assert!(take(&stopped, &woken).is_none());
        drop(take(&runs, &Arc::default()).expect("the other process has its turn"));
        let before = woken.0.load(Ordering::SeqCst);
        lane.continue_process(one);
        assert_eq!(woken.0.load(Ordering::SeqCst), before + 1);
        drop(take(&stopped, &woken).expect("its wake-up was kept"));
    }

    #[test]
    fn a_waiting_seat_is_parked_when_its_process_stops() {
        let queue = queue(1);
        let lane = queue.lane(DEFAULT_WEIGHT);
        let one = lane.process();
        let other = lane.process();
        let first = lane.seat(other);
        let second = lane.seat(one);
        let third = lane.seat(other);
        let turn = take(&first, &Arc::default()).unwrap();
        let woken = Arc::<Count>::default();
        assert!(take(&second, &woken).is_none() && take(&third, &Arc::default()).is_none());
        lane.stop_process(one);
        drop(turn);
        assert!(take(&second, &woken).is_none());
        drop(take(&third, &Arc::default()).expect("it waited behind the stopped one"));
        lane.continue_process(one);
        drop(take(&second, &woken).expect("it goes on"));
        assert_eq!(queue.lock().free, 1);
    }

    #[test]
    fn tables_shrink_when_a_crowd_has_gone() {
        let queue = queue(1);
        let crowd: Vec<_> = (0..10_000).map(|_| Spinner::new(&queue, DEFAULT_WEIGHT)).collect();
        drop(crowd);
        let state = queue.lock();
        assert!(state.lanes.capacity() <= 2048 && state.seats.capacity() <= 2048);
    }

    #[test]
    fn a_permit_never_gets_lost() {
        let queue = queue(1);
        let first = Spinner::new(&queue, 1);
        let second = Spinner::new(&queue, 1);
        let third = Spinner::new(&queue, 1);
        let turn = first.take().unwrap();
        assert!(second.take().is_none() && third.take().is_none());
        drop(turn);
        assert_eq!(second.woken.0.load(Ordering::SeqCst), 1, "granted");
        drop(second);
        assert_eq!(
            third.woken.0.load(Ordering::SeqCst),
            1,
            "what was granted to one that is gone goes to the next"
        );
        drop(third.take().unwrap());
        assert_eq!(queue.lock().free, 1);
    }

    #[test]
    fn a_seat_granted_before_its_first_poll_is_woken_for_its_second() {
        let queue = queue(1);
        let spinner = Spinner::new(&queue, DEFAULT_WEIGHT);
        spinner.seat.enter();
        let turn =
            spinner.seat.take_turn(&spinner.woken.clone().into()).expect("the first poll runs it");
        assert_eq!(spinner.woken.0.load(Ordering::SeqCst), 0);
        spinner.seat.waker().wake();
        drop(turn);
        assert_eq!(spinner.woken.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn nothing_is_kept_of_dropped_lanes_and_seats() {
        let queue = queue(1);
        for _ in 0..10 {
            let spinner = Spinner::new(&queue, DEFAULT_WEIGHT);
            drop(spinner.take());
        }
        let state = queue.lock();
        assert!(state.lanes.is_empty() && state.seats.is_empty() && state.eligible.is_empty());
    }
}
