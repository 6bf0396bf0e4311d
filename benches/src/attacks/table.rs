//! The table of all attacks, as docs/security.md shows it.

use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result};
use runwasi_tests::runtime::target_dir;

use super::{Judged, KILL, P50, P99, PEAK};
use crate::options::short;

/// Writes the table and the machine that it was measured on, for `scripts/figures`.
pub(super) fn write(machine: &str, all: &[Judged]) -> Result<()> {
    let file = target_dir().join("bench/attacks.md");
    let folder = file.parent().context("a table needs a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let text = format!("Measured with {machine}.\n\n{}", text(all));
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// The table in Markdown. What misses its goal is bold.
pub(super) fn text(all: &[Judged]) -> String {
    let mut text = String::from(
        "| attack | runtime | timer p50 | timer p99 | hello p50 | hello p99 | kill | peak above the limit |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    // A `String` takes everything.
    let _ = writeln!(
        text,
        "| *goal* | | ≤ {P50}× | ≤ {P99}× | ≤ {P50}× | ≤ {P99}× | ≤ {KILL} ms | ≤ {PEAK} MiB |"
    );
    for judged in all {
        let _ = writeln!(text, "{}", line(judged));
    }
    text
}

fn line(judged: &Judged) -> String {
    let mut cells = vec![judged.attack.title.to_owned(), short(judged.runtime).to_owned()];
    for (figure, value, unit, goal) in judged.figures() {
        // After the percentiles: not all attackers are killed.
        if figure == "peak" && judged.kill.is_none() {
            cells.push("–".into());
        }
        let cell = if unit == "x" { format!("{value:.2}×") } else { format!("{value:.1} {unit}") };
        cells.push(if value > goal { format!("**{cell}**") } else { cell });
    }
    format!("| {} |", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use runwasi_tests::Runtime;
    use runwasi_tests::hostile::neighbours::Percentiles;

    use super::*;
    use crate::attacks::ATTACKS;

    fn judged(kill: Option<f64>) -> Judged {
        Judged {
            attack: &ATTACKS[0],
            runtime: Runtime::Wasmtimed,
            timer: Percentiles { p50: 1.0, p99: 3.5 },
            hello: Percentiles { p50: 1.1, p99: 2.0 },
            kill,
            peak: 0.5,
        }
    }

    #[test]
    fn missed_goals_are_bold() {
        let text = text(&[judged(Some(60.0))]);
        let wanted = "| wasmtimed | 1.00× | **3.50×** | 1.10× | 2.00× | **60.0 ms** | 0.5 MiB |\n";
        assert!(text.ends_with(wanted), "{text}");
    }

    #[test]
    fn every_line_has_all_columns() {
        let text = text(&[judged(None), judged(Some(1.0))]);
        let bars: Vec<_> = text.lines().map(|line| line.matches('|').count()).collect();
        assert_eq!(bars, [9; 5], "{text}");
        assert!(text.contains("| 2.00× | – | 0.5 MiB |"), "{text}");
    }
}
