//! Tests of the queue with its lanes and seats: fair turns, no lost permit.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Wake,
    time::{Duration, Instant},
};

use super::{
    lane::DEFAULT_WEIGHT,
    lane_handle::Lane,
    queue::FairQueue,
    state::{Held, State, TurnAnswer},
    turn::{RunningTurn, Seat},
};

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
        let lane = Lane::new(queue, weight);
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
    turn.on_this_thread().hold().map(|held| held.lane)
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
    let lane = Lane::new(&queue, DEFAULT_WEIGHT);
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
    let lane = Lane::new(&queue, DEFAULT_WEIGHT);
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
fn lanes_that_may_wait_get_no_turn_while_more_than_the_most_wait() {
    let mut state = State::<()>::new(2);
    let seats = [true, false, true].map(|may_wait| {
        let lane = state.add_lane(DEFAULT_WEIGHT);
        state.bound_held(lane, 16, may_wait);
        let process = state.add_process();
        state.add_seat(lane, process)
    });
    let take = |state: &mut State<()>, seat| {
        let _ = state.wake(seat);
        while state.grant().is_some() {}
        state.take_turn(seat, |()| true, || ())
    };
    let running = [seats[0], seats[1]].map(|seat| match take(&mut state, seat) {
        TurnAnswer::Run(number) => (seat, number),
        answer => panic!("{answer:?}"),
    });
    for (seat, number) in running {
        assert!(state.hold_turn(seat, number, 1).is_some());
    }
    state.end_turn(seats[0], Duration::ZERO, Instant::now);
    assert_eq!(take(&mut state, seats[2]), TurnAnswer::Wait, "one waits, and one may");
    state.end_turn(seats[1], Duration::ZERO, Instant::now);
    assert!(matches!(take(&mut state, seats[2]), TurnAnswer::Run(_)));
}

#[test]
fn turns_follow_the_weights() {
    let queue = queue(1);
    let mut spinners: Vec<_> = [2048, 1024, 512].map(|weight| Spinner::new(&queue, weight)).into();
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
fn turns_follow_the_weights_however_long_lanes_have_computed() {
    let mut state = State::<()>::new(1);
    // The least weight there is, and more time than 64 bits of virtual nanoseconds.
    let years = Duration::from_secs(2 * 365 * 24 * 60 * 60);
    let seats = [2, 4].map(|weight| {
        let lane = state.add_lane(weight);
        let process = state.add_process();
        state.add_seat(lane, process)
    });
    for seat in seats {
        let _ = state.wake(seat);
    }
    let mut turns = [0_u32; 2];
    for n in 0..302 {
        while state.grant().is_some() {}
        let running = seats.iter().position(|seat| state.is_granted(*seat)).unwrap();
        let seat = seats[running];
        assert!(matches!(state.take_turn(seat, |()| true, || ()), TurnAnswer::Run(_)));
        let _ = state.wake(seat);
        // The first turn of each is the long one, by its weight.
        let time = if n < 2 { years * (running as u32 + 1) } else { Duration::from_millis(1) };
        state.end_turn(seat, time, Instant::now);
        turns[running] += 1;
    }
    assert!(turns[0].abs_diff(101) <= 2 && turns[1].abs_diff(201) <= 2, "{turns:?}");
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
    let crowd = Lane::new(&queue, DEFAULT_WEIGHT);
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
    let lane = Lane::new(&queue, DEFAULT_WEIGHT);
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
    let lane = Lane::new(&queue, DEFAULT_WEIGHT);
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
    let lane = Lane::new(&queue, DEFAULT_WEIGHT);
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
