//! The rows of `density`, made of levels and times, and their goals.

use anyhow::Result;

use super::RUNTIME;
use super::population::Costs;
use crate::levels::Level;
use crate::options::short;
use crate::results::Row;

/// The last creation may cost this much more than the 100th.
const GOAL_GROWTH: f64 = 1.3;

/// What a sandbox, or one more container in it, may take of the daemon, in KiB: what is aimed at, and the most.
const GOAL_PSS: f64 = 64.0;
const LIMIT_PSS: f64 = 128.0;

pub(super) const GOAL_SANDBOX_FDS: f64 = 4.0;
pub(super) const GOAL_CONTAINER_FDS: f64 = 1.0;

/// When all are gone the daemon may hold this many times what it held at the start: an allocator keeps pages that are
/// not wholly free, and free ones for the next use.
const LEFT_PSS: f64 = 1.5;

/// Mappings that may stay: the heaps of the threads, and what a few guests have split in a pool that is not worth making anew.
pub(super) const LEFT_MAPS: f64 = 512.0;

/// What a sandbox that has come and gone may have added for ever, in KiB; measured over many, so that less than
/// this is what page counts are off by.
pub(super) const GOAL_LEAK: f64 = 1.0;

/// What was added on top of what was there.
pub(super) struct Grown {
    pub(super) what: &'static str,
    pub(super) count: usize,
    pub(super) base: Level,
    /// When all threads were there.
    pub(super) early: Level,
    pub(super) full: Level,
}

impl Grown {
    pub(super) fn rows(&self, goal_fds: f64) -> Vec<Row> {
        let Self { what, count, base, early, full } = self;
        let per = |figure| full.growth_per(base, *count, figure);
        let name = |figure: &str| format!("density_{what}_{figure}");
        vec![
            row(name("pss"), per(kib), "KiB").at_most(GOAL_PSS),
            row(name("pss_limit"), per(kib), "KiB").at_most(LIMIT_PSS),
            row(name("fds"), per(fds), "count").at_most(goal_fds),
            row(name("maps"), per(maps), "count"),
            row(name("threads"), threads(full), "count"),
            row(name("threads_more"), full.growth_per(early, 1, threads), "count").at_most(0.0),
        ]
    }
}

/// What creation costs at the 100th and at the last.
pub(super) fn costs(what: &str, times: &Costs) -> Result<Vec<Row>> {
    let (early, late) = (times.early()?, times.late()?);
    let name = |figure: &str| format!("density_{what}_create_{figure}");
    Ok(vec![
        row(name("100th"), early, "ms"),
        row(name("last"), late, "ms"),
        row(name("growth"), late / early, "x").at_most(GOAL_GROWTH),
    ])
}

/// What stays when all are gone.
pub(super) fn left(what: &str, start: &Level, end: &Level) -> Vec<Row> {
    let more = |figure| end.growth_per(start, 1, figure);
    let name = |figure: &str| format!("density_{what}_left_{figure}");
    vec![
        row(name("fds"), more(fds), "count").at_most(0.0),
        row(name("threads"), more(threads), "count").at_most(0.0),
        row(name("maps"), more(maps), "count").at_most(LEFT_MAPS),
        row(name("pss"), kib(end) / kib(start), "x").at_most(LEFT_PSS),
    ]
}

pub(super) fn row(name: impl Into<String>, value: f64, unit: &'static str) -> Row {
    Row::new(name, short(RUNTIME), value, unit)
}

pub(super) fn kib(level: &Level) -> f64 {
    level.pss as f64 / 1024.0
}

pub(super) fn threads(level: &Level) -> f64 {
    level.threads as f64
}

pub(super) fn fds(level: &Level) -> f64 {
    level.fds as f64
}

pub(super) fn maps(level: &Level) -> f64 {
    level.maps as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Level = Level { pss: 10 << 20, threads: 9, fds: 30, maps: 200 };

    fn met(rows: &[Row], name: &str) -> Option<bool> {
        rows.iter().find(|row| row.name == name).and_then(Row::met)
    }

    #[test]
    fn growth_is_judged_per_piece() {
        let full =
            Level { pss: START.pss + 100 * (70 << 10), threads: 9, fds: 30 + 401, maps: 900 };
        let rows = Grown { what: "sandbox", count: 100, base: START, early: START, full }.rows(4.0);
        assert_eq!(met(&rows, "density_sandbox_pss"), Some(false));
        assert_eq!(met(&rows, "density_sandbox_pss_limit"), Some(true));
        assert_eq!(met(&rows, "density_sandbox_fds"), Some(false));
        assert_eq!(met(&rows, "density_sandbox_threads_more"), Some(true));
    }

    #[test]
    fn one_fd_left_misses_the_goal() {
        let rows = left("sandbox", &START, &Level { fds: 31, ..START });
        assert_eq!(rows.iter().filter(|row| row.met() == Some(false)).count(), 1);
        assert_eq!(met(&rows, "density_sandbox_left_fds"), Some(false));
    }
}
