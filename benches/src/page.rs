//! The tables and plots of docs/performance.md, of the file that a run has left; called by `main` for `--page`.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::plot::{Bar, Line, Scale, Titles, bars, lines};

/// The runtimes with a column of their own.
const COLUMNS: [&str; 4] = ["wasmtime", "wasmtimed", "runc", "floor"];

/// A row as it stands in the file.
struct Row<'a> {
    name: &'a str,
    runtime: &'a str,
    value: f64,
    unit: &'a str,
    goal: String,
    missed: bool,
    of: &'a str,
}

/// Writes plots and a copy of the results to `directory`; gives the text for the page.
pub(crate) fn write(results: &Path, directory: &Path) -> Result<String> {
    let text = fs::read_to_string(results)
        .with_context(|| format!("{} is missing: make bench", results.display()))?;
    let all: Value = serde_json::from_str(&text)
        .with_context(|| format!("{} is no file of results", results.display()))?;
    let rows = rows(&all)?;
    fs::create_dir_all(directory)?;
    fs::write(directory.join("results.json"), &text)?;
    let folder = directory.file_name().context("plots need a directory")?.to_string_lossy();
    let mut page = format!("Measured on {}.\n\n", all["machine"]["line"].as_str().unwrap_or("?"));
    for (file, title, plot) in plots(&rows) {
        let place = directory.join(file);
        match plot {
            Some(plot) => {
                fs::write(place, plot)?;
                writeln!(page, "![{title}]({folder}/{file})\n")?;
            }
            // One of an earlier run would not belong to these rows.
            None if place.exists() => fs::remove_file(place)?,
            None => {}
        }
    }
    targets(&mut page, &all)?;
    writeln!(
        page,
        "Missed goals are bold. All rows are in [results.json]({folder}/results.json), too.\n"
    )?;
    table(&mut page, &rows)?;
    Ok(page.trim_end().to_owned())
}

fn rows(all: &Value) -> Result<Vec<Row<'_>>> {
    let list = all["rows"].as_array().context("no rows in the results")?;
    list.iter().map(row).collect()
}

fn row(value: &Value) -> Result<Row<'_>> {
    let text = |field: &str| value[field].as_str().unwrap_or_default();
    let goal = value["goal"].as_f64().map(|goal| format!("{} {goal}", text("bound")));
    Ok(Row {
        name: text("name"),
        runtime: text("runtime"),
        value: value["value"].as_f64().context("a row without a value")?,
        unit: text("unit"),
        goal: goal.unwrap_or_default(),
        missed: value["met"] == Value::Bool(false),
        of: text("of"),
    })
}

/// File, title and plot; no plot without rows.
fn plots(rows: &[Row<'_>]) -> [(&'static str, &'static str, Option<String>); 3] {
    let starts = "ctr run --rm of a hello: median, and 90th percentile as a line";
    let memory = "memory of pods with a sleeping guest each (PSS)";
    let clients = "answers of an HTTP hello";
    let titles = |title, across, up| Titles { title, across, up };
    let bar = |row: &Row<'_>| Bar {
        name: row.runtime.to_owned(),
        value: row.value,
        above: value(rows, "ctr_run_p90", row.runtime),
    };
    let medians: Vec<_> = rows.iter().filter(|row| row.name == "ctr_run_median").map(bar).collect();
    let of_memory = over(rows, "memory_at_");
    let of_clients = over(rows, "clients_rate_at_");
    let some = |is_some, plot: String| Some(plot).filter(|_| is_some);
    [
        (
            "starts.svg",
            starts,
            some(!medians.is_empty(), bars(&titles(starts, "ms", ""), &medians)),
        ),
        (
            "memory.svg",
            memory,
            some(
                !of_memory.is_empty(),
                lines(&titles(memory, "pods", "MB, all together"), Scale::Linear, &of_memory),
            ),
        ),
        (
            "clients.svg",
            clients,
            some(
                !of_clients.is_empty(),
                lines(
                    &titles(clients, "clients", "requests a second"),
                    Scale::Doubling,
                    &of_clients,
                ),
            ),
        ),
    ]
}

fn value(rows: &[Row<'_>], name: &str, runtime: &str) -> Option<f64> {
    rows.iter().find(|row| row.name == name && row.runtime == runtime).map(|row| row.value)
}

/// The rows `PREFIX<number>`, a line for each runtime.
fn over(rows: &[Row<'_>], prefix: &str) -> Vec<Line> {
    let mut all: Vec<Line> = Vec::new();
    for row in rows {
        let number = row.name.strip_prefix(prefix).and_then(|number| number.parse::<u32>().ok());
        let Some(number) = number else { continue };
        let point = (f64::from(number), row.value);
        match all.iter_mut().find(|line| line.name == row.runtime) {
            Some(line) => line.points.push(point),
            None => all.push(Line { name: row.runtime.to_owned(), points: vec![point] }),
        }
    }
    for line in &mut all {
        line.points.sort_by(|one, other| one.0.total_cmp(&other.0));
    }
    all
}

/// What was to be reached beside the peers, and how to get what a ratio lacks.
fn targets(page: &mut String, all: &Value) -> Result<()> {
    let Some(list) = all["targets"].as_array().filter(|list| !list.is_empty()) else {
        return Ok(());
    };
    writeln!(page, "| target | mode | ratio | of | goal |\n|---|---|---|---|---|")?;
    let mut ways: Vec<&str> = Vec::new();
    for target in list {
        let text = |field: &str| target[field].as_str().unwrap_or_default();
        let ratio = target["ratio"].as_f64().map(shown).unwrap_or_default();
        let ratio =
            if target["met"] == Value::Bool(false) { format!("**{ratio}**") } else { ratio };
        writeln!(
            page,
            "| {} | {} | {ratio} | {} | {} {} |",
            text("target"),
            text("mode"),
            text("of"),
            text("bound"),
            target["goal"]
        )?;
        if let Some(how) = target["how"].as_str().filter(|how| !ways.contains(how)) {
            ways.push(how);
        }
    }
    writeln!(page)?;
    for how in &ways {
        writeln!(page, "- no ratio without {how}")?;
    }
    if !ways.is_empty() {
        writeln!(page)?;
    }
    Ok(())
}

/// A line of the table per figure, in the order of the bench.
fn table(page: &mut String, rows: &[Row<'_>]) -> Result<()> {
    writeln!(page, "| figure | unit | {} | others | goal | ratio of |", COLUMNS.join(" | "))?;
    writeln!(page, "|---|---|{}---|---|---|", "---|".repeat(COLUMNS.len()))?;
    let mut names: Vec<&str> = Vec::new();
    for row in rows {
        if !names.contains(&row.name) {
            names.push(row.name);
        }
    }
    for name in names {
        let of: Vec<_> = rows.iter().filter(|row| row.name == name).collect();
        let cell = |row: &&Row<'_>| {
            let value = shown(row.value);
            if row.missed { format!("**{value}**") } else { value }
        };
        let cells = COLUMNS.map(|column| {
            of.iter().find(|row| row.runtime == column).map(cell).unwrap_or_default()
        });
        let others = of.iter().filter(|row| !COLUMNS.contains(&row.runtime));
        let others: Vec<_> = others.map(|row| format!("{} {}", row.runtime, cell(row))).collect();
        let mut goals: Vec<_> = of.iter().map(|row| row.goal.as_str()).collect();
        goals.retain(|goal| !goal.is_empty());
        goals.dedup();
        writeln!(
            page,
            "| `{name}` | {} | {} | {} | {} | {} |",
            of[0].unit,
            cells.join(" | "),
            others.join(", "),
            goals.join(" / "),
            of[0].of
        )?;
    }
    Ok(())
}

fn shown(value: f64) -> String {
    if value == value.floor() { format!("{value}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn measured(name: &str, runtime: &str, value: f64) -> Value {
        json!({ "name": name, "runtime": runtime, "value": value, "unit": "MB", "goal": 4.0,
            "bound": "<=", "met": value <= 4.0, "of": null })
    }

    fn written(rows: &[Value], targets: &Value) -> (String, tempfile::TempDir) {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("results.json");
        let machine = json!({ "line": "2 CPUs" });
        let all = json!({ "machine": machine, "rows": rows, "targets": targets });
        fs::write(&file, all.to_string()).unwrap();
        (write(&file, &place.path().join("plots")).unwrap(), place)
    }

    #[test]
    fn rows_become_cells_lines_and_files() {
        let rows = [
            measured("memory_at_10", "wasmtime", 5.0),
            measured("memory_at_1", "wasmtime", 3.0),
            measured("memory_at_1", "upstream", 20.5),
        ];
        let (page, place) = written(&rows, &json!([]));
        assert!(page.starts_with("Measured on 2 CPUs.\n"), "{page}");
        let line = "| `memory_at_1` | MB | 3 |  |  |  | upstream **20.50** | <= 4 |  |";
        assert!(page.lines().any(|found| found == line), "{page}");
        assert!(page.contains("(plots/memory.svg)") && !page.contains("starts.svg"), "{page}");
        let plot = fs::read_to_string(place.path().join("plots/memory.svg")).unwrap();
        assert_eq!((plot.matches("<circle").count(), plot.matches("<polyline").count()), (3, 1));
        assert!(place.path().join("plots/results.json").exists());
    }

    #[test]
    fn target_without_its_peer_says_how_to_get_it() {
        let target = |ratio: Value, how: Value| {
            json!({ "target": "stat", "mode": "wasmtime", "figure": "f", "ratio": ratio, "of": "the CLI",
                "goal": 1.2, "bound": "<=", "met": null, "how": how })
        };
        let how = json!("--peer wasmtime=PATH");
        let targets = json!([
            target(json!(null), how.clone()),
            target(json!(null), how),
            target(json!(1.1), json!(null))
        ]);
        let (page, _place) = written(&[], &targets);
        assert!(page.contains("| stat | wasmtime |  | the CLI | <= 1.2 |"), "{page}");
        assert!(page.contains("| stat | wasmtime | 1.10 | the CLI | <= 1.2 |"), "{page}");
        assert_eq!(page.matches("- no ratio without --peer wasmtime=PATH").count(), 1, "{page}");
    }

    #[test]
    fn plot_of_an_earlier_run_goes_with_its_rows() {
        let place = tempfile::tempdir().unwrap();
        let (file, plots) = (place.path().join("r.json"), place.path().join("plots"));
        fs::create_dir(&plots).unwrap();
        fs::write(plots.join("clients.svg"), "old").unwrap();
        fs::write(&file, json!({ "rows": [] }).to_string()).unwrap();
        write(&file, &plots).unwrap();
        assert!(!plots.join("clients.svg").exists());
        assert!(write(&place.path().join("none.json"), &plots).is_err());
    }
}
