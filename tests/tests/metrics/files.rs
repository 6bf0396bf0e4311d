//! Documentation, dashboard and alerts against what a daemon exports, and `promtool`'s judgement.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use runwasi_tests::Command;
use runwasi_tests::daemon::Settings;
use runwasi_tests::exposition::{Family, Scrape};
use runwasi_tests::http;

use crate::{daemon, scraped};

const DASHBOARD: &str = "packaging/grafana/runwasi.json";
pub(crate) const RULES: &str = "packaging/prometheus/runwasi.rules.yml";
pub(crate) const SCRAPE: &str = "packaging/prometheus/runwasi.scrape.yml";

pub(crate) fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

pub(crate) fn read(name: &str) -> Result<String> {
    fs::read_to_string(file(name)).with_context(|| name.to_owned())
}

/// What a fresh daemon exports: every series is there from the beginning.
fn exported() -> Result<Scrape> {
    let address = http::address();
    let (_home, mut daemon) = daemon(scraped(Settings::default(), address))?;
    let scrape = Scrape::of(address)?;
    ensure!(daemon.terminate()? == 0);
    Ok(scrape)
}

/// A row of the table: the family, and its unit.
fn row(line: &str) -> Result<(String, Family, String)> {
    let cells: Vec<_> = line.split('|').map(str::trim).collect();
    let ["", name, kind, labels, unit, meaning, ""] = cells[..] else { bail!("cells: {line}") };
    ensure!(!meaning.is_empty(), "no meaning: {line}");
    let mut family = Family { kind: kind.to_owned(), ..Family::default() };
    for label in labels.split(';').map(str::trim).filter(|label| !label.is_empty()) {
        let (name, values) = label.split_once(": ").unwrap_or((label, ""));
        let values = values.split(", ").filter(|value| !value.is_empty()).map(str::to_owned);
        family.labels.insert(name.trim_matches('`').to_owned(), values.collect());
    }
    Ok((name.trim_matches('`').to_owned(), family, unit.to_owned()))
}

#[test]
fn table_of_the_documentation_is_what_is_exported() -> Result<()> {
    let text = read("docs/metrics.md")?;
    let table = text.split_once("<!-- series: begin -->\n").context("no table")?.1;
    let table = table.split_once("<!-- series: end -->").context("no end")?.0;
    let rows = table.lines().skip(2).map(row).collect::<Result<Vec<_>>>()?;
    let documented: BTreeMap<_, _> =
        rows.iter().map(|(name, family, _)| (name.clone(), family.clone())).collect();
    ensure!(documented.len() == rows.len(), "a row is there twice");
    let mut exported = exported()?.families();
    // Their values are those of a build.
    if let Some(build) = exported.get_mut("runwasi_build_info") {
        build.labels.values_mut().for_each(BTreeSet::clear);
    }
    for (name, family) in &exported {
        ensure!(
            documented.get(name) == Some(family),
            "{name}: {:?}, exported {family:?}",
            documented.get(name)
        );
    }
    ensure!(documented.len() == exported.len(), "documented, not exported: {:?}", {
        documented.keys().filter(|name| !exported.contains_key(*name)).collect::<Vec<_>>()
    });
    for (name, _, unit) in rows {
        let stem = name.trim_end_matches("_total");
        let named = ["seconds", "bytes"].into_iter().find(|unit| stem.ends_with(unit));
        ensure!(named.unwrap_or("") == unit, "{name}: unit {unit:?}");
    }
    Ok(())
}

/// The names of series in a text, and the labels that are compared with values beside each.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = |word: &&str| word.starts_with("runwasi_") || word.starts_with("process_");
    words.filter(ours).map(str::to_owned).collect()
}

/// The matchers `label="value"` and `label=~"a|b"` of a text, with the names of their series.
fn matchers(text: &str) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices('{') {
        let start = text[..at].rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let name = &text[start.map_or(0, |start| start + 1)..at];
        let inner = text[at + 1..].split('}').next().unwrap_or_default();
        for matcher in inner.split(',').filter(|_| name.starts_with("runwasi_")) {
            if let Some((label, values)) = matcher.split_once('=') {
                for value in values.trim_start_matches('~').trim_matches('"').split('|') {
                    found.push((
                        name.to_owned(),
                        label.trim_end_matches('!').to_owned(),
                        value.to_owned(),
                    ));
                }
            }
        }
    }
    found
}

#[test]
fn dashboard_and_alerts_name_what_is_exported() -> Result<()> {
    let scrape = exported()?;
    let exported = scrape.names();
    let families = scrape.families();
    for name in [DASHBOARD, RULES] {
        let text = read(name)?.replace("\\\"", "\"");
        let named = names(&text);
        ensure!(named.len() > 20, "{name} names {named:?}");
        let unknown: Vec<_> = named.difference(&exported).collect();
        ensure!(unknown.is_empty(), "{name} names {unknown:?}, which nobody exports");
        let matchers = matchers(&text);
        ensure!(matchers.len() > 10, "{name}: {matchers:?}");
        for (series, label, value) in matchers {
            // Those of the scrape, of a panel, and of daemons that were replaced.
            if ["instance", "job", "retired"].contains(&label.as_str()) {
                continue;
            }
            let family =
                families.get(series.trim_end_matches("_bucket")).context(series.clone())?;
            let known = family.labels.get(&label).is_some_and(|values| values.contains(&value));
            ensure!(known, "{name}: {series} has no {label}={value:?}: {family:?}");
        }
    }
    Ok(())
}

#[test]
fn dashboard_shows_every_series() -> Result<()> {
    let text = read(DASHBOARD)?;
    serde_json::from_str::<serde_json::Value>(&text).context("JSON")?;
    let named = names(&text);
    for (name, family) in exported()?.families() {
        let sample = if family.kind == "histogram" { format!("{name}_bucket") } else { name };
        ensure!(named.contains(&sample), "{sample} is in no panel");
    }
    Ok(())
}

/// A program of Debian's Prometheus, fetched by `scripts/prometheus`.
pub(crate) fn fetched(name: &str) -> Result<PathBuf> {
    let program = file("target/prometheus/usr/bin").join(name);
    let missing = fs::read_to_string(file("target/prometheus.missing")).unwrap_or_default();
    ensure!(program.exists(), "no {name}, scripts/prometheus fetches it {missing}");
    Ok(program)
}

fn promtool() -> Result<PathBuf> {
    fetched("promtool")
}

#[test]
fn promtool_accepts_the_metrics() -> Result<()> {
    let text = exported()?.text;
    let out = Command::new(promtool()?)
        .args(["check", "metrics"])
        .stdin(text.into_bytes())
        .run()?
        .ok()?;
    ensure!(out.err().is_empty() && out.out().is_empty(), "{out}");
    Ok(())
}

#[test]
fn promtool_accepts_the_scrape() -> Result<()> {
    let scrape = file(SCRAPE).display().to_string();
    let out = Command::new(promtool()?).args(["check", "config", &scrape]).run()?.ok()?;
    ensure!(out.out().contains("SUCCESS"), "{out}");
    Ok(())
}

#[test]
fn promtool_accepts_the_alerts() -> Result<()> {
    let rules = file(RULES).display().to_string();
    let out =
        Command::new(promtool()?).args(["check", "rules", "--lint=all", &rules]).run()?.ok()?;
    ensure!(out.out().contains("SUCCESS"), "{out}");
    Ok(())
}

#[test]
fn each_alert_fires_for_its_fault_and_none_without_one() -> Result<()> {
    let cases = file("tests/tests/metrics/alerts.yml");
    let all = read("tests/tests/metrics/alerts.yml")?;
    let rules = read(RULES)?;
    let names: Vec<_> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let untried: Vec<_> =
        names.iter().filter(|name| !all.contains(&format!("alertname=\"{name}\""))).collect();
    ensure!(names.len() > 15 && untried.is_empty(), "no case has {untried:?} of {names:?}");
    Command::new(promtool()?).args(["test", "rules"]).args([cases]).run()?.ok()?;
    Ok(())
}
