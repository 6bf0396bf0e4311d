//! How long `ctr task exec` of a hello takes in a container that runs, from the user's side; called by `main`.
//!
//! A round runs one exec in a container of each runtime, in a random order; what counts is the ratio within a round.

use anyhow::{Result, ensure};
use runwasi_tests::Runtime;

use crate::results::Row;
use crate::subject::Subject;
use crate::{Bench, stats};

/// Rounds that are run and dropped.
const WARM_UP: usize = 3;

/// A container, and how long its execs took, in milliseconds.
struct Series {
    subject: Subject,
    id: String,
    times: Vec<f64>,
}

/// Measures and prints; the rows are the figures. The floor runs nothing.
pub(crate) fn measure(bench: &mut Bench) -> Result<Vec<Row>> {
    let rounds = bench.options.rounds;
    bench.say(&format!("ctr task exec of a hello, {rounds} interleaved rounds"))?;
    let floor = Subject::Ours(Runtime::Floor);
    // Upstream's shim has no exec, and crun's wasm containers have no second program.
    let has_exec = |subject: &Subject| *subject != floor && !matches!(subject, Subject::Peer(_));
    let mut all = Vec::new();
    for subject in Subject::all(&bench.options).into_iter().filter(has_exec) {
        let id = subject.id(bench, "execs")?;
        let words = [subject.runtime().guest(), "sleep", "100000"];
        subject.run(bench, &["-d"], &id, &words)?.run()?.ok()?;
        all.push(Series { subject, id, times: Vec::new() });
    }
    for round in 0..WARM_UP + rounds {
        fastrand::shuffle(&mut all);
        for series in &mut all {
            let took = series.exec(bench, round)?;
            if round >= WARM_UP {
                series.times.push(took);
            }
        }
    }
    for Series { subject, id, .. } in &all {
        let fixture = subject.fixture(bench)?;
        fixture.ctr(["task", "delete", "-f", id])?;
        fixture.ctr(["container", "delete", id])?.ok()?;
    }
    rows(&all)
}

impl Series {
    /// One exec, in milliseconds.
    fn exec(&self, bench: &Bench, round: usize) -> Result<f64> {
        bench.interrupt.check()?;
        let (exec, guest) = (format!("exec{round}"), self.subject.runtime().guest());
        let line = ["task", "exec", "--exec-id", &exec, &self.id, guest];
        let ended = self.subject.fixture(bench)?.ctr(line)?.ok()?;
        ensure!(ended.out().contains("Hello"), "no hello: {ended}");
        Ok(ended.took.as_secs_f64() * 1e3)
    }
}

fn rows(all: &[Series]) -> Result<Vec<Row>> {
    let of = |wanted| all.iter().find(|series| series.subject == wanted);
    let mut rows = Vec::new();
    for series in all {
        let name = series.subject.name();
        rows.push(Row::new("exec_median", name, stats::median(&series.times)?, "ms"));
        let Subject::Ours(runtime) = series.subject else { continue };
        let bases = [(Subject::Ours(Runtime::Runc), "runc"), (Subject::Before(runtime), "before")];
        for (base, end) in bases {
            let Some(base) = of(base).filter(|_| runtime.is_wasm()) else { continue };
            let ratios = series.times.iter().zip(&base.times).map(|(one, other)| one / other);
            let ratio = stats::median(&ratios.collect::<Vec<_>>())?;
            rows.push(Row::new(format!("exec_to_{end}"), name, ratio, "x"));
        }
    }
    rows.sort_by(|one, other| (&one.name, &one.runtime).cmp(&(&other.name, &other.runtime)));
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_of_the_rounds() {
        let series =
            |subject, times: &[f64]| Series { subject, id: String::new(), times: times.to_vec() };
        let all = [
            series(Subject::Ours(Runtime::Wasmtime), &[10.0, 20.0, 10.0]),
            series(Subject::Ours(Runtime::Runc), &[40.0, 80.0, 40.0]),
        ];
        let rows = rows(&all).unwrap();
        let ratios: Vec<_> = rows.iter().filter(|row| row.unit == "x").collect();
        assert_eq!(ratios.len(), 1);
        assert_eq!((ratios[0].name.as_str(), ratios[0].value), ("exec_to_runc", 0.25));
    }
}
