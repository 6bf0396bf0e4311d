//! The table of the system calls of a life, `recorded.txt` beside this file, and what has grown against it; used by `life`.
//!
//! Each line is `MODE PHASE CALL COUNT`. A run leaves its own in `target/bench/calls-MODE.txt`, which `scripts/figures write
//! calls` puts here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result, ensure};
use runwasi_tests::runtime::target_dir;

use crate::tracer::Counts;

/// The counts of each phase.
pub(crate) type Phases = BTreeMap<&'static str, Counts>;

/// Read when the test runs: to record anew needs no compiler.
const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/calls/recorded.txt");

/// The part by which no sum may have grown.
const GROWTH: f64 = 0.1;

/// Calls that the order of threads may add to a small phase.
const SLACK: usize = 4;

/// Of each phase and call.
pub(crate) fn median(lives: &[Phases]) -> Phases {
    let names: BTreeSet<_> = lives
        .iter()
        .flatten()
        .flat_map(|(phase, counts)| counts.keys().map(|call| (*phase, call)))
        .collect();
    let mut medians = Phases::new();
    for (phase, call) in names {
        let mut counts: Vec<_> = lives.iter().map(|life| count(life, phase, call)).collect();
        counts.sort_unstable();
        let median = counts[counts.len() / 2];
        if median > 0 {
            medians.entry(phase).or_default().insert(call.clone(), median);
        }
    }
    medians
}

fn count(life: &Phases, phase: &str, call: &str) -> usize {
    life.get(phase).and_then(|counts| counts.get(call)).copied().unwrap_or(0)
}

/// Writes what was measured.
pub(crate) fn keep(mode: &str, measured: &Phases) -> Result<()> {
    let mut text = String::new();
    for (phase, counts) in measured {
        for (call, count) in counts {
            writeln!(text, "{mode} {phase} {call} {count}")?;
        }
    }
    let directory = target_dir().join("bench");
    fs::create_dir_all(&directory)?;
    let file = directory.join(format!("calls-{mode}.txt"));
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// Fails if a phase makes a tenth more calls than are recorded, or the whole life does.
pub(crate) fn compare(mode: &str, measured: &Phases) -> Result<()> {
    let text = fs::read_to_string(RECORDED).with_context(|| format!("cannot read {RECORDED}"))?;
    let recorded = parse(mode, &text)?;
    ensure!(!recorded.is_empty(), "no counts of {mode} are recorded: {ADVICE}");
    let grown = grown(&recorded, measured);
    let head = text.lines().next().unwrap_or_default();
    ensure!(grown.is_empty(), "{mode}: {}\n{head}\nIf it is meant: {ADVICE}", grown.join("\n"));
    Ok(())
}

const ADVICE: &str = "scripts/figures measure calls && scripts/figures write calls";

fn parse<'a>(mode: &str, text: &'a str) -> Result<BTreeMap<&'a str, Counts>> {
    let mut phases: BTreeMap<_, Counts> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<_> = line.split(' ').collect();
        let [of, phase, call, count] = words[..] else { anyhow::bail!("recorded.txt: {line:?}") };
        if of == mode {
            let count = count.parse().with_context(|| format!("recorded.txt: {line:?}"))?;
            phases.entry(phase).or_default().insert(call.to_owned(), count);
        }
    }
    Ok(phases)
}

/// A line for each phase that has grown, and for the life if it has.
fn grown(recorded: &BTreeMap<&str, Counts>, measured: &Phases) -> Vec<String> {
    let nothing = Counts::new();
    let mut lines = Vec::new();
    for (phase, counts) in measured {
        let before = recorded.get(phase).unwrap_or(&nothing);
        if has_grown(sum(before), sum(counts)) {
            lines.push(told(phase, before, counts));
        }
    }
    let whole = |phases: &mut dyn Iterator<Item = &Counts>| {
        let mut all = Counts::new();
        for (call, count) in phases.flatten() {
            *all.entry(call.clone()).or_default() += count;
        }
        all
    };
    let (before, now) = (whole(&mut recorded.values()), whole(&mut measured.values()));
    if has_grown(sum(&before), sum(&now)) {
        lines.push(told("the whole life", &before, &now));
    }
    lines
}

fn has_grown(before: usize, now: usize) -> bool {
    now as f64 >= before as f64 * (1.0 + GROWTH) && now > before + SLACK
}

fn sum(counts: &Counts) -> usize {
    counts.values().sum()
}

/// Which calls have grown.
fn told(phase: &str, before: &Counts, now: &Counts) -> String {
    let mut text = format!("{phase} makes {} system calls instead of {}:", sum(now), sum(before));
    for (call, count) in now {
        let was = before.get(call).copied().unwrap_or(0);
        if *count > was {
            text.push_str(&format!(" {call} {was} -> {count},"));
        }
    }
    text.trim_end_matches(',').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, usize)]) -> Counts {
        pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn a_tenth_more_calls_are_told_by_their_names() {
        let recorded = BTreeMap::from([("create", counts(&[("openat", 20), ("read", 20)]))]);
        let same = Phases::from([("create", counts(&[("openat", 21), ("read", 20)]))]);
        assert!(grown(&recorded, &same).is_empty());
        let more = Phases::from([("create", counts(&[("openat", 19), ("read", 24), ("stat", 3)]))]);
        let told = "create makes 46 system calls instead of 40: read 20 -> 24, stat 0 -> 3";
        assert_eq!(grown(&recorded, &more)[0], told);
        assert_eq!(grown(&recorded, &more).len(), 2);
    }

    #[test]
    fn a_new_phase_has_grown() {
        let recorded = BTreeMap::from([("create", counts(&[("openat", 100)]))]);
        let more = Phases::from([
            ("create", counts(&[("openat", 100)])),
            ("wait", counts(&[("read", 5)])),
        ]);
        assert_eq!(
            grown(&recorded, &more),
            ["wait makes 5 system calls instead of 0: read 0 -> 5"]
        );
    }

    #[test]
    fn one_odd_life_does_not_count() {
        let life = |count| Phases::from([("create", counts(&[("openat", count)]))]);
        assert_eq!(median(&[life(3), life(9), life(3)]), life(3));
        assert_eq!(median(&[life(3), Phases::new(), Phases::new()]), Phases::new());
    }

    #[test]
    fn only_lines_of_the_mode_are_read() {
        let text = "# head\npod create openat 3\ndaemon create openat 5\n";
        let wanted = BTreeMap::from([("create", counts(&[("openat", 3)]))]);
        assert_eq!(parse("pod", text).unwrap(), wanted);
        assert!(parse("pod", "pod create").is_err());
    }
}
