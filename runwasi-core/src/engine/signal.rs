//! Signals in containerd's numbering, and their default actions on a guest.

/// A signal number between 1 and 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(u32);

/// Default action of a signal (`signal(7)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// End the process at once. The instance cannot handle the signal.
    Kill,
    /// End the process unless the instance handles the signal.
    Terminate,
    /// Stop polling the process until SIGCONT. Its state does not change.
    Stop,
    /// Undo `Stop`.
    Continue,
    /// Nothing happens.
    Ignore,
}

impl Signal {
    /// SIGINT, as a terminal's Ctrl-C sends it.
    pub const INT: Self = Self(2);
    /// SIGQUIT.
    pub const QUIT: Self = Self(3);
    /// SIGKILL, which no guest can handle.
    pub const KILL: Self = Self(9);
    /// SIGTERM, the request to end.
    pub const TERM: Self = Self(15);

    /// Checks a number from containerd.
    pub fn new(number: u32) -> Option<Self> {
        // 0 is no signal: `kill(2)` takes it to check that a process exists.
        (1..=64).contains(&number).then_some(Self(number))
    }

    /// The number.
    pub fn number(self) -> u32 {
        self.0
    }

    /// The default action.
    pub fn action(self) -> Action {
        // The numbers of Linux on x86-64 and arm64 (`signal(7)`).
        match self.0 {
            9 => Action::Kill,
            17 | 23 | 28 => Action::Ignore, // CHLD, URG, WINCH
            18 => Action::Continue,         // CONT
            19..=22 => Action::Stop,        // STOP, TSTP, TTIN, TTOU
            _ => Action::Terminate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outside_1_to_64_are_no_signals() {
        for number in [0, 65, 1000, u32::MAX] {
            assert_eq!(Signal::new(number), None);
        }
    }

    #[test]
    fn default_actions_are_those_of_signal_7() {
        let action = |n| Signal::new(n).unwrap().action();
        assert_eq!(action(9), Action::Kill);
        assert_eq!(action(15), Action::Terminate);
        assert_eq!(action(2), Action::Terminate);
        assert_eq!(action(17), Action::Ignore);
        assert_eq!(action(18), Action::Continue);
        assert_eq!(action(19), Action::Stop);
        assert_eq!(action(64), Action::Terminate);
    }
}
