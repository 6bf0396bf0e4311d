//! The figures of a run: every benchmark returns rows, `main` prints them and writes them to `target/bench/results.json`,
//! with the machine and the targets.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use runwasi_tests::runtime::target_dir;
use serde_json::{Value, json};

use crate::ratios::Base;
use crate::targets::Outcome;

/// One measured figure.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// What was measured, for programs: `<benchmark>_<figure>`. Stays the same between versions, so runs compare.
    pub(crate) name: String,
    /// Which shim: the middle part of the containerd runtime's name.
    pub(crate) runtime: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// None for figures that are only reported.
    pub(crate) goal: Option<Goal>,
}

/// What a figure is to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Row {
    pub(crate) fn new(
        name: impl Into<String>,
        runtime: &str,
        value: f64,
        unit: &'static str,
    ) -> Self {
        Self { name: name.into(), runtime: runtime.to_owned(), value, unit, goal: None }
    }

    /// The same figure with a goal that it must not exceed.
    pub(crate) fn at_most(self, goal: f64) -> Self {
        Self { goal: Some(Goal::AtMost(goal)), ..self }
    }

    /// The same figure with a goal that it must reach.
    pub(crate) fn at_least(self, goal: f64) -> Self {
        Self { goal: Some(Goal::AtLeast(goal)), ..self }
    }

    /// Whether the goal is met; none without a goal.
    pub(crate) fn met(&self) -> Option<bool> {
        self.goal.map(|goal| goal.is_met_by(self.value))
    }

    /// What it is a ratio of; none if it is no ratio.
    pub(crate) fn of(&self) -> Option<&'static str> {
        Base::of(&self.name).filter(|_| self.unit == "x").map(|base| base.what)
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name, "runtime": self.runtime, "value": self.value, "unit": self.unit,
            "goal": self.goal.map(Goal::value), "bound": self.goal.map(Goal::bound), "met": self.met(),
            "of": self.of(),
        })
    }
}

impl Goal {
    pub(crate) fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }

    pub(crate) fn value(self) -> f64 {
        match self {
            Self::AtMost(value) | Self::AtLeast(value) => value,
        }
    }

    pub(crate) fn bound(self) -> &'static str {
        match self {
            Self::AtMost(_) => "<=",
            Self::AtLeast(_) => ">=",
        }
    }
}

/// The file `make bench` leaves.
pub(crate) fn file() -> PathBuf {
    target_dir().join("bench/results.json")
}

/// Removes an earlier run's figures, so that a run that fails leaves none that look like its own.
pub(crate) fn forget() -> Result<()> {
    match fs::remove_file(file()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context("cannot remove old results")
        }
        _ => Ok(()),
    }
}

/// Writes all at once.
pub(crate) fn write(
    machine: &Value,
    rows: &[Row],
    targets: &[Outcome<'_>],
    file: &Path,
) -> Result<()> {
    let all = json!({
        "machine": machine,
        "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
        "targets": targets.iter().map(Outcome::json).collect::<Vec<_>>(),
    });
    let text = serde_json::to_string_pretty(&all)? + "\n";
    let folder = file.parent().context("results need a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// The rows as a table, then what became of the goals.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text =
        format!("{:<34} {:<16} {:>10} {:<8} {:>8}\n", "figure", "runtime", "value", "unit", "goal");
    for row in rows {
        let goal =
            row.goal.map(|goal| format!("{} {}", goal.bound(), goal.value())).unwrap_or_default();
        let met = match row.met() {
            Some(true) => " met",
            Some(false) => " MISSED",
            None => "",
        };
        let of = row.of().map(|of| format!("  of {of}")).unwrap_or_default();
        let line = format!(
            "{:<34} {:<16} {:>10.2} {:<8} {goal:>8}{met}{of}",
            row.name, row.runtime, row.value, row.unit
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let judged = rows.iter().filter_map(Row::met);
    let (met, all) = judged.fold((0, 0), |(met, all), this| (met + usize::from(this), all + 1));
    if all > 0 {
        text.push_str(&format!("{met} of {all} goals met\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_up_to_its_own_value() {
        assert_eq!(Row::new("a", "x", 15.0, "ms").at_most(15.0).met(), Some(true));
        assert_eq!(Row::new("a", "x", 15.1, "ms").at_most(15.0).met(), Some(false));
        assert_eq!(Row::new("a", "x", 15.1, "ms").met(), None);
        assert_eq!(Row::new("a", "x", 2000.0, "1/s").at_least(2000.0).met(), Some(true));
        assert_eq!(Row::new("a", "x", 1999.0, "1/s").at_least(2000.0).met(), Some(false));
    }

    #[test]
    fn file_has_the_machine_and_null_for_rows_without_a_goal() {
        let file =
            std::env::temp_dir().join(format!("results-{}/results.json", std::process::id()));
        let rows =
            [Row::new("a", "x", 1.5, "ms"), Row::new("b_to_runc", "y", 2.0, "x").at_most(1.0)];
        write(&json!({ "kernel": "6" }), &rows, &[], &file).unwrap();
        let read: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        fs::remove_dir_all(file.parent().unwrap()).unwrap();
        let wanted = json!([
            {"name": "a", "runtime": "x", "value": 1.5, "unit": "ms", "goal": null, "bound": null, "met": null,
                "of": null},
            {"name": "b_to_runc", "runtime": "y", "value": 2.0, "unit": "x", "goal": 1.0, "bound": "<=", "met": false,
                "of": "runc with a native guest"},
        ]);
        assert_eq!(read, json!({ "machine": { "kernel": "6" }, "rows": wanted, "targets": [] }));
    }

    #[test]
    fn the_table_names_missed_goals() {
        let rows = [
            Row::new("a", "x", 2.0, "ms").at_most(1.0),
            Row::new("b", "x", 2.0, "ms").at_most(3.0),
        ];
        let text = table(&rows);
        assert!(text.contains("<= 1 MISSED") && text.contains("<= 3 met"), "{text}");
        assert!(text.ends_with("1 of 2 goals met\n"), "{text}");
    }
}
