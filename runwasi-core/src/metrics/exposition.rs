//! All series of a process, in their order, as a text for a scrape.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, prometheus_text, text},
    registry::Registry,
};

use super::{
    code, delivery,
    families::{Families, bytes, each, family, only, seconds, signed},
    http,
    lives::{self, Kind},
    process::ProcessFigures,
};
use crate::{
    engine::Engine,
    resources::memory::{self, TotalMemory},
    scheduler::{Guests, queue::QueueFigures},
};

/// Format of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' own format, version 0.0.4.
    Prometheus,
}

impl Format {
    /// The type of its content.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Names of the program, for `runwasi_build_info`.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    /// The program.
    pub program: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Its engine, with the engine's version.
    pub engine: &'static str,
}

/// State of a program.
#[derive(Clone, Copy, Debug)]
pub struct ProgramState {
    /// The states that it may be in.
    pub all: &'static [&'static str],
    /// The one it is in now.
    pub present: &'static str,
}

/// Tells the state of a program.
pub type States = Box<dyn Fn() -> ProgramState + Send + Sync>;

/// Sources that each scrape asks.
pub struct Sources {
    /// Names of the program.
    pub build: Build,
    /// State of the program, if it has several.
    pub states: Option<States>,
    /// Its engine.
    pub engine: Arc<dyn Engine>,
    /// The scheduler of its guests.
    pub guests: Guests,
}

/// The series of a process.
#[derive(Debug)]
pub struct Exposition(Registry);

impl Exposition {
    /// The series of this process, which begins now.
    pub fn new(sources: Sources) -> Self {
        let mut registry = Registry::default();
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        registry.register_collector(Box::new(All { sources, began }));
        Self(registry)
    }

    /// The text of a scrape. Blocks: it reads the directory of compiled code.
    pub fn text(&self, format: Format) -> String {
        let mut text = String::new();
        let written = match format {
            Format::OpenMetrics => text::encode(&mut text, &self.0),
            Format::Prometheus => prometheus_text::encode(&mut text, &self.0),
        };
        // A `String` takes everything.
        debug_assert!(written.is_ok());
        text
    }
}

struct All {
    sources: Sources,
    began: Duration,
}

impl fmt::Debug for All {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("All").field("build", &self.sources.build).finish_non_exhaustive()
    }
}

impl Collector for All {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let families = &mut Families::new(encoder);
        self.program(families)?;
        process(families, self.began)?;
        population(families)?;
        lives(families)?;
        self.usage(families)?;
        self.pools(families)?;
        self.code(families)?;
        deliveries(families)?;
        http_services(families)
    }
}

impl All {
    fn program(&self, families: &mut Families<'_>) -> fmt::Result {
        let Build { program, version, engine } = self.sources.build;
        let labels = vec![("program", program), ("version", version), ("engine", engine)];
        families.gauges(family("runwasi_build_info", "Names of the program."), [(labels, 1)])?;
        // A shim has one state: it serves until its process ends.
        let Some(states) = &self.sources.states else { return Ok(()) };
        let ProgramState { all, present } = states();
        let sample = |state: &&'static str| (vec![("state", *state)], i64::from(*state == present));
        let samples = all.iter().map(sample);
        families.gauges(family("runwasi_daemon_state", "1 for the state of the daemon."), samples)
    }

    fn usage(&self, families: &mut Families<'_>) -> fmt::Result {
        let cpu = seconds("runwasi_guest_cpu", "CPU time of all guests.");
        families.counted_seconds(cpu, lives::values::cpu_seconds())?;
        let TotalMemory { guest, host } = memory::of_all_containers();
        let kinds = [("guest", guest), ("host", host)];
        let samples = kinds.map(|(kind, number)| (vec![("kind", kind)], signed(number)));
        let help = "Memory of all containers: of their guests, and of the host for them.";
        families.gauges(bytes("runwasi_memory", help), samples)?;
        let QueueFigures { throttling, waiting, file_threads, most_file_threads } =
            self.sources.guests.figures();
        let help = "Quota periods in which containers have used CPU time.";
        families.counters(family("runwasi_quota_periods", help), only(throttling.periods))?;
        let help = "Times that a container has used up its quota.";
        families.counters(family("runwasi_throttled", help), only(throttling.throttled))?;
        let time = seconds("runwasi_throttled", "Time that containers were throttled.");
        families.counted_seconds(time, throttling.time.as_secs_f64())?;
        let help = "Containers that wait for a worker.";
        families.gauge(family("runwasi_containers_waiting", help), Some(waiting))?;
        let free = most_file_threads.saturating_sub(file_threads);
        let samples = used_and_free("", file_threads, free);
        let help =
            "Threads that wait in the kernel for file calls of guests, and how many more may.";
        families.gauges(family("runwasi_file_threads", help), samples)?;
        let help = "Threads in file calls that the kernel did not end with their container.";
        families.counters(
            family("runwasi_file_threads_given_up", help),
            only(lives::values::given_up()),
        )
    }

    fn pools(&self, families: &mut Families<'_>) -> fmt::Result {
        let samples = self.sources.engine.pools().into_iter().flat_map(|pool| {
            used_and_free(pool.name, pool.used, pool.limit.saturating_sub(pool.used))
        });
        families.gauges(family("runwasi_pool_slots", "Slots of the engine's pools."), samples)
    }

    fn code(&self, families: &mut Families<'_>) -> fmt::Result {
        let help = "Lookups of compiled code by the start of a process.";
        families
            .counters(family("runwasi_code_lookups", help), each("found", code::values::lookups))?;
        let help = "Looks at files of compiled code that were not trusted.";
        let distrusted = only(code::values::distrusted());
        families.counters(family("runwasi_code_distrusted", help), distrusted)?;
        let help = "Compilations that have ended.";
        families.counters(
            family("runwasi_compilations", help),
            each("result", code::values::compilations),
        )?;
        let times = seconds("runwasi_compilation", "Time of a compilation.");
        families.histograms(times, only(code::values::times()))?;
        let help = "Compilations under way.";
        families
            .gauges(family("runwasi_compilations_running", help), only(code::values::running()))?;
        let kept = self.sources.engine.kept_code();
        let help = "Files of compiled code on disk.";
        families.gauge(family("runwasi_code_cache_files", help), kept.map(|kept| kept.files))?;
        let size = bytes("runwasi_code_cache", "Size of compiled code on disk.");
        families.gauge(size, kept.map(|kept| kept.bytes))?;
        let limit = bytes("runwasi_code_cache_limit", "Size that compiled code on disk may have.");
        families.gauge(limit, kept.map(|kept| kept.limit))
    }
}

fn process(families: &mut Families<'_>, began: Duration) -> fmt::Result {
    let figures = ProcessFigures::now();
    let cpu = seconds("process_cpu", "CPU time of the process, that of guests included.");
    families.counted_seconds(cpu, figures.cpu.as_secs_f64())?;
    families.gauge(bytes("process_resident_memory", "Memory in use."), figures.resident)?;
    families.gauge(bytes("process_virtual_memory", "Address space."), figures.virtual_bytes)?;
    families.gauge(family("process_threads", "Threads."), figures.threads)?;
    families.gauge(family("process_open_fds", "Open file descriptors."), figures.open_files)?;
    families.gauge(
        family("process_max_fds", "File descriptors that may be open."),
        figures.most_files,
    )?;
    let start = seconds("process_start_time", "Time at which the process began to serve.");
    families.fraction(start, began.as_secs_f64())
}

fn population(families: &mut Families<'_>) -> fmt::Result {
    let sandboxes = each("state", lives::values::sandboxes);
    families.gauges(family("runwasi_sandboxes", "Sandboxes by state."), sandboxes)?;
    let processes = |kind| each("state", move |state| lives::values::processes(kind, state));
    let containers = processes(Kind::Container);
    families.gauges(family("runwasi_containers", "Containers by state."), containers)?;
    let execs = processes(Kind::Exec);
    families.gauges(family("runwasi_execs", "Exec processes by state."), execs)?;
    let native = only(lives::values::native_containers());
    let help = "Containers whose programs are no WebAssembly.";
    families.gauges(family("runwasi_native_containers", help), native)
}

fn lives(families: &mut Families<'_>) -> fmt::Result {
    use lives::values;
    let created = each("kind", values::created);
    families.counters(family("runwasi_creates", "Created processes."), created)?;
    let started = each("kind", values::started);
    families.counters(family("runwasi_starts", "Started processes."), started)?;
    let exited = [Kind::Container, Kind::Exec].into_iter().flat_map(|kind| {
        each("reason", move |reason| values::exited(kind, reason))
            .map(move |(labels, number)| (of_kind(kind, labels), number))
    });
    families.counters(family("runwasi_exits", "Ended processes by reason."), exited)?;
    let deleted = each("kind", values::deleted);
    families.counters(family("runwasi_deletes", "Deleted processes."), deleted)?;
    let refused = each("call", values::refused);
    let help = "Calls of containerd that were refused or have failed.";
    families.counters(family("runwasi_refusals", help), refused)?;
    let phases = each("phase", values::phase);
    let help = "Time of the parts of a container's start.";
    families.histograms(seconds("runwasi_start_phase", help), phases)
}

fn deliveries(families: &mut Families<'_>) -> fmt::Result {
    use delivery::values;
    let waiting = only(values::waiting_events());
    families
        .gauges(family("runwasi_events_waiting", "Events that wait for containerd."), waiting)?;
    let events = each("fate", values::events);
    families.counters(family("runwasi_events", "Events for containerd by fate."), events)?;
    let lines = only(values::lost_log_lines());
    let help = "Lines of the log that its reader has not taken.";
    families.counters(family("runwasi_log_lines_dropped", help), lines)?;
    let spans = each("fate", values::spans);
    families.counters(family("runwasi_spans", "Spans of traces by fate."), spans)
}

fn http_services(families: &mut Families<'_>) -> fmt::Result {
    use http::values;
    let connections = only(values::connections());
    let help = "Open connections to HTTP services.";
    families.gauges(family("runwasi_http_connections", help), connections)?;
    let under_way = only(values::requests_under_way());
    let help = "Requests to HTTP services whose response has not been sent to its end.";
    families.gauges(family("runwasi_http_requests_in_flight", help), under_way)?;
    let answers = each("status", values::answers);
    let help = "Answered requests to HTTP services by status class.";
    families.counters(family("runwasi_http_requests", help), answers)?;
    let times = only(values::times());
    let help = "Time from the head of a request to that of its response.";
    families.histograms(seconds("runwasi_http_request", help), times)?;
    let failures = each("reason", values::failures);
    let help = "Requests that the server has answered in place of the guest.";
    families.counters(family("runwasi_http_failures", help), failures)
}

fn of_kind<'a>(
    kind: Kind,
    mut labels: Vec<(&'static str, &'a str)>,
) -> Vec<(&'static str, &'a str)> {
    use super::labels::Label;
    labels.insert(0, ("kind", kind.text()));
    labels
}

/// Samples of a pool; `name` is empty for the only one of its family.
fn used_and_free(
    name: &'static str,
    used: u64,
    free: u64,
) -> [(Vec<(&'static str, &'static str)>, i64); 2] {
    [("used", used), ("free", free)].map(|(state, number)| {
        let pool = Some(("pool", name)).filter(|_| !name.is_empty());
        (pool.into_iter().chain([("state", state)]).collect(), signed(number))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ScriptedEngine;

    fn exposition() -> Exposition {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let states: States =
            Box::new(|| ProgramState { all: &["serving", "retired"], present: "serving" });
        Exposition::new(Sources {
            build: Build { program: "p", version: "1.2", engine: "e \"3\"\n" },
            states: Some(states),
            engine: Arc::new(ScriptedEngine),
            guests: Guests::new(runtime.handle().clone(), 1),
        })
    }

    #[test]
    fn both_formats_have_the_same_samples() {
        let exposition = exposition();
        let samples = |format| {
            let text = exposition.text(format);
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            // The bounds of buckets have another form in each.
            let others = lines.filter(|line| !line.contains("le=\""));
            let names = others.map(|line| line.rsplit_once(' ').unwrap().0.to_owned());
            let mut names = names.collect::<Vec<_>>();
            names.sort();
            names
        };
        let open = samples(Format::OpenMetrics);
        assert!(open.len() > 80, "{open:?}");
        assert_eq!(open, samples(Format::Prometheus));
        assert!(open.contains(&r#"runwasi_exits_total{kind="container",reason="oom"}"#.to_owned()));
        assert!(open.contains(&r#"runwasi_daemon_state{state="serving"}"#.to_owned()));
        let mut unique = open.clone();
        unique.dedup();
        assert_eq!(unique.len(), open.len(), "a sample is there twice");
    }

    #[test]
    fn open_metrics_ends_with_its_mark_and_escapes_values() {
        let text = exposition().text(Format::OpenMetrics);
        assert!(text.ends_with("# EOF\n"), "{text}");
        let info = r#"runwasi_build_info{program="p",version="1.2",engine="e \"3\"\n"} 1"#;
        assert!(text.contains(info), "{text}");
        assert!(text.contains("# TYPE runwasi_exits counter\n"), "{text}");
        assert!(text.contains("# UNIT runwasi_guest_cpu_seconds seconds\n"), "{text}");
    }

    #[test]
    fn prometheus_format_names_counters_by_their_samples() {
        let text = exposition().text(Format::Prometheus);
        assert!(text.contains("# TYPE runwasi_exits_total counter\n"), "{text}");
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
    }
}
