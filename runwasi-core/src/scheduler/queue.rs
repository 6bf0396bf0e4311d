//! The fair queue in front of the guest runtime: selects the future that is polled next.
//!
//! Tokio alone is not fair to futures that compute: of three spinners on two workers one gets twice
//! the turns of the others. Therefore a guest's wake-ups go to this queue instead of Tokio, and
//! only a future that is *granted* a permit is woken in Tokio. There are as many permits as
//! workers, so a granted future finds a worker at once.
//!
//! Turns are shared among *lanes* (a lane is a container), not among futures: a server with a
//! thousand connections gets as many turns as one spinner. A lane's virtual time is the CPU time it
//! has used, divided by its weight. The waiting lane with the least virtual time is next. A lane
//! that has slept starts at the present: it is next but has saved up nothing.
//!
//! A lane that is paused or has used up its [`bandwidth`](super::bandwidth) is not eligible. The
//! futures of a stopped process are parked, and the rest of its lane goes on.
//!
//! The decisions are those of the pure `State`. Here are the handles around it: the lock, the
//! wakers and the timers.

use std::{
    sync::{Arc, MutexGuard},
    task::{Wake, Waker},
    time::{Duration, Instant},
};

use rustix::{process::Pid, thread::gettid};
use tokio::{runtime::Handle, task::AbortHandle};

use super::{
    bandwidth::Throttling,
    file_calls::most_held,
    lane::{LaneId, ProcessId, SeatId},
    state::{Check, Held, State, TurnAnswer},
};
use crate::{
    bundle::resources::Quota,
    lock::Mutex,
    observe::{self, Subject},
    panics, sys,
};

/// The queue of one guest runtime. Cheap to clone.
#[derive(Clone)]
pub struct FairQueue {
    /// Locked for single steps, never across a poll or an await.
    state: Arc<Mutex<State<Waker>>>,
    /// The runtime for the timers of throttled lanes.
    timers: Handle,
}

/// Figures of all containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueFigures {
    /// Throttling of all containers there have been.
    pub throttling: Throttling,
    /// Containers that wait for a worker.
    pub waiting: u64,
    /// Threads that wait in the kernel for file calls of guests.
    pub file_threads: u64,
    /// Most such threads.
    pub most_file_threads: u64,
}

impl FairQueue {
    /// A queue for a runtime of `permits` workers; its timers run on `timers`.
    pub fn new(permits: usize, timers: Handle) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(permits))), timers }
    }

    /// A new lane, which gets turns in proportion to `weight`.
    pub(super) fn lane(&self, weight: u64) -> Lane {
        let id = self.state.lock().add_lane(weight);
        Lane { queue: self.clone(), id }
    }

    /// Figures of all lanes.
    pub(super) fn figures(&self) -> QueueFigures {
        // Without the lock: the first call reads the limits of this process.
        let most = most_held();
        let state = self.state.lock();
        QueueFigures {
            throttling: state.total_throttling(),
            waiting: state.waiting_lanes() as u64,
            file_threads: state.total_held() as u64,
            most_file_threads: most as u64,
        }
    }

    /// Checks a throttled lane when its debt is paid.
    fn check_later(&self, check: Check) {
        let queue = self.clone();
        // Fatal: without this check the lane would never be polled again.
        self.timers.spawn(panics::fatal_future(async move {
            tokio::time::sleep_until(check.at.into()).await;
            queue.check(check.lane);
        }));
    }

    fn check(&self, lane: LaneId) {
        let mut state = self.state.lock();
        let again = state.check_throttling(lane, Instant::now());
        let long = state.take_long_throttling(lane);
        match again {
            Some(again) => {
                drop(state);
                self.check_later(again);
            }
            None => self.grant(state),
        }
        // Without the lock.
        if let Some((subject, throttled)) = long {
            observe::throttled(&subject, &throttled);
        }
    }

    /// Hands out free permits.
    fn grant<'a>(&'a self, mut state: MutexGuard<'a, State<Waker>>) {
        while let Some(granted) = state.grant() {
            // Unlocked for the wake-up: a waker runs Tokio's code, which may drop a task and with
            // it a `Seat` that locks the queue.
            drop(state);
            // Without a waker the seat was granted before its first poll, which Tokio owes it
            // anyway.
            if let Some(waker) = granted.notify {
                waker.wake();
            }
            state = self.state.lock();
        }
    }
}

/// A container's lane in the queue; dropping it removes the lane.
pub(super) struct Lane {
    queue: FairQueue,
    id: LaneId,
}

impl Lane {
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
        Seat(Arc::new(SeatHandle { queue: self.queue.clone(), id }))
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
        self.0.wake_by_ref();
    }

    /// Takes the granted turn. Otherwise the future waits, and a later grant wakes `task`.
    pub(super) fn take_turn(&self, task: &Waker) -> Option<RunningTurn<'_>> {
        let Self(handle) = self;
        let mut state = handle.queue.state.lock();
        // Stored under the lock that a grant takes: no grant can miss the waker.
        match state.take_turn(handle.id, |known| known.will_wake(task), || task.clone()) {
            TurnAnswer::Run(number) => {
                return Some(RunningTurn { handle, number, used: Duration::ZERO });
            }
            // Polled without a wake-up of this queue: Tokio has a reason of its own.
            TurnAnswer::Queued => handle.queue.grant(state),
            TurnAnswer::Wait => {}
        }
        None
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Self(handle) = self;
        let mut state = handle.queue.state.lock();
        let waker = state.remove_seat(handle.id);
        handle.queue.grant(state);
        // Last, without the lock: the waker may be the last reference to a Tokio task.
        drop(waker);
    }
}

impl SeatHandle {
    /// Takes the permit of a turn that waits in the kernel. Returns how many do.
    fn hold(&self, number: u32) -> Option<Held> {
        // Without the lock: the first call reads the limits of this process.
        let most = most_held();
        let mut state = self.queue.state.lock();
        let held = state.hold_turn(self.id, number, most)?;
        self.queue.grant(state);
        Some(held)
    }
}

impl Wake for SeatHandle {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.queue.state.lock();
        if state.wake(self.id) {
            self.queue.grant(state);
        }
    }
}

/// A turn in progress; ends when it is dropped, also when the poll panics.
pub(super) struct RunningTurn<'a> {
    handle: &'a Arc<SeatHandle>,
    number: u32,
    /// CPU time of the turn, to be set before the end.
    pub(super) used: Duration,
}

impl RunningTurn<'_> {
    /// True if the future has been woken in this turn and goes on with it.
    pub(super) fn goes_on(&self) -> bool {
        self.handle.queue.state.lock().go_on(self.handle.id)
    }

    /// This turn on the calling thread, for looks from others.
    pub(super) fn on_this_thread(&self) -> ThreadTurn {
        ThreadTurn { handle: self.handle.clone(), number: self.number, thread: gettid() }
    }
}

/// A turn on a thread that is no worker meanwhile and may wait in the kernel.
pub(super) struct ThreadTurn {
    handle: Arc<SeatHandle>,
    number: u32,
    thread: Pid,
}

impl ThreadTurn {
    /// Looks at the turn after each `patience`, until its thread waits in the kernel or the answer
    /// is dropped. `told` is called with the numbers of turns that wait then.
    pub(super) fn watch(
        self: &Arc<Self>,
        patience: Duration,
        told: impl FnOnce(Held) + Send + 'static,
    ) -> TurnWatch {
        let turn = self.clone();
        // Fatal: a turn that kept its permit for good would take it from all guests.
        let held = panics::fatal_future(async move {
            tokio::time::sleep(patience).await;
            // A thread that computes, or that others keep from the CPU, needs its permit.
            while !sys::waits(turn.thread) {
                tokio::time::sleep(patience).await;
            }
            if let Some(held) = turn.hold() {
                told(held);
            }
        });
        TurnWatch(self.handle.queue.timers.spawn(held).abort_handle())
    }

    /// Takes the permit of the turn if its thread waits in the kernel now. Returns how many turns
    /// do; nothing if it was taken before.
    pub(super) fn look(&self) -> Option<Held> {
        sys::waits(self.thread).then(|| self.hold()).flatten()
    }

    fn hold(&self) -> Option<Held> {
        self.handle.hold(self.number)
    }
}

/// The end of a watch over a turn, by its drop.
pub(super) struct TurnWatch(AbortHandle);

impl Drop for TurnWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Drop for RunningTurn<'_> {
    fn drop(&mut self) {
        let Self { handle, used, .. } = self;
        let mut state = handle.queue.state.lock();
        let check = state.end_turn(handle.id, *used, Instant::now);
        handle.queue.grant(state);
        // Timers call into Tokio: not under the lock.
        if let Some(check) = check {
            handle.queue.check_later(check);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::{super::lane::DEFAULT_WEIGHT, *};

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

    /// Holds a turn as its watch does.
    fn hold(turn: &RunningTurn<'_>) -> Option<usize> {
        turn.handle.hold(turn.number).map(|held| held.lane)
    }

    #[test]
    fn turn_that_waits_in_the_kernel_gives_its_permit_back_once() {
        let queue = queue(1);
        let [one, two] = [(); 2].map(|()| Spinner::new(&queue, DEFAULT_WEIGHT));
        let first = one.take().unwrap();
        assert!(two.take().is_none());
        assert_eq!([hold(&first), hold(&first)], [Some(1), None]);
        let second = two.take().unwrap();
        drop(first);
        assert_eq!(queue.state.lock().free_permits(), 0, "its permit belongs to the other turn");
        drop(second);
        assert_eq!(queue.state.lock().free_permits(), 1);
    }

    #[test]
    fn lane_holds_a_bounded_number_of_threads() {
        let queue = queue(1);
        const MOST: usize = 3;
        let lane = queue.lane(DEFAULT_WEIGHT);
        lane.bound_held(3, true);
        let process = lane.process();
        let seats: Vec<_> = (0..=MOST).map(|_| lane.seat(process)).collect();
        let woken = Arc::<Count>::default();
        let mut turns = Vec::new();
        for (n, seat) in seats[..MOST].iter().enumerate() {
            turns.push(take(seat, &woken).unwrap());
            assert_eq!(hold(&turns[n]), Some(n + 1));
        }
        assert_eq!(lane.held(process), MOST);
        assert!(take(&seats[MOST], &woken).is_none(), "one more than it may hold");
        let other = Spinner::new(&queue, DEFAULT_WEIGHT);
        assert!(other.take().is_some(), "other lanes go on");
        turns.pop();
        assert!(take(&seats[MOST], &woken).is_some());
    }

    #[test]
    fn lane_that_may_wait_has_no_more_turns_than_threads() {
        let queue = queue(2);
        let lane = queue.lane(DEFAULT_WEIGHT);
        lane.bound_held(2, true);
        let process = lane.process();
        let seats = [(); 3].map(|()| lane.seat(process));
        let woken = Arc::<Count>::default();
        let turns = [&seats[0], &seats[1]].map(|seat| take(seat, &woken).unwrap());
        assert_eq!(hold(&turns[0]), Some(1));
        assert!(take(&seats[2], &woken).is_none(), "the second one may wait, too");
        assert_eq!(hold(&turns[1]), Some(2));
        drop(turns);
        assert!(take(&seats[2], &woken).is_some());
    }

    #[test]
    fn lanes_that_may_wait_get_no_turn_while_as_many_of_all_wait_as_may() {
        let mut state = State::<()>::new(2);
        let lanes = [true, true, false].map(|may_wait| {
            let lane = state.add_lane(DEFAULT_WEIGHT);
            state.bound_held(lane, 16, may_wait);
            lane
        });
        let seats = lanes.map(|lane| {
            let process = state.add_process();
            state.add_seat(lane, process)
        });
        let take = |state: &mut State<()>, seat| {
            let _ = state.wake(seat);
            while state.grant().is_some() {}
            state.take_turn(seat, |()| true, || ())
        };
        let TurnAnswer::Run(number) = take(&mut state, seats[0]) else { panic!("no turn") };
        assert_eq!(state.hold_turn(seats[0], number, 1), Some(Held { lane: 1, all: 1 }));
        assert_eq!(take(&mut state, seats[1]), TurnAnswer::Wait, "it may wait");
        assert!(matches!(take(&mut state, seats[2]), TurnAnswer::Run(_)), "it does not wait");
        state.end_turn(seats[0], Duration::ZERO, Instant::now);
        assert!(matches!(take(&mut state, seats[1]), TurnAnswer::Run(_)), "again");
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
        assert_eq!(queue.state.lock().free_permits(), 1);
    }

    #[test]
    fn tables_shrink_when_a_crowd_has_gone() {
        let queue = queue(1);
        let crowd: Vec<_> = (0..10_000).map(|_| Spinner::new(&queue, DEFAULT_WEIGHT)).collect();
        drop(crowd);
        assert!(queue.state.lock().capacity() <= 2048);
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
        assert_eq!(queue.state.lock().free_permits(), 1);
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
        assert!(queue.state.lock().is_empty());
    }
}
