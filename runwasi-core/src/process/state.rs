//! State table of a process: pure decisions, without async code and locks.
//!
//! ```text
//!               Start            Ready             Ended
//!   ┌─────────┐      ┌──────────┐     ┌─────────┐        ┌─────────┐ Delete
//!   │ Created ├─────▶│ Starting ├────▶│ Running ├───────▶│ Stopped ├───────▶ (gone)
//!   └────┬────┘      └────┬─────┘     └─┬─────▲─┘        └─▲──▲──▲─┘
//!        │                │       Pause │     │ Resume     │  │  │
//!        │                │           ┌─▼─────┴─┐   Ended  │  │  │
//!        │                │           │ Paused  ├──────────┘  │  │
//!        │                │           └─────────┘             │  │
//!        │                └───────────────────────── Ended ───┘  │
//!        └─────────────────────── a signal that ends it, Delete ─┘
//! ```
//!
//! Requests come from containerd, events from the group of futures. The meaning of a request in
//! each state follows `containerd-shim-runc-v2` (`process/init_state.go`, `process/exec_state.go`
//! there).

use std::fmt;

use crate::engine::signal::{Action, Signal};

/// State of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Prepared; nothing of the guest has run.
    Created,
    /// Its futures run, but it has not reported itself ready. containerd is told `CREATED`.
    Starting,
    /// Its futures run.
    Running,
    /// Its futures are not polled.
    Paused,
    /// Its futures are gone and its exit status is known.
    Stopped,
}

/// Request of containerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Run the guest.
    Start,
    /// Deliver a signal.
    Kill(Signal),
    /// Ask whether it could be signalled (signal 0).
    Probe,
    /// Stop polling.
    Pause,
    /// Poll again.
    Resume,
    /// Add a process to the container (asked of its init).
    Exec,
    /// Change the limits of the container (asked of its init).
    Update,
    /// Close the guest's stdin.
    CloseStdin,
    /// Forget the process.
    Delete,
}

/// Event of the group of futures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The guest reported itself ready.
    Ready,
    /// Every future is gone.
    Ended,
}

/// Decision about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Do it; the process is then in this state, unless an event says otherwise first.
    Accept(State),
    /// Nothing to do: answer success.
    Ignore,
    /// Do nothing and answer with an error.
    Deny(Denial),
}

/// Why a request is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The process is in the wrong state for it.
    #[error("cannot {verb} a process that is {state}")]
    WrongState {
        /// The request, as a verb.
        verb: &'static str,
        /// State of the process.
        state: State,
    },
    /// The process has ended and cannot be signalled. containerd expects "not found" for it.
    #[error("process already finished")]
    AlreadyFinished,
}

impl State {
    /// Decides about `request`.
    pub fn decide(self, request: Request) -> Decision {
        use Decision::{Accept, Deny, Ignore};
        use State::{Created, Paused, Running, Starting, Stopped};
        let wrong = |verb| Deny(Denial::WrongState { verb, state: self });
        match (request, self) {
            (Request::Start, Created) => Accept(Starting),
            (Request::Start, _) => wrong("start"),

            (Request::Kill(_) | Request::Probe, Stopped) => Deny(Denial::AlreadyFinished),
            (Request::Probe, _) => Ignore,
            // Also while paused: an end drops the futures, which needs no poll.
            (Request::Kill(signal), _) => self.decide_signal(signal),

            (Request::Pause, Running) => Accept(Paused),
            (Request::Pause, _) => wrong("pause"),
            (Request::Resume, Paused) => Accept(Running),
            (Request::Resume, _) => wrong("resume"),

            (Request::Exec, Created | Starting | Running) => Accept(self),
            (Request::Exec, _) => wrong("exec in"),

            (Request::Update, Stopped) => wrong("update"),
            (Request::Update, _) => Accept(self),

            // The end of the process has closed its streams.
            (Request::CloseStdin, Stopped) => Ignore,
            (Request::CloseStdin, _) => Accept(self),

            // containerd deletes containers that were never started. Clients that wait get 137, and
            // 0 for an exec.
            (Request::Delete, Created | Stopped) => Accept(Stopped),
            (Request::Delete, _) => wrong("delete"),
        }
    }

    /// Decides about a signal to a process that has not ended.
    fn decide_signal(self, signal: Signal) -> Decision {
        match (signal.action(), self) {
            (Action::Ignore, _) => Decision::Ignore,
            // No future exists yet that could handle the signal, stop or continue.
            (Action::Kill | Action::Terminate, Self::Created) => Decision::Accept(Self::Stopped),
            (Action::Stop | Action::Continue, Self::Created) => Decision::Ignore,
            // The state changes later, with the event of the end: the futures must be gone first.
            _ => Decision::Accept(self),
        }
    }

    /// The state after `event`, if it can happen in this state.
    pub fn after(self, event: Event) -> Option<Self> {
        match (event, self) {
            (Event::Ready, Self::Starting) => Some(Self::Running),
            (Event::Ready, _) => None,
            (Event::Ended, Self::Starting | Self::Running | Self::Paused) => Some(Self::Stopped),
            (Event::Ended, Self::Created | Self::Stopped) => None,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STATES: [State; 5] =
        [State::Created, State::Starting, State::Running, State::Paused, State::Stopped];

    fn signal(number: u32) -> Signal {
        Signal::new(number).unwrap()
    }

    /// The whole table, every request in every state, written a second time as a picture:
    /// `c s r p x` = accepted, then in that state; `i` = ignored; `W` = wrong state; `F` = already
    /// finished.
    const TABLE: [(&str, &str); 12] = [
        //                 Created Starting Running Paused Stopped
        ("start", "sWWWW"),
        ("kill KILL", "xsrpF"),
        ("kill TERM", "xsrpF"),
        ("kill CHLD", "iiiiF"),
        ("kill STOP", "isrpF"),
        ("probe", "iiiiF"),
        ("pause", "WWpWW"),
        ("resume", "WWWrW"),
        ("exec", "csrWW"),
        ("update", "csrpW"),
        ("close stdin", "csrpi"),
        ("delete", "xWWWx"),
    ];

    fn request(name: &str) -> Request {
        match name {
            "start" => Request::Start,
            "kill KILL" => Request::Kill(Signal::KILL),
            "kill TERM" => Request::Kill(Signal::TERM),
            "kill CHLD" => Request::Kill(signal(17)),
            "kill STOP" => Request::Kill(signal(19)),
            "probe" => Request::Probe,
            "pause" => Request::Pause,
            "resume" => Request::Resume,
            "exec" => Request::Exec,
            "update" => Request::Update,
            "close stdin" => Request::CloseStdin,
            "delete" => Request::Delete,
            other => panic!("no request {other}"),
        }
    }

    fn letter(decision: Decision) -> char {
        match decision {
            Decision::Accept(State::Created) => 'c',
            Decision::Accept(State::Starting) => 's',
            Decision::Accept(State::Running) => 'r',
            Decision::Accept(State::Paused) => 'p',
            Decision::Accept(State::Stopped) => 'x',
            Decision::Ignore => 'i',
            Decision::Deny(Denial::WrongState { .. }) => 'W',
            Decision::Deny(Denial::AlreadyFinished) => 'F',
        }
    }

    #[test]
    fn every_request_in_every_state_is_decided_as_the_table_says() {
        for (name, row) in TABLE {
            let decided: String =
                STATES.iter().map(|state| letter(state.decide(request(name)))).collect();
            assert_eq!(decided, row, "{name}");
        }
    }

    #[test]
    fn delete_before_exit_is_denied() {
        for state in [State::Starting, State::Running, State::Paused] {
            let denial = Denial::WrongState { verb: "delete", state };
            assert_eq!(state.decide(Request::Delete), Decision::Deny(denial));
        }
    }

    #[test]
    fn a_denial_names_the_request_and_the_state() {
        let Decision::Deny(denial) = State::Running.decide(Request::Start) else {
            panic!("start twice was accepted")
        };
        assert_eq!(denial.to_string(), "cannot start a process that is running");
    }

    fn any_request() -> impl Strategy<Value = Request> {
        prop_oneof![
            Just(Request::Start),
            (1..=64u32).prop_map(|n| Request::Kill(signal(n))),
            Just(Request::Probe),
            Just(Request::Pause),
            Just(Request::Resume),
            Just(Request::Exec),
            Just(Request::Update),
            Just(Request::CloseStdin),
            Just(Request::Delete),
        ]
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Request(Request),
        Event(Event),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => any_request().prop_map(Step::Request),
            1 => Just(Step::Event(Event::Ready)),
            1 => Just(Step::Event(Event::Ended)),
        ]
    }

    proptest! {
        /// Compares with a model of three facts: the process was started, is paused, has ended.
        #[test]
        fn any_history_keeps_the_rules_of_a_process(
            steps in proptest::collection::vec(any_step(), 0..60)
        ) {
            let mut state = State::Created;
            let mut starts = 0;
            let mut ends = 0;
            for step in steps {
                let before = state;
                match step {
                    Step::Request(request) => match state.decide(request) {
                        Decision::Accept(next) => {
                            starts += u32::from(request == Request::Start);
                            ends += u32::from(before != State::Stopped && next == State::Stopped);
                            state = next;
                        }
                        Decision::Ignore | Decision::Deny(_) => {}
                    },
                    Step::Event(event) => if let Some(next) = state.after(event) {
                        ends += u32::from(next == State::Stopped);
                        state = next;
                    },
                }
                // A process starts once, ends once, and never comes back.
                prop_assert!(starts <= 1 && ends <= 1);
                prop_assert_eq!(ends == 1, state == State::Stopped);
                prop_assert!(before != State::Stopped || state == State::Stopped);
                prop_assert!(state != State::Created || starts == 0);
                // Only a started process can be paused.
                prop_assert!(state != State::Paused || starts == 1);
                // SIGKILL is accepted until the process has ended.
                let decision = state.decide(Request::Kill(Signal::KILL));
                let killable = matches!(decision, Decision::Accept(_));
                prop_assert_eq!(killable, state != State::Stopped);
            }
        }
    }
}
