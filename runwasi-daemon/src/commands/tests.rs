//! A daemon as the tests of several commands see it.

use std::{path::PathBuf, time::Duration};

use super::{
    node::{Answer, Daemon},
    process::ProcessFacts,
};
use crate::manager::reports::{DaemonState, StatusReply};

/// One that has answered, in this state.
pub(super) fn daemon(pid: u32, state: DaemonState) -> Daemon {
    let status = StatusReply {
        version: "0.1.0".into(),
        engine: "test".into(),
        pid,
        state: state as i32,
        started: 1_764_374_400_000,
        sandboxes: 2,
        ending: 1,
        containers: 3,
        slots: 100,
        settings: "grace = 30\n".into(),
        ..StatusReply::default()
    };
    let process = ProcessFacts {
        age: Duration::from_secs(90),
        cpu: Duration::from_millis(1500),
        memory: 5 << 20,
        stopped: false,
    };
    let socket = PathBuf::from(format!("/d/daemons/{pid}.sock"));
    let answer = Answer::Status(Box::new(status));
    Daemon { pid, socket, process: Some(process), answer }
}
