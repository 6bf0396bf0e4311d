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
    let exported = Scrape::of(address)?.names();
    // A scrape under way has some of its series there already.
    let unread = || {
        let answer = asked("/api/v1/label/__name__/values").unwrap_or_default();
        let names: BTreeSet<_> =
            answer["data"].as_array()?.iter().filter_map(Value::as_str).collect();
        Some(exported.iter().filter(|name| !names.contains(name.as_str())).collect::<Vec<_>>())
    };
    let all = poll_until("a scrape", LATE, || unread()?.is_empty().then_some(()));
    all.with_context(|| format!("not read: {:?}; {}", unread(), prometheus.stderr_so_far()))?;
    // The values of a scrape are there after its last name.
    let valued = || {
        let answer = asked("/api/v1/query?query=runwasi_build_info")?;
        Some(answer).filter(|answer| answer["data"]["result"][0].is_object())
    };
    let build = poll_until("values", LATE, valued)?;
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
