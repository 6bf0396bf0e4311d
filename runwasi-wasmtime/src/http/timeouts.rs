//! Activity of a connection, and its deadlines.
//!
//! ```text
//!   New ─────────────────┐
//!    │ preface of HTTP/2  │ first byte
//!    ▼     first byte     ▼          request begins
//!   Idle ──────────────▶ Head ──────────────────────▶ Busy(n)
//!    ▲  idle-timeout        │ header-timeout            │ the last response is done
//!    └──────────────────────┼───────────────────────────┘
//!                           ▼
//!                         closed
//! ```
//!
//! Bytes of a body that arrive after the response are no beginning of a head.
//!
//! A client that connects is expected to send a request: a connection is `New` for no longer than a
//! head may take. HTTP/2 has no `Head` after its preface, since its frames come at any time. A
//! client that does not take what is written to it is dropped after `idle-timeout`, whatever the
//! state. One of HTTP/2 may also give no window, which ends the stream alone (`stream`).

use std::{
    mem,
    sync::{Arc, MutexGuard},
    task::{Context, Waker},
    time::{Duration, Instant},
};

use runwasi_core::lock::Mutex;

use crate::timed_body::Arrival;

/// Time of the client of an idle connection that ends, to end its side.
// A client of HTTP/2 acknowledges the end, and may have sent a request before it knew of it.
pub(super) const GOODBYE: Duration = Duration::from_secs(2);
/// Time after which a poll of a connection begins no further request.
const TURN: Duration = Duration::from_millis(1);

/// Activity of one connection, shared by its parts.
pub(super) struct Activity {
    // Locked for single steps. Requests of HTTP/2 run on other threads, hence a mutex.
    state: Mutex<State>,
    header_timeout: Duration,
    idle_timeout: Duration,
}

struct State {
    doing: Doing,
    since: Instant,
    /// Bodies of requests that may not have arrived wholly.
    arriving: usize,
    /// A body was given up before its end. Its client may go on sending it.
    given_up: bool,
    /// The client sends the body of its request when it is asked for, which has not been.
    kept_back: bool,
    /// A response is under way whose end is that of the connection.
    open_ended: bool,
    /// Time of the first write that the client did not take.
    stalled: Option<Instant>,
    http2: bool,
    /// When a graceful end began.
    closing: Option<Instant>,
    /// Task that waits for the end of the last request.
    waits: Option<Waker>,
    /// Beginning of the connection's last poll.
    turn: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// The client has sent nothing.
    New,
    Idle,
    Head,
    /// With the number of requests.
    Busy(usize),
}

/// Action that is due for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Look again at this time.
    LookAt(Instant),
    /// Close gracefully: the connection has been idle for too long.
    Close,
    /// Drop at once: the client keeps the server waiting.
    Drop,
}

impl Activity {
    pub(super) fn new(header_timeout: Duration, idle_timeout: Duration) -> Self {
        let now = Instant::now();
        let state = State {
            doing: Doing::New,
            since: now,
            arriving: 0,
            given_up: false,
            kept_back: false,
            open_ended: false,
            stalled: None,
            http2: false,
            closing: None,
            waits: None,
            turn: now,
        };
        Self { state: Mutex::new(state), header_timeout, idle_timeout }
    }

    /// Takes note that a poll of the connection begins.
    pub(super) fn turn_begins(&self) {
        self.state().turn = Instant::now();
    }

    /// Returns `true` if this poll has used up its time.
    pub(super) fn turn_is_over(&self) -> bool {
        self.state().turn.elapsed() >= TURN
    }

    /// Takes note of bytes from the client.
    pub(super) fn read(&self) {
        let mut state = self.state();
        match state.doing {
            // The time of the head began with the connection.
            Doing::New => state.doing = Doing::Head,
            // Frames of HTTP/2, such as a ping, need not be the beginning of a request.
            Doing::Idle if !state.http2 => {
                let next = if state.arriving > 0 { Doing::Idle } else { Doing::Head };
                state.enter(next);
            }
            _ => {}
        }
    }

    /// Takes note of the preface of HTTP/2, after which the client may wait with its first request.
    pub(super) fn speaks_http2(&self) {
        let mut state = self.state();
        state.http2 = true;
        state.enter(Doing::Idle);
    }

    /// Takes note of a write: `taken` if the system had room for bytes of it. Returns `true` if
    /// that ends a stall.
    pub(super) fn wrote(&self, taken: bool) -> bool {
        let mut state = self.state();
        if taken {
            return state.stalled.take().is_some();
        }
        // The first stall counts: further attempts must not move the deadline.
        state.stalled.get_or_insert_with(Instant::now);
        false
    }

    /// True while the client does not take what is written to it.
    pub(super) fn is_stalled(&self) -> bool {
        self.state().stalled.is_some()
    }

    /// True if an end, of a response early or of the client's data, has to wait until the client
    /// takes what was written.
    pub(super) fn holds_ends(&self) -> bool {
        let state = self.state();
        // The end of a stall wakes the task of the connection. A stream of HTTP/2 has its own.
        state.stalled.is_some() && !state.http2
    }

    pub(super) fn request_begins(&self, http2: bool) {
        let mut state = self.state();
        state.http2 |= http2;
        // HTTP/1: there is no next request before the last one has arrived wholly.
        state.given_up &= http2;
        state.kept_back = false;
        state.open_ended = false;
        // Requests of HTTP/2 overlap.
        let others = if let Doing::Busy(others) = state.doing { others } else { 0 };
        state.enter(Doing::Busy(others + 1));
    }

    pub(super) fn request_ended(&self) {
        let mut state = self.state();
        match state.doing {
            Doing::Busy(requests) if requests > 1 => state.doing = Doing::Busy(requests - 1),
            _ => state.enter(Doing::Idle),
        }
        let is_idle = state.doing == Doing::Idle;
        let waits = state.waits.take_if(|_| is_idle);
        drop(state);
        if let Some(waker) = waits {
            waker.wake();
        }
    }

    /// Takes note of the body of a request, until what is returned is complete or dropped. Of
    /// HTTP/1 it may be `kept_back` until it is asked for.
    pub(super) fn body_arrives(self: &Arc<Self>, kept_back: bool) -> Arriving {
        let mut state = self.state();
        state.arriving += 1;
        state.kept_back = kept_back;
        drop(state);
        Arriving { activity: self.clone(), complete: false, kept_back }
    }

    /// True if the client keeps the body of its last request back. hyper ends the connection after
    /// the response then, since the client may send that body or not.
    pub(super) fn keeps_body_back(&self) -> bool {
        self.state().kept_back
    }

    /// Takes note of a response that has no declared length and no chunks: its client takes the end
    /// of the connection for that of the response.
    pub(super) fn begins_open_ended(&self) {
        self.state().open_ended = true;
    }

    /// Takes note of the end of a connection that has sent all of its last response.
    pub(super) fn has_sent_all(&self) {
        self.state().open_ended = false;
    }

    /// True if the present end of the connection would look like the end of a response.
    pub(super) fn is_open_ended(&self) -> bool {
        self.state().open_ended
    }

    /// Takes note that a connection ends which could have taken another request. Of HTTP/1 the last
    /// one has arrived wholly then: hyper reads the rest of its body, or ends the connection
    /// itself.
    pub(super) fn ends_between_requests(&self) {
        let mut state = self.state();
        state.given_up &= state.http2 || state.doing != Doing::Idle;
        state.closing = Some(Instant::now());
    }

    /// True if the client may be in the middle of a message that is not read any more.
    pub(super) fn may_send(&self) -> bool {
        let state = self.state();
        state.arriving > 0 || state.given_up || state.doing == Doing::Head
    }

    /// True while a request of HTTP/1 is worked on. Its client waits, also without a word. The task
    /// is woken when that ends.
    pub(super) fn owes_an_answer(&self, cx: &Context<'_>) -> bool {
        let mut state = self.state();
        let owes = matches!(state.doing, Doing::Busy(_)) && !state.http2;
        state.waits = owes.then(|| cx.waker().clone());
        owes
    }

    pub(super) fn is_http2(&self) -> bool {
        self.state().http2
    }

    /// True while requests of HTTP/2 are worked on.
    pub(super) fn has_streams(&self) -> bool {
        let state = self.state();
        matches!(state.doing, Doing::Busy(_)) && state.http2
    }

    /// True while there is no request, nor the beginning of one.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state().doing, Doing::New | Doing::Idle)
    }

    pub(super) fn verdict(&self, now: Instant) -> Verdict {
        let state = self.state();
        // In every state: a guest that writes to a stalled client would be busy without end.
        if state.stalled.is_some_and(|since| now >= since + self.idle_timeout) {
            return Verdict::Drop;
        }
        let shortest = self.idle_timeout.min(self.header_timeout);
        let shortest = if state.closing.is_some() { shortest.min(GOODBYE) } else { shortest };
        let (due, verdict) = match (state.doing, state.closing) {
            // No deadline. The next look is for the state that may follow meanwhile.
            (Doing::Busy(_), _) => return Verdict::LookAt(now + shortest),
            // The client takes its last response, with the time of a stall for each piece.
            (Doing::Idle, Some(_)) if state.stalled.is_some() => {
                return Verdict::LookAt(now + shortest);
            }
            (Doing::Idle, Some(closing)) => (state.since.max(closing) + GOODBYE, Verdict::Drop),
            (Doing::Idle, None) => (state.since + self.idle_timeout, Verdict::Close),
            (Doing::New | Doing::Head, _) => (state.since + self.header_timeout, Verdict::Drop),
        };
        // `Idle` may become `Head` at once, and the other way round. The new state may be due
        // before `due`, so the next look is not later than the shorter timeout.
        if now >= due { verdict } else { Verdict::LookAt(due.min(now + shortest)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// The body of a request that arrives.
pub(super) struct Arriving {
    activity: Arc<Activity>,
    complete: bool,
    /// Its client has not been asked for it.
    kept_back: bool,
}

impl Arrival for Arriving {
    fn asked(&mut self) {
        if mem::take(&mut self.kept_back) {
            self.activity.state().kept_back = false;
        }
    }

    fn complete(mut self: Box<Self>) {
        self.complete = true;
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        state.arriving -= 1;
        state.given_up |= !self.complete;
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
    fn silent_client_is_dropped_after_the_header_timeout() {
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
    fn the_next_look_is_not_later_than_the_idle_timeout() {
        let activity = Activity::new(IDLE, HEADER);
        let now = Instant::now();
        assert_eq!(activity.verdict(now), Verdict::LookAt(now + HEADER), "it begins as a head");
    }

    #[test]
    fn bytes_of_a_body_after_its_response_are_no_half_head() {
        let activity = Arc::new(Activity::new(HEADER, IDLE));
        activity.request_begins(false);
        let body = activity.body_arrives(false);
        activity.request_ended();
        activity.read();
        assert!(matches!(after(&activity, HEADER), Verdict::LookAt(_)));
        assert_eq!(after(&activity, IDLE), Verdict::Close);
        drop(body);
        activity.read();
        assert_eq!(after(&activity, HEADER), Verdict::Drop);
    }

    #[test]
    fn a_client_may_send_the_rest_of_a_body_that_was_given_up() {
        for (complete, http2) in [(true, false), (false, false), (false, true)] {
            let activity = Arc::new(Activity::new(HEADER, IDLE));
            assert!(!activity.may_send());
            activity.read();
            assert!(activity.may_send(), "the first head");
            activity.request_begins(http2);
            assert!(!activity.may_send());
            let body = Box::new(activity.body_arrives(false));
            assert!(activity.may_send());
            if complete {
                body.complete();
            } else {
                drop(body);
            }
            activity.request_ended();
            assert_eq!(activity.may_send(), !complete);
            activity.ends_between_requests();
            assert_eq!(activity.may_send(), http2, "HTTP/1 has read it before");
            activity.request_begins(http2);
            assert_eq!(activity.may_send(), http2, "HTTP/1 has read it before");
        }
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
    fn a_client_of_http2_may_wait_with_its_first_request() {
        let activity = Activity::new(HEADER, IDLE);
        assert!(activity.is_idle(), "nothing has come");
        activity.read();
        assert!(!activity.is_idle(), "a half preface, or a head");
        activity.speaks_http2();
        activity.read();
        assert!(activity.is_idle());
        assert!(matches!(after(&activity, 2 * HEADER), Verdict::LookAt(_)));
        assert_eq!(after(&activity, IDLE), Verdict::Close);
    }

    #[test]
    fn client_of_an_idle_connection_that_ends_has_a_short_time() {
        let activity = Activity::new(HEADER, IDLE);
        activity.speaks_http2();
        activity.ends_between_requests();
        assert!(matches!(after(&activity, Duration::ZERO), Verdict::LookAt(_)));
        assert_eq!(after(&activity, GOODBYE), Verdict::Drop);
        activity.wrote(false);
        assert!(matches!(after(&activity, GOODBYE), Verdict::LookAt(_)), "its response");
        activity.wrote(true);
        activity.request_begins(true);
        assert!(matches!(after(&activity, 2 * GOODBYE), Verdict::LookAt(_)));
    }

    #[test]
    fn early_ends_wait_for_stalled_clients_of_http1_alone() {
        for (http2, holds) in [(false, true), (true, false)] {
            let activity = Activity::new(HEADER, IDLE);
            activity.request_begins(http2);
            assert!(!activity.holds_ends());
            activity.wrote(false);
            assert_eq!(activity.holds_ends(), holds);
            activity.wrote(true);
            assert!(!activity.holds_ends());
        }
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

    #[test]
    fn a_body_is_kept_back_until_it_is_asked_for() {
        let activity = Arc::new(Activity::new(HEADER, IDLE));
        activity.request_begins(false);
        let mut body = activity.body_arrives(true);
        assert!(activity.keeps_body_back());
        body.asked();
        assert!(!activity.keeps_body_back());
        drop(body);
        activity.request_begins(false);
        drop(activity.body_arrives(true));
        assert!(activity.keeps_body_back(), "given up without a question");
        activity.request_begins(false);
        assert!(!activity.keeps_body_back());
    }
}
