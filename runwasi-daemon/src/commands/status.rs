//! `status`: the daemons of the node.

use serde_json::{Value, json};

use super::{
    node::{Answer, Daemon, current},
    text::{self, NONE},
};

/// The table of the daemons.
pub(super) fn table(daemons: &[Daemon]) -> String {
    let header =
        ["PID", "STATE", "VERSION", "AGE", "CPU", "MEMORY", "SANDBOXES", "CONTAINERS", "SLOTS"];
    let rows: Vec<_> = daemons.iter().map(row).collect();
    text::table(header, &rows)
}

fn row(daemon: &Daemon) -> [String; 9] {
    let none = || NONE.to_owned();
    let status = daemon.answer.status();
    let process = daemon.process;
    let number = |number: Option<u32>| number.map_or_else(none, |number| number.to_string());
    [
        daemon.pid.to_string(),
        // Without spaces, at which scripts split a line.
        daemon.answer.state().replace(' ', "-"),
        text::cell(daemon.answer.version().unwrap_or_default()),
        process.map_or_else(none, |process| text::duration(process.age)),
        process.map_or_else(none, |process| text::cpu(process.cpu)),
        process.map_or_else(none, |process| text::bytes(process.memory).replace(' ', "")),
        status.map_or_else(none, sandboxes),
        number(status.map(|status| status.containers)),
        number(status.map(|status| status.slots)),
    ]
}

fn sandboxes(status: &crate::manager::reports::StatusReply) -> String {
    // Apart: those that are ending hold guests and memory, and take no containers.
    match status.ending {
        0 => status.sandboxes.to_string(),
        ending => format!("{}+{ending}", status.sandboxes),
    }
}

/// Faults of the daemons, a line each.
pub(super) fn faults(daemons: &[Daemon]) -> Vec<String> {
    let mut faults: Vec<String> = daemons.iter().filter_map(fault).collect();
    if current(daemons).is_none() {
        faults.push("no daemon takes new sandboxes".to_owned());
    }
    faults
}

fn fault(daemon: &Daemon) -> Option<String> {
    let Answer::Failed(reason) = &daemon.answer else { return None };
    // A stopped process is silent like one that hangs, and is started again in another way.
    let stopped = daemon.process.is_some_and(|process| process.stopped);
    let why = if stopped { "its process is stopped: " } else { "" };
    Some(format!("daemon {}: {why}{reason}", daemon.pid))
}

/// The daemons as JSON.
pub(super) fn json(daemons: &[Daemon], engine_settings: bool) -> Value {
    let all: Vec<Value> = daemons.iter().map(|daemon| one(daemon, engine_settings)).collect();
    json!({ "daemons": all })
}

fn one(daemon: &Daemon, with_settings: bool) -> Value {
    let process = daemon.process.map(|process| {
        json!({
            "age_seconds": process.age.as_secs_f64(),
            "cpu_seconds": process.cpu.as_secs_f64(),
            "memory_bytes": process.memory,
            "stopped": process.stopped,
        })
    });
    let error = if let Answer::Failed(reason) = &daemon.answer { Some(reason) } else { None };
    let mut value = json!({
        "pid": daemon.pid,
        "socket": daemon.socket.display().to_string(),
        "state": daemon.answer.state(),
        "version": daemon.answer.version(),
        "error": error,
        "process": process,
    });
    if let Some(status) = daemon.answer.status() {
        value["engine"] = json!(status.engine);
        value["started"] = json!(text::time_or_none(status.started));
        value["sandboxes"] = json!(status.sandboxes);
        value["ending"] = json!(status.ending);
        value["containers"] = json!(status.containers);
        value["slots"] = json!(status.slots);
        value["guarded"] = json!(status.guarded);
        value["socket_activated"] = json!(status.activated);
        if with_settings {
            value["settings"] = json!(status.settings);
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{
        super::{process::ProcessFacts, tests::daemon},
        *,
    };
    use crate::manager::reports::DaemonState;

    fn silent() -> Daemon {
        let process = Some(ProcessFacts { stopped: true, ..ProcessFacts::default() });
        let answer = Answer::Failed("no answer to Status".into());
        Daemon { pid: 9, socket: PathBuf::new(), process, answer }
    }

    #[test]
    fn each_daemon_has_a_row() {
        let earlier = Daemon {
            answer: Answer::Earlier { version: "0.0.9\u{1b}".into() },
            process: None,
            ..silent()
        };
        let daemons = [daemon(7, DaemonState::Retired), earlier];
        let table = table(&daemons);
        let lines: Vec<_> = table.lines().collect();
        assert!(lines[0].starts_with("PID  STATE"), "{table}");
        let words: Vec<_> = lines[1].split_whitespace().collect();
        let wanted = ["7", "retired", "0.1.0", "1m30s", "1.50s", "5.0MiB", "2+1", "3", "100"];
        assert_eq!(words, wanted);
        assert!(lines[2].contains("earlier-version  0.0.9\\u{1b}"), "{table}");
    }

    #[test]
    fn silence_and_the_lack_of_a_serving_daemon_are_faults() {
        assert!(faults(&[daemon(7, DaemonState::Serving)]).is_empty());
        let faults = faults(&[daemon(7, DaemonState::Retired), silent()]);
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].starts_with("daemon 9: its process is stopped: no answer"));
    }

    #[test]
    fn settings_are_in_the_json_only_if_wanted() {
        let all = [daemon(7, DaemonState::Serving), silent()];
        let value = json(&all, false);
        assert_eq!(value["daemons"][0]["started"], "2025-11-29T00:00:00.000Z");
        assert_eq!(value["daemons"][0]["settings"], Value::Null);
        assert_eq!(value["daemons"][1]["error"], "no answer to Status");
        assert_eq!(json(&all, true)["daemons"][0]["settings"], "grace = 30\n");
    }
}
