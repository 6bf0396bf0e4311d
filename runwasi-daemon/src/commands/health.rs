//! `health`: success if the node can start containers.

use super::{
    node::{Answer, Daemon, current},
    status,
};

/// Result of a probe: a line, or the reason for its failure.
pub(super) fn verdict(daemons: &[Daemon]) -> Result<String, String> {
    let Some(daemon) = current(daemons) else {
        return Err(status::faults(daemons).join("; "));
    };
    let pid = daemon.pid;
    match &daemon.answer {
        Answer::Status(status) => match status.turn {
            Some(turn) => {
                Ok(format!("healthy: daemon {pid} serves, a guest's turn came after {turn} µs\n"))
            }
            None => Err(format!("daemon {pid}: no worker of guests answers")),
        },
        Answer::Earlier { version } => Ok(format!(
            "healthy: daemon {pid} of version {} answers\n",
            runwasi_core::sanitize::text(version)
        )),
        // Never the current one.
        Answer::Failed(reason) => Err(reason.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::daemon, *};
    use crate::manager::reports::{DaemonState, StatusReply};

    #[test]
    fn serving_daemon_with_a_turn_is_healthy() {
        let serving = daemon(7, DaemonState::Serving);
        let Answer::Status(status) = &serving.answer else { panic!("status") };
        let status = StatusReply { turn: Some(80), ..(**status).clone() };
        let with_turn = Daemon { answer: Answer::Status(Box::new(status)), ..serving.clone() };
        assert!(verdict(&[with_turn]).unwrap().contains("after 80 µs"));
        assert!(verdict(&[serving]).unwrap_err().contains("no worker"));
        let retired = daemon(7, DaemonState::Retired);
        assert_eq!(verdict(&[retired]).unwrap_err(), "no daemon takes new sandboxes");
    }
}
