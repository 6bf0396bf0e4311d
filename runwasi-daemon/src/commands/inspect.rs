//! `inspect`: everything about one container or sandbox.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    config::ConfigFacts,
    facts,
    list::{self, Row},
    text::{self, NONE},
};
use crate::manager::reports::{ContainerReport, SandboxReport, UsageReport};

/// Shortest beginning of an id that stands for it.
const SHORTEST: usize = 3;

/// Container or sandbox of an id.
#[derive(Clone, Copy)]
pub(super) enum Inspected<'a> {
    Sandbox(Row<'a>),
    Container(Row<'a>, &'a ContainerReport),
}

/// Finds a container, or else a sandbox, by its id or the beginning of it.
pub(super) fn find<'a>(
    rows: &[Row<'a>],
    id: &str,
    namespace: Option<&str>,
) -> Result<Inspected<'a>, String> {
    let here = |row: &&Row<'a>| namespace.is_none_or(|name| row.sandbox.namespace == name);
    let rows: Vec<Row<'a>> = rows.iter().filter(here).copied().collect();
    let exact = |name: &str| name == id;
    let begins = |name: &str| id.len() >= SHORTEST && name.starts_with(id);
    // A container before its sandbox, which often has the same id.
    let tries = [containers(&rows, exact), sandboxes(&rows, exact)];
    let tries = tries.into_iter().chain([containers(&rows, begins), sandboxes(&rows, begins)]);
    let Some(found) = tries.into_iter().find(|found| !found.is_empty()) else {
        return Err(format!("no container and no sandbox {:?}: 'list' shows what there is", id));
    };
    match found[..] {
        [one] => Ok(one),
        _ => {
            let names: Vec<_> = found.iter().map(name).collect();
            let names = names.join(", ");
            Err(format!(
                "{id:?} is ambiguous: {names}; a longer id or --namespace tells them apart"
            ))
        }
    }
}

fn containers<'a>(rows: &[Row<'a>], is: impl Fn(&str) -> bool) -> Vec<Inspected<'a>> {
    let of = |row: &Row<'a>| {
        let row = *row;
        row.sandbox.containers.iter().map(move |container| (row, container))
    };
    let all = rows.iter().flat_map(of).filter(|(_, container)| is(&container.id));
    all.map(|(row, container)| Inspected::Container(row, container)).collect()
}

fn sandboxes<'a>(rows: &[Row<'a>], is: impl Fn(&str) -> bool) -> Vec<Inspected<'a>> {
    let all = rows.iter().filter(|row| is(&row.sandbox.group));
    all.map(|row| Inspected::Sandbox(*row)).collect()
}

fn name(found: &Inspected<'_>) -> String {
    match found {
        Inspected::Sandbox(row) => {
            format!("sandbox {}/{}", row.sandbox.namespace, row.sandbox.group)
        }
        Inspected::Container(row, container) => {
            format!("{}/{}", row.sandbox.namespace, container.id)
        }
    }
}

/// A sandbox with its containers, for people.
pub(super) fn sandbox_text(row: &Row<'_>, now: u64) -> String {
    let sandbox = row.sandbox;
    let known = |text: String| if row.is_known() { text } else { NONE.to_owned() };
    let managed = if sandbox.managed { "by containerd's Sandbox API" } else { "no" };
    let mut fields = vec![
        ("sandbox", text::line(&format!("{}/{}", sandbox.namespace, sandbox.group))),
        ("state", row.state().to_owned()),
        ("created", moment(sandbox.created, now)),
        ("process", sandbox.pid.to_string()),
        ("socket", text::line(&sandbox.socket)),
        ("managed", known(managed.to_owned())),
        ("daemon", daemon(row)),
        ("CPU", known(text::cpu(list::cpu(sandbox)))),
        ("memory", known(text::bytes(list::memory(sandbox)))),
    ];
    // Instead of their lines below, which are missing.
    if let Some(number) = row.counted {
        fields.push(("containers", format!("{number}, of which its daemon tells nothing else")));
    }
    for container in &sandbox.containers {
        let state = if container.state.is_empty() { &container.kind } else { &container.state };
        fields.push(("container", text::line(&format!("{} ({state})", container.id))));
    }
    text::fields(&fields)
}

fn daemon(row: &Row<'_>) -> String {
    let daemon = row.daemon;
    let version = text::cell(daemon.answer.version().unwrap_or_default());
    format!("{}, {}, version {version}", daemon.pid, daemon.answer.state())
}

/// A container, for people.
pub(super) fn container_text(
    row: &Row<'_>,
    container: &ContainerReport,
    config: &Result<ConfigFacts, String>,
    now: u64,
) -> String {
    let sandbox = row.sandbox;
    let mut fields = vec![
        ("container", text::line(&format!("{}/{}", sandbox.namespace, container.id))),
        ("sandbox", text::line(&format!("{}, process {}", sandbox.group, sandbox.pid))),
        ("daemon", daemon(row)),
        ("kind", text::line(&container.kind)),
        ("state", state(container)),
        ("created", moment(container.created, now)),
        ("started", moment(container.started, now)),
        ("exited", moment(container.exited, now)),
        ("program", program(container)),
    ];
    match config {
        Ok(config) => fields.extend(config.fields()),
        Err(reason) => fields.push(("config", text::line(&format!("not read: {reason}")))),
    }
    if let Some(usage) = &container.usage {
        fields.extend(usage_fields(usage));
    }
    for exec in &container.execs {
        let status = exec.status.map_or_else(String::new, |status| format!(", status {status}"));
        fields.push(("exec", text::line(&format!("{} ({}{status})", exec.id, exec.state))));
    }
    fields.push(("bundle", text::cell(&container.bundle)));
    let warnings = warnings(row, container);
    fields.extend(warnings.into_iter().map(|warning| ("warning", warning)));
    text::fields(&fields)
}

fn state(container: &ContainerReport) -> String {
    let state = if container.state.is_empty() { "known to its delegate" } else { &container.state };
    let status = container.status.map_or_else(String::new, |status| format!(", status {status}"));
    text::line(&format!("{state}{status}"))
}

fn moment(at: u64, now: u64) -> String {
    match text::time_or_none(at) {
        Some(time) => format!("{time} ({} ago)", text::duration(text::elapsed(at, now))),
        None => NONE.to_owned(),
    }
}

fn program(container: &ContainerReport) -> String {
    let digest = if container.digest.is_empty() { "" } else { &container.digest };
    match &*container.artifact {
        "" => NONE.to_owned(),
        path => text::line(format!("{path} {digest}").trim_end()),
    }
}

fn usage_fields(usage: &UsageReport) -> Vec<(&'static str, String)> {
    let limit = usage.limit.map_or_else(|| "none".to_owned(), text::bytes);
    let memory = format!(
        "{} used, {} more of the host, peak {}, limit {limit}",
        text::bytes(usage.memory),
        text::bytes(usage.uncharged),
        text::bytes(usage.peak),
    );
    let quota = match (usage.quota, usage.period) {
        (Some(quota), Some(period)) => {
            format!("quota {} ms of {} ms", millis(quota), millis(period))
        }
        _ => "no quota".to_owned(),
    };
    let cpu = format!("{} used, shares {}, {quota}", seconds(usage.cpu), usage.shares);
    let mut fields = vec![("memory", memory), ("CPU", cpu)];
    if usage.throttled > 0 {
        let time = seconds(usage.throttled_time);
        let text = format!("{} times, {time}, in {} periods", usage.throttled, usage.periods);
        fields.push(("throttled", text));
    }
    if let Some(requests) = usage.requests {
        fields.push(("requests", requests.to_string()));
    }
    fields.push(("processes", usage.processes.to_string()));
    fields
}

fn seconds(nanos: u64) -> String {
    format!("{:.2} s", Duration::from_nanos(nanos).as_secs_f64())
}

fn millis(micros: u64) -> String {
    format!("{}", micros as f64 / 1000.0)
}

/// Conditions that an operator may have to act on.
pub(super) fn warnings(row: &Row<'_>, container: &ContainerReport) -> Vec<String> {
    let mut warnings = Vec::new();
    if row.daemon.answer.state() == "retired" {
        let pid = row.daemon.pid;
        warnings.push(format!("its daemon {pid} is retired: a restart of the pod moves it"));
    }
    if container.state == "paused" {
        warnings.push("it is paused: its guest does not run".to_owned());
    }
    if container.more_execs > 0 {
        let more = container.more_execs;
        warnings.push(format!("{more} more execs are not shown: their client never deletes them"));
    }
    let Some(usage) = &container.usage else { return warnings };
    if usage.kills > 0 {
        warnings.push(format!("{} processes were ended at the memory limit", usage.kills));
    } else if usage.failures > 0 {
        warnings.push(format!("{} growths were refused at the memory limit", usage.failures));
    }
    if usage.limit.is_some_and(|limit| usage.memory > limit / 10 * 9) {
        warnings.push("its memory is above nine tenths of the limit".to_owned());
    }
    // Of few periods nothing follows.
    if usage.periods >= 10 && usage.throttled > usage.periods / 2 {
        warnings.push("its CPU quota is used up in most periods".to_owned());
    }
    warnings
}

/// A container with its sandbox, daemon and configuration, as JSON.
pub(super) fn container_and_place(
    row: &Row<'_>,
    container: &ContainerReport,
    config: &Result<ConfigFacts, String>,
) -> Value {
    let mut value = facts::container_json(container);
    value["namespace"] = json!(row.sandbox.namespace);
    value["sandbox"] = sandbox_place(row.sandbox);
    value["daemon"] = json!({
        "pid": row.daemon.pid,
        "state": row.daemon.answer.state(),
        "version": row.daemon.answer.version(),
    });
    value["warnings"] = json!(warnings(row, container));
    match config {
        Ok(config) => value["config"] = config.json(),
        Err(reason) => value["config_error"] = json!(reason),
    }
    value
}

fn sandbox_place(sandbox: &SandboxReport) -> Value {
    json!({
        "id": sandbox.group,
        "pid": sandbox.pid,
        "socket": sandbox.socket,
        "managed": sandbox.managed,
        "created": text::time_or_none(sandbox.created),
    })
}

#[cfg(test)]
mod tests {
    use super::{super::tests::daemon, *};
    use crate::{commands::node::Daemon, manager::reports::DaemonState};

    fn container(id: &str) -> ContainerReport {
        let usage = UsageReport {
            cpu: 2_500_000_000,
            shares: 512,
            quota: Some(50_000),
            period: Some(100_000),
            periods: 20,
            throttled: 15,
            throttled_time: 1_000_000_000,
            memory: 62 << 20,
            uncharged: 1 << 20,
            peak: 63 << 20,
            limit: Some(64 << 20),
            processes: 1,
            requests: Some(12),
            ..UsageReport::default()
        };
        ContainerReport {
            id: id.into(),
            kind: "wasm".into(),
            state: "paused".into(),
            created: 1000,
            started: 2000,
            artifact: "/app\u{1b}.wasm".into(),
            digest: "sha256:00".into(),
            usage: Some(usage),
            more_execs: 3,
            ..ContainerReport::default()
        }
    }

    fn sandbox(namespace: &str, group: &str, ids: &[&str]) -> SandboxReport {
        SandboxReport {
            namespace: namespace.into(),
            group: group.into(),
            pid: 5,
            containers: ids.iter().map(|id| container(id)).collect(),
            ..SandboxReport::default()
        }
    }

    fn with<T>(sandboxes: &[SandboxReport], check: impl FnOnce(&[Row<'_>]) -> T) -> T {
        let daemon: Daemon = daemon(7, DaemonState::Retired);
        let rows: Vec<_> = sandboxes
            .iter()
            .map(|sandbox| Row { daemon: &daemon, sandbox, counted: None })
            .collect();
        check(&rows)
    }

    #[test]
    fn ids_name_containers_first_and_then_sandboxes() {
        let all = [
            sandbox("default", "pod-1", &["app-one", "app-two"]),
            sandbox("default", "single", &["single"]),
            sandbox("k8s.io", "other", &["app-one"]),
        ];
        with(&all, |rows| {
            let found = |id, namespace| find(rows, id, namespace).map(|found| name(&found));
            assert_eq!(found("single", None).unwrap(), "default/single");
            assert_eq!(found("pod-1", None).unwrap(), "sandbox default/pod-1");
            assert_eq!(found("app-t", None).unwrap(), "default/app-two");
            assert_eq!(found("app-one", Some("k8s.io")).unwrap(), "k8s.io/app-one");
            let ambiguous = found("app-one", None).unwrap_err();
            assert!(ambiguous.contains("default/app-one, k8s.io/app-one"), "{ambiguous}");
            assert!(found("ap", None).unwrap_err().starts_with("no container"));
            assert!(found("pod", None).unwrap().contains("pod-1"));
        });
    }

    #[test]
    fn container_is_shown_with_limits_usage_and_warnings() {
        with(&[sandbox("default", "pod", &["app"])], |rows| {
            let Ok(Inspected::Container(row, container)) = find(rows, "app", None) else {
                panic!("app")
            };
            let config = Err("gone".to_owned());
            let text = container_text(&row, container, &config, 62_000);
            for part in [
                "container  default/app\n",
                "state      paused\n",
                "created    1970-01-01T00:00:01.000Z (1m01s ago)\n",
                "exited     -\n",
                "program    /app\\u{1b}.wasm sha256:00\n",
                "memory     62.0 MiB used, 1.0 MiB more of the host, peak 63.0 MiB, limit 64.0 MiB\n",
                "CPU        2.50 s used, shares 512, quota 50 ms of 100 ms\n",
                "throttled  15 times, 1.00 s, in 20 periods\n",
                "requests   12\n",
                "config     not read: gone\n",
                "warning    its daemon 7 is retired: a restart of the pod moves it\n",
                "warning    it is paused: its guest does not run\n",
                "warning    3 more execs are not shown: their client never deletes them\n",
                "warning    its memory is above nine tenths of the limit\n",
                "warning    its CPU quota is used up in most periods\n",
            ] {
                assert!(text.contains(part), "{part} in {text}");
            }
            let json = container_and_place(&row, container, &config);
            assert_eq!(json["usage"]["memory_limit_bytes"], 64 << 20);
            assert_eq!(json["warnings"].as_array().unwrap().len(), 5);
            assert_eq!(json["config_error"], "gone");
            let sandbox = sandbox_text(&row, 62_000);
            assert!(sandbox.contains("container  app (paused)\n"), "{sandbox}");
            let empty = SandboxReport::default();
            let counted = Row { sandbox: &empty, counted: Some(2), ..row };
            let sandbox = sandbox_text(&counted, 62_000);
            assert!(sandbox.contains("state       -\n"), "{sandbox}");
            assert!(sandbox.contains("containers  2, of which"), "{sandbox}");
        });
    }
}
