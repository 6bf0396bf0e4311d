//! The figures of a run: every benchmark returns rows, `main` prints them and writes them to `target/bench/results.json`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use runwasi_tests::runtime::target_dir;
use serde_json::{Value, json};

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
        self.goal.map(|goal| match goal {
            Goal::AtMost(most) => self.value <= most,
            Goal::AtLeast(least) => self.value >= least,
        })
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name, "runtime": self.runtime, "value": self.value, "unit": self.unit,
            "goal": self.goal.map(Goal::value), "bound": self.goal.map(Goal::bound), "met": self.met(),
        })
    }
}

impl Goal {
    fn value(self) -> f64 {
        match self {
            Self::AtMost(value) | Self::AtLeast(value) => value,
        }
    }

    fn bound(self) -> &'static str {
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

/// Writes all rows at once.
pub(crate) fn write(rows: &[Row], file: &Path) -> Result<()> {
    let list = Value::Array(rows.iter().map(Row::json).collect());
    let text = serde_json::to_string_pretty(&list)? + "\n";
    let folder = file.parent().context("results need a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// The rows as a table, then what became of the goals.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text =
        format!("{:<34} {:<10} {:>10} {:<8} {:>8}\n", "figure", "runtime", "value", "unit", "goal");
    for row in rows {
        let goal =
            row.goal.map(|goal| format!("{} {}", goal.bound(), goal.value())).unwrap_or_default();
        let met = match row.met() {
            Some(true) => " met",
            Some(false) => " MISSED",
            None => "",
        };
        let line = format!(
            "{:<34} {:<10} {:>10.2} {:<8} {goal:>8}{met}",
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
    fn rows_without_a_goal_have_null_in_the_file() {
        let file =
            std::env::temp_dir().join(format!("results-{}/results.json", std::process::id()));
        let rows = [Row::new("a", "x", 1.5, "ms"), Row::new("b", "y", 2.0, "MB").at_most(1.0)];
        write(&rows, &file).unwrap();
        let read: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        fs::remove_dir_all(file.parent().unwrap()).unwrap();
        let wanted = json!([
            {"name": "a", "runtime": "x", "value": 1.5, "unit": "ms", "goal": null, "bound": null, "met": null},
            {"name": "b", "runtime": "y", "value": 2.0, "unit": "MB", "goal": 1.0, "bound": "<=", "met": false},
        ]);
        assert_eq!(read, wanted);
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
