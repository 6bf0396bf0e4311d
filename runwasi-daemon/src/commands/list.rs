//! `list`: the sandboxes of all daemons of the node.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    facts,
    node::Daemon,
    sandbox::{Listed, Sandbox},
    status,
    text::{self, NONE},
};
use crate::manager::reports::{ContainerReport, SandboxReport};

/// A sandbox and its daemon.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub(super) daemon: &'a Daemon,
    pub(super) sandbox: &'a SandboxReport,
    /// Number of its containers if its daemon tells nothing else of them.
    pub(super) counted: Option<u32>,
}

impl Row<'_> {
    /// True if its daemon tells of its containers.
    pub(super) fn is_known(&self) -> bool {
        self.counted.is_none()
    }

    /// Number of its containers.
    pub(super) fn containers(&self) -> usize {
        self.counted.map_or(self.sandbox.containers.len(), |number| number as usize)
    }

    /// The state of a sandbox in a word: that of its containers, the liveliest first.
    pub(super) fn state(&self) -> &'static str {
        if self.is_known() { state(self.sandbox) } else { NONE }
    }
}

/// The sandboxes of the daemons that have answered, sorted by namespace and group.
pub(super) fn rows<'a>(daemons: &'a [Daemon], sandboxes: &'a [Listed]) -> Vec<Row<'a>> {
    let of = |(daemon, answer): (&'a Daemon, &'a Listed)| {
        let row = move |sandbox: &'a Sandbox| Row {
            daemon,
            sandbox: &sandbox.report,
            counted: sandbox.counted,
        };
        answer.iter().flatten().map(row)
    };
    let mut rows: Vec<_> = daemons.iter().zip(sandboxes).flat_map(of).collect();
    rows.sort_by_key(|row| (&row.sandbox.namespace, &row.sandbox.group, row.daemon.pid));
    rows
}

/// The table of the sandboxes at a time.
pub(super) fn table(rows: &[Row<'_>], now: u64) -> String {
    let header =
        ["NAMESPACE", "SANDBOX", "STATE", "CONTAINERS", "AGE", "CPU", "MEMORY", "PID", "DAEMON"];
    let rows: Vec<_> = rows.iter().map(|row| line(row, now)).collect();
    text::table(header, &rows)
}

fn line(row: &Row<'_>, now: u64) -> [String; 9] {
    let Row { daemon, sandbox, .. } = row;
    let known = |text: String| if row.is_known() { text } else { NONE.to_owned() };
    let serving = daemon.answer.state();
    let daemon = match serving {
        "serving" => daemon.pid.to_string(),
        other => format!("{} ({other})", daemon.pid),
    };
    [
        text::cell(&sandbox.namespace),
        text::cell(&sandbox.group),
        row.state().to_owned(),
        row.containers().to_string(),
        text::age(sandbox.created, now),
        known(text::cpu(cpu(sandbox))),
        known(text::bytes(memory(sandbox)).replace(' ', "")),
        sandbox.pid.to_string(),
        daemon,
    ]
}

fn state(sandbox: &SandboxReport) -> &'static str {
    const ORDER: [&str; 6] = ["running", "paused", "starting", "created", "creating", "stopped"];
    let has = |state: &&&str| sandbox.containers.iter().any(|one| one.state == **state);
    match ORDER.iter().find(has) {
        // A container without a state is native, and its delegate has not told an end.
        _ if sandbox.containers.iter().any(|one| one.state.is_empty()) => "running",
        Some(state) => state,
        None => "empty",
    }
}

/// CPU time of the containers of a sandbox.
pub(super) fn cpu(sandbox: &SandboxReport) -> Duration {
    let used = |one: &ContainerReport| one.usage.map_or(0, |usage| usage.cpu);
    Duration::from_nanos(sandbox.containers.iter().map(used).sum())
}

/// Memory of the containers of a sandbox.
pub(super) fn memory(sandbox: &SandboxReport) -> u64 {
    let used = |one: &ContainerReport| one.usage.map_or(0, |usage| usage.memory + usage.uncharged);
    sandbox.containers.iter().map(used).sum()
}

/// Faults of the question, a line each.
pub(super) fn faults(daemons: &[Daemon], sandboxes: &[Listed]) -> Vec<String> {
    let fault = |(daemon, answer): (&Daemon, &Listed)| {
        let reason = answer.as_ref().err()?;
        Some(format!("the sandboxes of daemon {} are not known: {reason}", daemon.pid))
    };
    daemons.iter().zip(sandboxes).filter_map(fault).collect()
}

/// Facts that daemons of an earlier version do not tell, a line each. It is no fault: they need not
/// know.
pub(super) fn unknown(
    daemons: &[Daemon],
    sandboxes: &[Listed],
    program: &'static str,
) -> Vec<String> {
    let missing = |(daemon, answer): (&Daemon, &Listed)| {
        let sandboxes = answer.as_ref().ok()?;
        // Empty sandboxes hide nothing.
        let containers: u32 = sandboxes.iter().filter_map(|sandbox| sandbox.counted).sum();
        let version = text::cell(daemon.answer.version().unwrap_or_default());
        (containers > 0).then(|| {
            format!(
                "daemon {} (version {version}) tells of its {containers} containers no more than \
                 their number: 'systemctl reload {program}' starts the installed version",
                daemon.pid
            )
        })
    };
    daemons.iter().zip(sandboxes).filter_map(missing).collect()
}

/// Daemons and sandboxes as JSON.
pub(super) fn json(daemons: &[Daemon], rows: &[Row<'_>]) -> Value {
    let sandboxes: Vec<Value> = rows.iter().map(one).collect();
    let mut value = status::json(daemons, false);
    value["sandboxes"] = json!(sandboxes);
    value
}

/// A sandbox as JSON. What its daemon does not tell is null.
pub(super) fn one(row: &Row<'_>) -> Value {
    let sandbox = row.sandbox;
    let containers = || sandbox.containers.iter().map(facts::container_json).collect::<Vec<_>>();
    json!({
        "namespace": sandbox.namespace,
        "sandbox": sandbox.group,
        "daemon": row.daemon.pid,
        "pid": sandbox.pid,
        "socket": sandbox.socket,
        "state": row.is_known().then(|| state(sandbox)),
        "managed": row.is_known().then_some(sandbox.managed),
        "created": text::time_or_none(sandbox.created),
        "cpu_seconds": row.is_known().then(|| cpu(sandbox).as_secs_f64()),
        "memory_bytes": row.is_known().then(|| memory(sandbox)),
        "container_count": row.containers(),
        "containers": row.is_known().then(containers),
    })
}

#[cfg(test)]
mod tests {
    use super::{super::tests::daemon, *};
    use crate::manager::{
        messages::SandboxEntry,
        reports::{DaemonState, UsageReport},
    };

    fn sandbox(group: &str, states: &[&str]) -> SandboxReport {
        let container = |state: &&str| ContainerReport {
            id: format!("{group}-{state}"),
            state: (*state).to_owned(),
            usage: Some(UsageReport {
                cpu: 1_500_000_000,
                memory: 1 << 20,
                uncharged: 1 << 20,
                ..UsageReport::default()
            }),
            ..ContainerReport::default()
        };
        SandboxReport {
            namespace: "k8s.io".into(),
            group: group.into(),
            pid: 5,
            created: 1000,
            containers: states.iter().map(container).collect(),
            ..SandboxReport::default()
        }
    }

    #[test]
    fn rows_are_sorted_over_all_daemons_and_name_the_retired_one() {
        let daemons = [daemon(7, DaemonState::Retired), daemon(8, DaemonState::Serving)];
        let sandboxes: [Listed; 2] = [
            Ok(vec![sandbox("b", &["running", "stopped"]).into()]),
            Ok(vec![sandbox("a\n", &["paused"]).into(), sandbox("c", &[]).into()]),
        ];
        let rows = rows(&daemons, &sandboxes);
        let table = table(&rows, 61_000);
        let lines: Vec<Vec<_>> =
            table.lines().map(|line| line.split_whitespace().collect()).collect();
        let [_, a, b, c] = &lines[..] else { panic!("{table}") };
        assert_eq!(a[..5], ["k8s.io", "a\\n", "paused", "1", "1m00s"]);
        let wanted =
            ["k8s.io", "b", "running", "2", "1m00s", "3.00s", "4.0MiB", "5", "7", "(retired)"];
        assert_eq!(b[..], wanted);
        assert_eq!(c[2..4], ["empty", "0"]);
        let json = json(&daemons, &rows);
        assert_eq!(json["sandboxes"][1]["daemon"], 7);
        assert_eq!(json["sandboxes"][1]["containers"][0]["state"], "running");
        assert_eq!(json["sandboxes"][1]["container_count"], 2);
        assert!(unknown(&daemons, &sandboxes, "daemon").is_empty());
    }

    #[test]
    fn what_an_earlier_version_does_not_tell_is_null() {
        let daemons = [daemon(7, DaemonState::Serving)];
        let entry = SandboxEntry { group: "a".into(), containers: 3, ..SandboxEntry::default() };
        let sandboxes: [Listed; 1] = [Ok(vec![entry.into()])];
        let rows = rows(&daemons, &sandboxes);
        let json = json(&daemons, &rows);
        let sandbox = &json["sandboxes"][0];
        for key in ["state", "managed", "created", "cpu_seconds", "memory_bytes", "containers"] {
            assert_eq!(sandbox[key], Value::Null, "{key}");
        }
        assert_eq!(sandbox["container_count"], 3);
    }

    #[test]
    fn state_is_that_of_the_liveliest_container() {
        let of = |states: &[&str]| state(&sandbox("a", states));
        assert_eq!(of(&["stopped", "created", "paused"]), "paused");
        assert_eq!(of(&["stopped"]), "stopped");
        assert_eq!(of(&["stopped", ""]), "running");
    }

    #[test]
    fn daemon_without_an_answer_is_a_fault_and_hides_no_other() {
        let daemons = [daemon(7, DaemonState::Serving), daemon(8, DaemonState::Serving)];
        let answers: [Listed; 2] =
            [Err("no answer".to_owned()), Ok(vec![sandbox("a", &[]).into()])];
        assert_eq!(rows(&daemons, &answers).len(), 1);
        assert_eq!(faults(&daemons, &answers).len(), 1);
    }
}
