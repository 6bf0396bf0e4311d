//! What the project is to reach beside its peers, as one table: each line is a row of a benchmark, or says how to get what its
//! ratio needs; printed by `main` after the rows, and part of the file.

use serde_json::{Value, json};

use crate::ratios::Base;
use crate::results::{Goal, Row};

/// A line of the table.
struct Target {
    /// What is measured, in words.
    what: &'static str,
    /// The row's name, whose beginning is its benchmark's.
    figure: &'static str,
    /// Whose row it is.
    runtimes: &'static [&'static str],
    goal: Goal,
}

const POD: &[&str] = &["wasmtime"];
const DAEMON: &[&str] = &["wasmtimed"];
const BOTH: &[&str] = &["wasmtime", "wasmtimed"];
/// The engine alone, in the process of the benchmark.
const ENGINE: &[&str] = &["in-process"];

const TARGETS: [Target; 34] = [
    most("ctr run above the floor", "ctr_run_above_floor_to_upstream", POD, 0.07),
    most("ctr run above the floor", "ctr_run_above_floor_to_upstream", DAEMON, 0.04),
    most("CPU time of ctr run above the floor", "ctr_run_cpu_above_floor_to_runc", POD, 0.10),
    most("CPU time of ctr run above the floor", "ctr_run_cpu_above_floor_to_runc", DAEMON, 0.05),
    least("create, start, wait, delete a second", "rate_one_sandbox_to_runc", DAEMON, 215.0),
    least("the same, snapshots on disk", "rate_one_sandbox_disk_to_memory", DAEMON, 0.75),
    most("memory (PSS) of 10 pods", "memory_at_10_to_before", POD, 0.45),
    most("memory (PSS) of 100 pods", "memory_at_100_to_before", POD, 0.45),
    most("memory of a sandbox at 1,000", "density_1000_sandbox_pss_to_before", DAEMON, 0.7),
    most("page tables of a sandbox at 1,000, KiB", "density_1000_sandbox_page_tables", DAEMON, 9.0),
    most("4 KiB read of a file, by root", "files_read_4k_root_to_cli", BOTH, 1.2),
    most("open, read, close, by root", "files_open_close_root_to_cli", BOTH, 1.5),
    most("stat, by root", "files_stat_root_to_cli", BOTH, 1.2),
    most("listing of 10,000 files, by root", "files_list_10000_root_to_cli", BOTH, 1.2),
    most("4 KiB read of a file, by a user", "files_read_4k_user_to_cli", BOTH, 1.1),
    most("open, read, close, by a user", "files_open_close_user_to_cli", BOTH, 1.3),
    most("stat, by a user", "files_stat_user_to_cli", BOTH, 1.0),
    most("listing of 10,000 files, by a user", "files_list_10000_user_to_cli", BOTH, 1.0),
    most("CPU time of programs, mean", "compute_programs_mean_to_cli", ENGINE, 1.08),
    most("CPU time of programs, worst", "compute_programs_worst_to_cli", ENGINE, 1.15),
    most("first start of resvg", "large_first_start_to_upstream", BOTH, 0.9),
    most("the same, beside a compilation alone", "large_first_start_to_cli", BOTH, 1.1),
    least("requests a second, p2 hello", "http_hello_ratio_to_serve", BOTH, 2.5),
    least("1 MB bodies, worst of four", "http_body_worst_ratio_to_serve", BOTH, 1.3),
    least("requests a second, p3 hello", "http_p3_hello_ratio_to_serve", BOTH, 1.25),
    least("256 clients that wait 20 ms, p3", "http_p3_wait_ratio_to_serve", BOTH, 1.2),
    least("256 clients that wait 20 ms, p2", "http_wait_ratio_to_serve", BOTH, 1.5),
    least("a line of output for each request", "http_println_ratio_to_quiet", BOTH, 0.8),
    most("CPU time of an outgoing GET, p2", "http_get_cpu_ratio_to_serve", BOTH, 0.8),
    most("CPU time of an outgoing GET, p3", "http_p3_get_cpu_ratio_to_serve", BOTH, 0.8),
    most("sleep of 1 ms", "sleep_1_ms_to_native", BOTH, 1.1),
    most("sleep of 100 µs", "sleep_100_us_to_native", BOTH, 1.5),
    most("CPU time of 4 KiB writes to stdout", "output_4k_cpu_to_native", BOTH, 0.3),
    most("exec of a hello", "exec_to_runc", BOTH, 0.3),
];

const fn most(
    what: &'static str,
    figure: &'static str,
    runtimes: &'static [&'static str],
    goal: f64,
) -> Target {
    Target { what, figure, runtimes, goal: Goal::AtMost(goal) }
}

const fn least(
    what: &'static str,
    figure: &'static str,
    runtimes: &'static [&'static str],
    goal: f64,
) -> Target {
    Target { what, figure, runtimes, goal: Goal::AtLeast(goal) }
}

/// A line of the table with what came of it.
#[derive(Debug)]
pub(crate) struct Outcome<'a> {
    what: &'static str,
    runtime: &'static str,
    goal: Goal,
    figure: &'static str,
    row: Option<&'a Row>,
}

/// The lines of the benchmarks and runtimes that were asked for.
pub(crate) fn outcomes<'a>(
    rows: &'a [Row],
    benchmarks: &[&str],
    runtimes: &[&str],
) -> Vec<Outcome<'a>> {
    let mut all = Vec::new();
    for target in &TARGETS {
        let is_run = benchmarks
            .iter()
            .any(|name| target.figure.strip_prefix(name).is_some_and(|rest| rest.starts_with('_')));
        let wanted = target
            .runtimes
            .iter()
            .filter(|runtime| ENGINE.contains(runtime) || runtimes.contains(runtime));
        for runtime in wanted.filter(|_| is_run) {
            let row = rows.iter().find(|row| row.name == target.figure && row.runtime == **runtime);
            let Target { what, figure, goal, .. } = *target;
            all.push(Outcome { what, runtime, goal, figure, row });
        }
    }
    all
}

impl Outcome<'_> {
    fn met(&self) -> Option<bool> {
        self.row.map(|row| self.goal.is_met_by(row.value))
    }

    /// Of what it is a ratio.
    fn of(&self) -> &'static str {
        Base::of(self.figure).map_or("", |base| base.what)
    }

    /// How to get what is missing; none if nothing is.
    fn how(&self) -> Option<String> {
        let base = Base::of(self.figure).filter(|_| self.row.is_none())?;
        Some(base.how())
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "target": self.what, "mode": self.runtime, "figure": self.figure,
            "ratio": self.row.map(|row| row.value), "of": self.of(),
            "goal": self.goal.value(), "bound": self.goal.bound(), "met": self.met(), "how": self.how(),
        })
    }
}

/// The table for a terminal, then how to get what is missing, each once.
pub(crate) fn table(outcomes: &[Outcome<'_>]) -> String {
    let mut text = String::new();
    let mut ways: Vec<String> = Vec::new();
    for outcome in outcomes {
        let Outcome { what, runtime, goal, row, .. } = outcome;
        let value = row.map_or("no ratio".to_owned(), |row| format!("{:.3}", row.value));
        let goal = format!("{} {}", goal.bound(), goal.value());
        let met = match outcome.met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        let of = outcome.of();
        let line = format!("{what:<40} {runtime:<10} {value:>9} {goal:>8} {met:<6} of {of}");
        text.push_str(line.strip_suffix(" of ").unwrap_or(&line).trim_end());
        text.push('\n');
        ways.extend(outcome.how().filter(|how| !ways.contains(how)));
    }
    for how in ways {
        text.push_str(&format!("no ratio without {how}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_of_a_benchmark_and_a_ratio_names_its_other_side() {
        for target in &TARGETS {
            let of_one = crate::BENCHMARKS.iter().any(|(name, _)| target.figure.starts_with(name));
            assert!(of_one, "{}", target.figure);
            let is_ratio = target.figure.contains("_to_");
            assert_eq!(Base::of(target.figure).is_some(), is_ratio, "{}", target.figure);
        }
    }

    #[test]
    fn line_without_its_peer_stands_without_a_ratio_and_says_how_to_get_it() {
        let rows = [Row::new("ctr_run_cpu_above_floor_to_runc", "wasmtimed", 0.2, "x")];
        let outcomes = outcomes(&rows, &["ctr_run"], &["wasmtimed", "floor"]);
        let text = table(&outcomes);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].contains("no ratio") && lines[0].contains("<= 0.04"), "{text}");
        assert!(lines[0].ends_with("of the shim of the runwasi project"), "{text}");
        assert!(lines[1].contains("0.200") && lines[1].contains("MISSED"), "{text}");
        assert!(lines[2].starts_with("no ratio without --peer upstream=PATH"), "{text}");
        assert_eq!(outcomes[0].json()["ratio"], Value::Null);
    }

    #[test]
    fn benchmarks_that_were_not_asked_for_have_no_lines() {
        assert!(outcomes(&[], &["memory"], &["runc"]).is_empty());
        assert_eq!(outcomes(&[], &["sleep"], &["wasmtime"]).len(), 2);
    }
}
