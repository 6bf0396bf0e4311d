//! The group of futures of a process and the wrapper they are polled through.
//!
//! ```text
//!              ┌──────────────── Group ───────────────┐
//!  driver ───▶ │ lane in the queue · meter · members  │ ◀─── GuestContext::spawn
//!              └──────┬───────────┬───────────┬───────┘
//!                  Guest(run)  Guest(conn)  Guest(conn)
//! ```
//!
//! Members are polled on the guest runtime only, when the [`queue`](super::queue) grants them a
//! turn, with the credentials of their user ([`crate::credentials`]).
//!
//! Every request of containerd to a running process acts here, once for all engines:
//!
//! * Pause holds the group's lane in the queue.
//! * CPU usage is the thread CPU time spent inside `poll`.
//! * A kill drops the members.
//!
//! A file call is made by the polling thread, so its CPU time is metered and throttled like any
//! other. If the container has files whose calls may wait, its polls run beside the workers
//! ([`block_in_place`]), and a turn that waits in the kernel gives its permit back: it holds
//! neither a worker nor a turn of another container. Such turns are bounded for each container
//! ([`file_calls`](super::file_calls)).

use std::{
    convert::Infallible,
    future::{Future, pending},
    panic::resume_unwind,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc, MutexGuard, OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::{JoinSet, block_in_place, coop::has_budget_remaining},
};

use super::{
    Guests,
    bandwidth::Throttling,
    drops::Drops,
    file_calls::FileCalls,
    lane::DEFAULT_WEIGHT,
    lane_handle::Lane,
    state::Held,
    turn::{RunningTurn, Seat, ThreadTurn},
    turn_clock::TurnClock,
};
use crate::{
    blocking::eventually,
    bundle::resources::{Limit, Quota, ResourcesConfig},
    credentials,
    lock::Mutex,
    metrics::lives,
    observe::Subject,
    panics,
    resources::memory::Memory,
    sys::{self, credentials::Credentials},
};

/// How long a turn may wait in the kernel with its permit.
const HOLD_PATIENCE: Duration = Duration::from_millis(10);

/// Pause of a member for whose poll there is no thread.
const THREAD_PAUSE: Duration = Duration::from_millis(50);

/// Time without the CPU within a poll that is suspected to be a wait in the kernel.
const WAITED: Duration = Duration::from_millis(2);

/// Polls beside the workers after a poll that has waited.
const POLLS_BESIDE: u32 = 64;

/// Polls that count their waits after a suspected one.
// Not all polls: counting is one more system call. A thread that others keep from the CPU is
// suspected, too, but counts no waits.
const POLLS_COUNTED: u32 = 64;

/// Time from the begin of a turn in which a member that wakes itself is polled again at once.
// A guest of WASI p3 yields several times a request, and a turn for each costs more than what it
// does then. Less than the shortest quantum, so that others wait little longer than without.
const GOES_ON: Duration = Duration::from_micros(100);

/// How often the members that a kill leaves are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How often those of a running container are whose files may wait.
const LOOK_WHILE_RUNNING: Duration = Duration::from_secs(1);

/// The futures of one process: its instance's `run` and every future that starts. Cheap to clone.
#[derive(Clone)]
pub struct Group {
    shared: Arc<Shared>,
}

struct Shared {
    guests: Guests,
    container: Arc<Container>,
    /// Its id in the container's lane.
    process: u64,
    /// CPU time of its members.
    cpu_nanos: AtomicU64,
    /// The user, groups and umask for its members' file accesses.
    credentials: Option<Arc<Credentials>>,
    /// Locked for the length of one spawn, one poll or one abort, never across an await.
    members: Mutex<Members>,
    /// Turns that run beside the workers. Locked for one change or copy.
    beside: Mutex<Vec<Arc<ThreadTurn>>>,
    /// Members that are being dropped.
    drops: Drops,
}

/// CPU usage and throttling of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuUsage {
    /// CPU time, summed over threads.
    pub time: Duration,
    /// Quota periods in which it has used CPU time.
    pub periods: u64,
    /// Number of times the quota was used up.
    pub throttled: u64,
    /// Total time throttled.
    pub throttled_time: Duration,
}

/// CPU limits of a container that are in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuLimits {
    /// Its weight, in the unit of `cpu.shares`.
    pub weight: u64,
    /// Its quota, if there is one.
    pub quota: Option<Quota>,
}

/// State shared by all groups of a container.
struct Container {
    lane: Lane,
    cpu_nanos: AtomicU64,
    /// Account of what its members make the host allocate, if they are charged.
    memory: OnceLock<Arc<Memory>>,
    /// Set by the container's init; absent for a container without files.
    files: OnceLock<FileCalls>,
    /// Polls that still run beside the workers, since an earlier one has waited.
    beside: AtomicU32,
    /// Polls that still count their waits, since an earlier one is suspected of one.
    counted: AtomicU32,
}

impl Container {
    fn new(lane: Lane) -> Self {
        Self {
            lane,
            cpu_nanos: AtomicU64::new(0),
            memory: OnceLock::new(),
            files: OnceLock::new(),
            beside: AtomicU32::new(0),
            counted: AtomicU32::new(0),
        }
    }

    /// True if calls of the container's files may wait for more than a local disk.
    fn files_may_wait(&self) -> bool {
        self.files.get().is_some_and(FileCalls::may_wait)
    }

    /// Notes the numbers of turns that wait in the kernel, one of them a turn of this container.
    fn held(&self, held: Held) {
        if let Some(files) = self.files.get() {
            files.held(held.lane, held.all);
        }
    }

    /// True if the next poll is to run beside the workers.
    fn polls_beside(&self) -> bool {
        // Relaxed: a hint that publishes no other memory.
        let waits = self.files_may_wait() || self.beside.load(Ordering::Relaxed) > 0;
        // Runtimes of one thread are those of tests: they have no other thread for the workers.
        waits && Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread
    }

    /// True if the next poll is to count its waits.
    fn counts_waits(&self) -> bool {
        // Relaxed: a hint, as above.
        self.counted.load(Ordering::Relaxed) > 0 || self.beside.load(Ordering::Relaxed) > 0
    }

    /// Notes a poll of that length. `waits` is absent if the poll did not count them.
    fn polled(&self, elapsed: Duration, used: Duration, waits: Option<i64>) {
        let is_long = elapsed > used + WAITED;
        match waits {
            Some(1..) if is_long => self.beside.store(POLLS_BESIDE, Ordering::Relaxed),
            _ => count_down(&self.beside),
        }
        if is_long {
            self.counted.store(POLLS_COUNTED, Ordering::Relaxed);
        } else {
            count_down(&self.counted);
        }
    }
}

fn count_down(polls: &AtomicU32) {
    let left = polls.load(Ordering::Relaxed);
    if left > 0 {
        // Two polls at once may count one down less: a hint only.
        polls.store(left - 1, Ordering::Relaxed);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The lane may live on with other processes and would keep this id in its stopped list.
        self.container.lane.continue_process(self.process);
    }
}

struct Members {
    set: JoinSet<()>,
    /// False after `abort`: a future that joined later would never be aborted.
    open: bool,
}

impl Group {
    /// An empty group of a new container. Its members run among `guests` within `limits`.
    pub fn new(
        guests: Guests,
        limits: &ResourcesConfig,
        credentials: Option<Arc<Credentials>>,
    ) -> Self {
        let lane = Lane::new(guests.queue(), limits.shares.unwrap_or(DEFAULT_WEIGHT));
        lane.set_quota(limits.bandwidth.quota().and_then(Limit::get));
        Self::within(guests, Arc::new(Container::new(lane)), credentials)
    }

    /// Names the container in the log.
    pub(crate) fn of(self, subject: Arc<Subject>) -> Self {
        self.shared.container.lane.describe(subject);
        self
    }

    /// Charges what the container's members make the host allocate to `memory`.
    pub(crate) fn charged_to(self, memory: Arc<Memory>) -> Self {
        // The group of a container's init calls this, once.
        self.shared.container.memory.get_or_init(|| memory);
        self
    }

    /// An empty group of the same container: it shares the container's turns, pause and meter.
    pub fn sibling(&self, credentials: Option<Arc<Credentials>>) -> Self {
        Self::within(self.shared.guests.clone(), self.shared.container.clone(), credentials)
    }

    fn within(
        guests: Guests,
        container: Arc<Container>,
        credentials: Option<Arc<Credentials>>,
    ) -> Self {
        let members = Mutex::new(Members { set: JoinSet::new(), open: true });
        let process = container.lane.process();
        let beside = Mutex::default();
        let cpu_nanos = AtomicU64::new(0);
        let drops = Drops::default();
        let shared =
            Shared { guests, container, process, cpu_nanos, credentials, members, beside, drops };
        Self { shared: Arc::new(shared) }
    }

    /// Describes and bounds the container's file calls.
    pub(crate) fn with_files(self, files: FileCalls) -> Self {
        let container = &self.shared.container;
        container.lane.bound_held(files.threads().limit, files.may_wait());
        // The group of a container's init calls this, once.
        container.files.get_or_init(|| files);
        self
    }

    /// Adds places whose calls may wait for more than a local disk to those of the container.
    pub(crate) fn with_slow(self, places: Vec<PathBuf>) -> Self {
        if let Some(files) = self.files()
            && files.add(places)
        {
            self.shared.container.lane.bound_held(files.threads().limit, true);
        }
        self
    }

    /// The container's file calls.
    pub(crate) fn files(&self) -> Option<&FileCalls> {
        self.shared.container.files.get()
    }

    /// Number of members whose thread waits in the kernel, in a poll or for long in a drop.
    pub fn held(&self) -> usize {
        self.shared.container.lane.held(self.shared.process) + self.shared.drops.waiting()
    }

    /// After [`Group::abort`]: waits until every member is gone, or only such are left whose thread
    /// waits in the kernel. No kill ends those: each goes when its call returns. Cancel safe.
    pub async fn ended_or_held(&self) {
        while tokio::time::timeout(LOOK, self.ended()).await.is_err() {
            self.shared.look_at_turns();
            let held = self.held();
            if held > 0 && held >= self.members().set.len() {
                return;
            }
        }
    }

    /// Looks at the turns of a container whose file calls may wait, until it is dropped. For a
    /// runtime other than that of the guests, which may lack threads for all of its workers. Cancel
    /// safe.
    pub(crate) async fn look_after(&self) -> Infallible {
        if !self.shared.container.files_may_wait() {
            return pending().await;
        }
        // Boxed: few containers need the timer, and every driver would have room for it.
        let mut looks = Box::pin(tokio::time::interval(LOOK_WHILE_RUNNING));
        loop {
            looks.tick().await;
            self.shared.look_at_turns();
        }
    }

    /// Applies the CPU limits that `limits` sets; the others stay as they are.
    pub(crate) fn limit(&self, limits: &ResourcesConfig) {
        let lane = &self.shared.container.lane;
        if let Some(shares) = limits.shares {
            lane.set_weight(shares);
        }
        if let Some(quota) = limits.bandwidth.quota() {
            lane.set_quota(quota.get());
        }
    }

    /// Adds a member. After [`Group::abort`] the future is dropped instead.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let guest = Guest {
            seat: self.shared.container.lane.seat(self.shared.process),
            shared: self.shared.clone(),
            future: Some(Box::pin(future)),
        };
        // Locked over check and spawn: an abort in between would miss this member.
        let mut members = self.members();
        // Reaped here, too: a server's group gets a member for every connection it ever accepts.
        while members.set.try_join_next().is_some() {}
        if members.open {
            // Before Tokio knows the task: with a free permit its first poll is a turn already.
            guest.seat.enter();
            members.set.spawn_on(guest, self.shared.guests.runtime());
        }
    }

    /// Stops polling the members of the whole container. A member that is being polled now runs
    /// until its next yield.
    pub fn pause(&self) {
        self.shared.container.lane.pause();
    }

    /// Stops polling the members of this group only, independently of pause and resume.
    pub fn stop(&self) {
        self.shared.container.lane.stop_process(self.shared.process);
    }

    /// Ends a stop.
    pub fn proceed(&self) {
        self.shared.container.lane.continue_process(self.shared.process);
    }

    /// Polls the container's members again.
    pub fn resume(&self) {
        self.shared.container.lane.resume();
    }

    /// Drops every member, each at its next yield.
    pub fn abort(&self) {
        let mut members = self.members();
        members.open = false;
        // Tokio drops an aborted task without another poll: a paused lane does not delay it.
        members.set.abort_all();
    }

    /// Waits until every member is gone. Cancel safe: a later call continues where this one stood.
    pub async fn ended(&self) {
        // Locked in each poll, not across the wait: `abort` and `spawn` need the lock meanwhile.
        std::future::poll_fn(|cx| {
            let mut members = self.members();
            while let Some(ended) = std::task::ready!(members.set.poll_join_next(cx)) {
                // An aborted member is an error, too, but the expected one.
                if let Err(error) = ended
                    && error.is_panic()
                {
                    tracing::error!(%error, "a guest future panicked");
                }
            }
            Poll::Ready(())
        })
        .await;
    }

    /// The CPU limits in force.
    pub fn limits(&self) -> CpuLimits {
        let (weight, quota) = self.shared.container.lane.limits();
        CpuLimits { weight, quota }
    }

    /// CPU usage of the container's members.
    pub fn cpu(&self) -> CpuUsage {
        let Throttling { periods, throttled, time } = self.shared.container.lane.throttling();
        // Relaxed: a counter that publishes no other memory.
        let used = self.shared.container.cpu_nanos.load(Ordering::Relaxed);
        CpuUsage { time: Duration::from_nanos(used), periods, throttled, throttled_time: time }
    }

    /// CPU time of the members of this group alone.
    pub(crate) fn own_cpu(&self) -> Duration {
        // Relaxed: as above.
        Duration::from_nanos(self.shared.cpu_nanos.load(Ordering::Relaxed))
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.shared.members.lock()
    }
}

/// A member of a group: the only path by which guest code is polled.
struct Guest<F: Send + 'static> {
    /// Receives its wake-ups in place of Tokio.
    seat: Seat,
    shared: Arc<Shared>,
    /// `Some` until the drop.
    future: Option<Pin<Box<F>>>,
}

impl<F: Send + 'static> Drop for Guest<F> {
    fn drop(&mut self) {
        let future = self.future.take();
        // Closing a file is a call, too, which its server may never answer.
        if self.shared.container.files_may_wait() {
            return eventually(self.shared.guests.runtime(), move || drop(future));
        }
        let _running = self.shared.drops.begin();
        drop(future);
    }
}

impl<F: Future<Output = ()> + Send + 'static> Future for Guest<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { seat, shared, future } = self.get_mut();
        // Absent only in the drop.
        let Some(future) = future else { return Poll::Ready(()) };
        let Some(turn) = seat.take_turn(cx.waker()) else { return Poll::Pending };
        // The guest's waker goes to the queue: Tokio would poll it out of turn.
        let waker = seat.waker();
        // On this thread: the kernel checks file accesses against the thread's filesystem ids.
        credentials::enter(shared.credentials.as_ref());
        // A guard, so that a poll that panics is charged, too.
        let meter = Meter::begin(shared, turn);
        let memory = shared.container.memory.get();
        let mut poll = || {
            // Dropped before the meter, and charges nothing of the meter's.
            let _allocations = memory.map(|memory| memory.enter());
            future.as_mut().poll(&mut Context::from_waker(&waker))
        };
        if !shared.container.polls_beside() {
            let mut polled = poll();
            while polled.is_pending() && meter.goes_on() {
                polled = poll();
            }
            return polled;
        }
        // The thread may belong to the blocking pool afterwards, whose work is the host's.
        let _host = credentials::HostAtEnd;
        // First the permit's end is arranged, then the thread leaves the workers.
        let beside = Beside::begin(shared, meter.turn.on_this_thread());
        let container = shared.container.clone();
        let guests = shared.guests.clone();
        let _watch = beside.turn.watch(HOLD_PATIENCE, move |held| {
            container.held(held);
            guests.try_thread();
        });
        beside_the_workers(poll).unwrap_or_else(|| {
            shared.lack_thread(waker.clone());
            Poll::Pending
        })
    }
}

/// Calls `poll` while another thread does the worker's work. Returns nothing if there can be no
/// such thread: then `poll` is not called.
fn beside_the_workers<T>(poll: impl FnOnce() -> T) -> Option<T> {
    let mut begun = false;
    let call = || {
        block_in_place(|| {
            begun = true;
            panics::unexpected();
            poll()
        })
    };
    // Tokio panics for want of a thread, after it has queued the worker's work for the next one.
    // This thread takes it when the poll is over.
    match panics::expected(call) {
        Ok(polled) => Some(polled),
        Err(panic) if begun => resume_unwind(panic),
        Err(_) => None,
    }
}

/// A turn beside the workers, until its drop.
struct Beside<'a> {
    shared: &'a Shared,
    turn: Arc<ThreadTurn>,
}

impl<'a> Beside<'a> {
    fn begin(shared: &'a Shared, turn: ThreadTurn) -> Self {
        let turn = Arc::new(turn);
        shared.beside.lock().push(turn.clone());
        Self { shared, turn }
    }
}

impl Drop for Beside<'_> {
    fn drop(&mut self) {
        self.shared.beside.lock().retain(|turn| !Arc::ptr_eq(turn, &self.turn));
    }
}

impl Shared {
    /// Does what the watches of turns do. Those need a worker, and all of them may wait in the
    /// kernel, if there were no threads to take their places.
    fn look_at_turns(&self) {
        let turns = self.beside.lock().clone();
        for turn in &turns {
            if let Some(held) = turn.look() {
                self.container.held(held);
            }
        }
        self.drops.look();
        if self.container.lane.held(self.process) > 0 {
            self.guests.try_thread();
        }
    }

    /// Lets a member whose poll needs a thread beside the workers try again later.
    fn lack_thread(&self, waker: Waker) {
        if let Some(files) = self.container.files.get() {
            files.lacked_thread();
        }
        // Fatal: without it the member would never be polled again.
        self.guests.runtime().spawn(panics::fatal_future(async move {
            tokio::time::sleep(THREAD_PAUSE).await;
            waker.wake();
        }));
    }
}

/// Charges the CPU time from its creation to its drop to the process, the container and the turn.
struct Meter<'a> {
    shared: &'a Shared,
    turn: RunningTurn<'a>,
    clock: TurnClock,
    /// Waits of the thread before the poll, if they are counted.
    waits: Option<i64>,
}

impl<'a> Meter<'a> {
    fn begin(shared: &'a Shared, turn: RunningTurn<'a>) -> Self {
        let waits = shared.container.counts_waits().then(sys::thread_waits);
        Self { shared, turn, clock: TurnClock::begin(), waits }
    }

    /// True if the member has woken itself in its poll and is polled again in the same turn.
    fn goes_on(&self) -> bool {
        // Without budget, Tokio's sockets and channels wake the member without end.
        self.clock.elapsed() < GOES_ON && has_budget_remaining() && self.turn.goes_on()
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        let (elapsed, used) = self.clock.end();
        let nanos = u64::try_from(used.as_nanos()).unwrap_or(u64::MAX);
        let Shared { container, cpu_nanos, .. } = self.shared;
        cpu_nanos.fetch_add(nanos, Ordering::Relaxed);
        container.cpu_nanos.fetch_add(nanos, Ordering::Relaxed);
        lives::used_cpu(nanos);
        let waits = self.waits.map(|before| sys::thread_waits() - before);
        container.polled(elapsed, used, waits);
        // `turn` is a field and drops after this: it charges the lane with the time set here.
        self.turn.used = used;
    }
}

#[cfg(test)]
mod tests;
