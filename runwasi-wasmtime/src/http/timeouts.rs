//! What a connection is doing, and until when it may.
//!
//! ```text
//!             first byte           request begins
//!   Idle ──────────────▶ Head ──────────────────────▶ Busy(n)
//!    ▲  idle-timeout        │ header-timeout            │ the last response is done
//!    └──────────────────────┼───────────────────────────┘
//!                           ▼
//!                         closed
//! ```
//!
//! A connection begins in `Head`: who connects is to say something. HTTP/2 has no `Head` after its first request, since its frames
//! come at any time. A client that does not take what is written to it has `idle-timeout` for that, whatever the state.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// What one poll takes at most.
const TURN: Duration = Duration::from_millis(1);

/// Shared by the parts of one connection. The mutex is for single steps; requests of HTTP/2 are on other threads.
pub(super) struct Activity {
    state: Mutex<State>,
    header_timeout: Duration,
    idle_timeout: Duration,
}

struct State {
    doing: Doing,
    since: Instant,
    /// Since when the client takes nothing.
    stalled: Option<Instant>,
    http2: bool,
    /// When the connection was polled last.
    turn: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Idle,
    Head,
    /// That many requests.
    Busy(usize),
}

/// What is to happen with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Look again then.
    LookAt(Instant),
    /// It has been idle for long enough: close it politely.
    Close,
    /// It keeps us waiting.
    Drop,
}

impl Activity {
    pub(super) fn new(header_timeout: Duration, idle_timeout: Duration) -> Self {
        let now = Instant::now();
        let state =
            State { doing: Doing::Head, since: now, stalled: None, http2: false, turn: now };
        Self { state: Mutex::new(state), header_timeout, idle_timeout }
    }

    /// The connection is being polled.
    pub(super) fn turn_begins(&self) {
        self.state().turn = Instant::now();
    }

    /// Whether this poll has taken what a poll may take.
    pub(super) fn turn_is_over(&self) -> bool {
        self.state().turn.elapsed() >= TURN
    }

    /// Bytes of the client have come.
    pub(super) fn read(&self) {
        let mut state = self.state();
        if state.doing == Doing::Idle && !state.http2 {
            state.enter(Doing::Head);
        }
    }

    /// Bytes have been given to the system, or it has no room for them.
    pub(super) fn wrote(&self, taken: bool) {
        let mut state = self.state();
        match taken {
            true => state.stalled = None,
            false => drop(state.stalled.get_or_insert_with(Instant::now)),
        }
    }

    pub(super) fn request_begins(&self, http2: bool) {
        let mut state = self.state();
        state.http2 |= http2;
        let others = if let Doing::Busy(others) = state.doing { others } else { 0 };
        state.enter(Doing::Busy(others + 1));
    }

    pub(super) fn request_ended(&self) {
        let mut state = self.state();
        match state.doing {
            Doing::Busy(requests) if requests > 1 => state.doing = Doing::Busy(requests - 1),
            _ => state.enter(Doing::Idle),
        }
    }

    pub(super) fn verdict(&self, now: Instant) -> Verdict {
        let state = self.state();
        if state.stalled.is_some_and(|since| now >= since + self.idle_timeout) {
            return Verdict::Drop;
        }
        let (timeout, verdict) = match state.doing {
            // Nothing is due: the next look is for what it will be doing then.
            Doing::Busy(_) => return Verdict::LookAt(now + self.shortest()),
            Doing::Idle => (self.idle_timeout, Verdict::Close),
            Doing::Head => (self.header_timeout, Verdict::Drop),
        };
        let due = state.since + timeout;
        // What is idle may become a head at once, and the other way round, and is then due earlier than the next look would be.
        if now >= due { verdict } else { Verdict::LookAt(due.min(now + self.shortest())) }
    }

    fn shortest(&self) -> Duration {
        self.idle_timeout.min(self.header_timeout)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, doing: Doing) {
        self.doing = doing;
        self.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Duration = Duration::from_secs(1);
    const IDLE: Duration = Duration::from_secs(10);

    fn after(activity: &Activity, time: Duration) -> Verdict {
        activity.verdict(Instant::now() + time)
    }

    #[test]
    fn who_connects_and_says_nothing_is_dropped() {
        let activity = Activity::new(HEADER, IDLE);
        assert!(matches!(after(&activity, Duration::ZERO), Verdict::LookAt(_)));
        assert_eq!(after(&activity, HEADER), Verdict::Drop);
    }

    #[test]
    fn a_request_may_take_its_time_and_then_the_connection_is_idle() {
        let activity = Activity::new(HEADER, IDLE);
        activity.request_begins(false);
        assert!(matches!(after(&activity, 100 * IDLE), Verdict::LookAt(_)));
        activity.request_ended();
        assert!(matches!(after(&activity, HEADER), Verdict::LookAt(_)));
        assert_eq!(after(&activity, IDLE), Verdict::Close);
    }

    #[test]
    fn half_a_head_is_dropped_after_the_header_timeout() {
        let activity = Activity::new(HEADER, IDLE);
        activity.request_begins(false);
        activity.request_ended();
        activity.read();
        assert_eq!(after(&activity, HEADER), Verdict::Drop);
    }

    #[test]
    fn the_next_look_is_not_later_than_a_head_could_be_due() {
        let activity = Activity::new(HEADER, IDLE);
        activity.request_begins(false);
        let now = Instant::now();
        assert_eq!(activity.verdict(now), Verdict::LookAt(now + HEADER));
        activity.request_ended();
        let now = Instant::now();
        assert_eq!(activity.verdict(now), Verdict::LookAt(now + HEADER));
    }

    #[test]
    fn nor_than_it_could_have_been_idle_for_too_long() {
        let activity = Activity::new(IDLE, HEADER);
        let now = Instant::now();
        assert_eq!(activity.verdict(now), Verdict::LookAt(now + HEADER), "it begins as a head");
    }

    #[test]
    fn frames_of_http2_are_no_half_heads() {
        let activity = Activity::new(HEADER, IDLE);
        activity.request_begins(true);
        activity.request_begins(true);
        activity.request_ended();
        assert!(matches!(after(&activity, IDLE), Verdict::LookAt(_)), "one is left");
        activity.request_ended();
        activity.read();
        assert!(matches!(after(&activity, 2 * HEADER), Verdict::LookAt(_)));
        assert_eq!(after(&activity, IDLE), Verdict::Close);
    }

    #[test]
    fn a_client_that_takes_nothing_is_dropped_also_in_a_request() {
        let activity = Activity::new(HEADER, IDLE);
        activity.request_begins(false);
        activity.wrote(false);
        assert_eq!(after(&activity, IDLE), Verdict::Drop);
        activity.wrote(true);
        assert!(matches!(after(&activity, IDLE), Verdict::LookAt(_)));
    }
}
