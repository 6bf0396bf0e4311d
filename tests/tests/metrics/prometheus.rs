//! A real Prometheus, Debian's, that scrapes a daemon by the files of the packages.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::daemon::Settings;
use runwasi_tests::exposition::Scrape;
use runwasi_tests::{Command, http, poll_until};
use serde_json::Value;

use crate::files::{RULES, SCRAPE, fetched, file, read};
use crate::{daemon, scraped};

/// Longest time until the first scrape, on a busy machine.
const LATE: Duration = Duration::from_secs(60);

/// The address of the packaged job.
const JOB: &str = "127.0.0.1:9464";

#[test]
fn prometheus_reads_every_series_and_the_alerts() -> Result<()> {
    let program = fetched("prometheus")?;
    let address = http::address();
    let (home, mut daemon) = daemon(scraped(Settings::default(), address))?;
    let job = read(SCRAPE)?;
    ensure!(job.contains(JOB), "{job}");
    let rules = file(RULES).canonicalize()?;
    let job = job.replace(JOB, &address.to_string());
    let config = format!("global: {{scrape_interval: 1s}}\nrule_files: [{rules:?}]\n{job}");
    let path = home.path().join("prometheus.yml");
    fs::write(&path, &config)?;
    let web = http::address();
    let flag = |name: &str, value: &dyn std::fmt::Display| format!("--{name}={value}");
    let prometheus = Command::new(program)
        .args([
            flag("config.file", &path.display()),
            flag("storage.tsdb.path", &home.path().join("data").display()),
            flag("web.listen-address", &web),
        ])
        .spawn()?;
    let asked = |path: &str| -> Option<Value> {
        let answer = http::get(web, path).ok().filter(|answer| answer.status == 200)?;
        serde_json::from_str(&answer.body).ok()
    };
    let named = || {
        let answer = asked("/api/v1/label/__name__/values")?;
        let names = answer["data"].as_array()?.iter().filter_map(Value::as_str);
        let names: BTreeSet<String> = names.map(str::to_owned).collect();
        names.contains("runwasi_build_info").then_some(names)
    };
    let names = poll_until("a scrape", LATE, named);
    let names = names.with_context(|| prometheus.stderr_so_far())?;
    let exported = Scrape::of(address)?.names();
    let missing: Vec<_> = exported.difference(&names).collect();
    ensure!(missing.is_empty(), "not read: {missing:?}");
    let build = asked("/api/v1/query?query=runwasi_build_info").context("no answer")?;
    let metric = &build["data"]["result"][0]["metric"];
    ensure!(metric["job"] == "runwasi" && metric["program"] == "containerd-wasmtimed", "{build}");
    let rules = asked("/api/v1/rules").context("no answer")?;
    let rules = rules["data"]["groups"].as_array().context("no groups")?.clone();
    let number: usize =
        rules.iter().filter_map(|group| group["rules"].as_array()).map(Vec::len).sum();
    ensure!(number > 15, "{rules:#?}");
    drop(prometheus);
    ensure!(daemon.terminate()? == 0);
    Ok(())
}
