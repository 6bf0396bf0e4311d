//! Reports of a daemon about itself and its sandboxes, in the messages of the manager API.

use std::{sync::Arc, time::Duration};

use prost::Message;
use runwasi_core::{
    engine::notes::ArtifactNote,
    sandbox::report::{self, ContainerReport as Report, GuestReport, Run},
    sanitize,
    scheduler::Guests,
};
use tokio::time::{Instant, timeout};

use crate::{
    journal::{Times, millis},
    manager::reports::{
        ContainerReport, ContainersReply, ContainersRequest, DaemonState, ExecReport,
        SandboxReport, StatusReply, UsageReport,
    },
    sandboxes::ServedSandbox,
};

/// Bytes of a page, unless a single sandbox has more.
// A message of ttrpc has 4 MiB at most.
const PAGE: usize = 2 << 20;

/// Most execs in the report of a sandbox.
// A client that never deletes its execs has any number, and a message with all of them would fail
// the report of the whole node. So many take a megabyte at most.
const EXECS: usize = 10_000;

/// Most bytes of a message of a page besides itself: its key and its length.
const ENVELOPE: usize = 6;

/// Longest wait for a turn of the workers of guests.
const LONGEST_TURN: Duration = Duration::from_secs(30);

/// Facts of a daemon that do not change.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// Its version: that of its program, which an integrator gives.
    pub(crate) version: &'static str,
    /// Its engine and the engine's version.
    pub(crate) engine: &'static str,
    /// Time of its start, in milliseconds since 1970.
    pub(crate) started: u64,
    /// Guests that there is room for.
    pub(crate) slots: u32,
    /// True if its manager socket was inherited.
    pub(crate) activated: bool,
    /// The settings in force, as a file.
    pub(crate) settings: String,
}

/// Facts of a daemon at one moment.
pub(crate) struct Moment {
    pub(crate) retired: bool,
    pub(crate) draining: bool,
    pub(crate) guarded: bool,
    /// Sandboxes that are served, including those that are ending.
    pub(crate) served: usize,
}

/// The status of a daemon.
pub(crate) fn status(
    facts: &Facts,
    moment: &Moment,
    sandboxes: &[Arc<ServedSandbox>],
) -> StatusReply {
    let containers: usize = sandboxes.iter().map(|served| served.sandbox.count()).sum();
    StatusReply {
        version: facts.version.to_owned(),
        engine: facts.engine.to_owned(),
        pid: std::process::id(),
        state: state(moment) as i32,
        started: facts.started,
        sandboxes: count(sandboxes.len()),
        ending: count(moment.served.saturating_sub(sandboxes.len())),
        containers: count(containers),
        slots: facts.slots,
        guarded: moment.guarded,
        activated: facts.activated,
        settings: facts.settings.clone(),
        turn: None,
    }
}

fn state(moment: &Moment) -> DaemonState {
    match (moment.draining, moment.retired) {
        (true, _) => DaemonState::Stopping,
        (false, true) => DaemonState::Retired,
        (false, false) => DaemonState::Serving,
    }
}

/// Microseconds until a worker of guests had a turn. No result without a turn in time.
pub(crate) async fn turn(guests: &Guests) -> Option<u64> {
    let begun = Instant::now();
    let had_turn = timeout(LONGEST_TURN, guests.answer()).await.is_ok_and(|answered| answered);
    had_turn.then(|| micros(begun.elapsed()))
}

/// The page of sandboxes that a request asks for. `sandboxes` are sorted by namespace and group.
pub(crate) fn page(
    request: &ContainersRequest,
    sandboxes: &[Arc<ServedSandbox>],
) -> ContainersReply {
    let after = (&*request.after_namespace, &*request.after_group);
    let rest = sandboxes
        .iter()
        .skip_while(|served| (served.namespace.as_str(), served.group.as_str()) <= after);
    filled(rest.map(|served| sandbox(served)))
}

/// A page with as many of these reports as it has room for.
fn filled(reports: impl Iterator<Item = SandboxReport>) -> ContainersReply {
    let mut reply = ContainersReply::default();
    let mut bytes = 0;
    for report in reports {
        // By its length and not by its number of containers: names and execs have any.
        bytes += report.encoded_len() + ENVELOPE;
        if bytes > PAGE && !reply.sandboxes.is_empty() {
            reply.more = true;
            break;
        }
        reply.sandboxes.push(report);
    }
    reply
}

fn sandbox(served: &ServedSandbox) -> SandboxReport {
    let reports = served.sandbox.report();
    let mut room = EXECS;
    SandboxReport {
        namespace: served.namespace.to_string(),
        group: served.group.to_string(),
        pid: served.sandbox.pid(),
        socket: served.record.socket.display().to_string(),
        created: u64::try_from(served.record.made / 1_000_000).unwrap_or(u64::MAX),
        managed: served.sandbox.is_managed(),
        containers: reports
            .iter()
            .map(|report| container(report, &served.times, &mut room))
            .collect(),
    }
}

/// The report of a container, with as many execs as there is `room` for.
fn container(report: &Report, times: &Times, room: &mut usize) -> ContainerReport {
    let times = times.of(&report.id);
    let kind = if matches!(report.run, Run::Native) { "native" } else { "wasm" };
    let shared = ContainerReport {
        id: report.id.to_string(),
        kind: kind.to_owned(),
        state: container_state(report),
        bundle: report.bundle.display().to_string(),
        pid: report.pid,
        created: times.created,
        started: times.started,
        exited: report.exit.map_or(0, |exit| millis(exit.at)),
        status: report.exit.map(|exit| exit.status.get()),
        ..ContainerReport::default()
    };
    let Run::Guest(guest) = &report.run else { return shared };
    let artifact = guest.artifact.as_ref();
    let digest = artifact.and_then(|artifact| artifact.digest);
    let execs = execs(&guest.execs, *room);
    *room -= execs.len();
    ContainerReport {
        more_execs: count(guest.execs.len() - execs.len()),
        execs,
        usage: Some(usage(guest)),
        artifact: artifact.map(path).unwrap_or_default(),
        digest: digest.map(|digest| digest.to_string()).unwrap_or_default(),
        ..shared
    }
}

fn path(artifact: &ArtifactNote) -> String {
    // Bounded, since it may come from an image.
    sanitize::bounded(&artifact.path.display().to_string()).into_owned()
}

fn container_state(report: &Report) -> String {
    match (&report.run, report.exit) {
        (Run::Creating, _) => "creating".to_owned(),
        (Run::Guest(guest), _) => guest.state.to_string(),
        (Run::Native, Some(_)) => "stopped".to_owned(),
        (Run::Native, None) => String::new(),
    }
}

/// At most so many execs: those that have not ended before the others.
fn execs(all: &[report::ExecReport], most: usize) -> Vec<ExecReport> {
    let living = all.iter().filter(|exec| exec.exit.is_none());
    let ended = all.iter().filter(|exec| exec.exit.is_some());
    living.chain(ended).take(most).map(exec).collect()
}

fn exec(exec: &report::ExecReport) -> ExecReport {
    ExecReport {
        id: exec.id.to_string(),
        state: exec.state.to_string(),
        status: exec.exit.map(|exit| exit.status.get()),
    }
}

fn usage(guest: &GuestReport) -> UsageReport {
    let cpu = guest.usage.cpu;
    let memory = guest.usage.memory;
    UsageReport {
        cpu: nanos(cpu.time),
        shares: guest.cpu.weight,
        quota: guest.cpu.quota.map(|quota| micros(quota.time)),
        period: guest.cpu.quota.map(|quota| micros(quota.period)),
        periods: cpu.periods,
        throttled: cpu.throttled,
        throttled_time: nanos(cpu.throttled_time),
        memory: memory.used,
        uncharged: memory.uncharged,
        peak: memory.peak,
        limit: memory.limit,
        failures: memory.failures,
        kills: memory.kills,
        processes: guest.usage.processes,
        requests: guest.requests,
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use runwasi_core::{
        Id,
        engine::exit::{Exit, ExitStatus},
        process::state::State,
    };

    use super::*;

    #[test]
    fn execs_without_room_are_left_out_and_those_that_have_ended_first() {
        let exec = |id: &str, ended: bool| report::ExecReport {
            id: Id::parse("exec", id).unwrap(),
            state: if ended { State::Stopped } else { State::Running },
            exit: ended.then(|| Exit::now(ExitStatus::SUCCESS)),
        };
        let all = [exec("e1", true), exec("e2", false), exec("e3", true)];
        let ids =
            |most| -> Vec<String> { execs(&all, most).into_iter().map(|exec| exec.id).collect() };
        assert_eq!(ids(0), [""; 0]);
        assert_eq!(ids(2), ["e2", "e1"]);
        assert_eq!(ids(9), ["e2", "e1", "e3"]);
    }

    #[test]
    fn version_in_the_status_is_that_of_the_program() {
        let facts = Facts {
            version: "2.3.4",
            engine: "test 1",
            started: 0,
            slots: 1,
            activated: false,
            settings: String::new(),
        };
        let moment = Moment { draining: false, retired: false, guarded: false, served: 0 };
        let reply = status(&facts, &moment, &[]);
        assert_eq!((&*reply.version, &*reply.engine), ("2.3.4", "test 1"));
    }

    #[test]
    fn drain_is_told_before_retirement() {
        let of =
            |draining, retired| state(&Moment { draining, retired, guarded: false, served: 0 });
        assert_eq!(of(false, false), DaemonState::Serving);
        assert_eq!(of(false, true), DaemonState::Retired);
        assert_eq!(of(true, true), DaemonState::Stopping);
    }

    #[test]
    fn path_of_any_length_is_reported_in_short() {
        let artifact = ArtifactNote { path: "a".repeat(5 << 20).into(), digest: None };
        let reported = path(&artifact);
        assert!(reported.len() < 5000, "{}", reported.len());
        let artifact = ArtifactNote { path: "/app.wasm".into(), digest: None };
        assert_eq!(path(&artifact), "/app.wasm");
    }

    #[test]
    fn page_is_filled_by_its_length_and_has_one_sandbox_at_least() {
        let with_execs = |number: usize| {
            let exec = ExecReport { id: "e".repeat(76), ..ExecReport::default() };
            let execs = vec![exec; number];
            let containers = vec![ContainerReport { execs, ..ContainerReport::default() }];
            SandboxReport { containers, ..SandboxReport::default() }
        };
        // 800 KiB each: two have room.
        let page = filled(std::iter::repeat_n(with_execs(10_000), 5));
        assert_eq!((page.sandboxes.len(), page.more), (2, true));
        assert!(page.encoded_len() <= PAGE, "{}", page.encoded_len());
        let page = filled([with_execs(40_000), with_execs(0)].into_iter());
        assert_eq!((page.sandboxes.len(), page.more), (1, true));
        let page = filled(std::iter::repeat_n(with_execs(1), 3000));
        assert_eq!((page.sandboxes.len(), page.more), (3000, false));
        assert_eq!(filled(std::iter::empty()), ContainersReply::default());
    }
}
