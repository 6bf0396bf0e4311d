//! The night, read from what the commands of the daemon's program print.

use anyhow::{Context, Result, ensure};
use runwasi_tests::Command;
use runwasi_tests::ask::{json, text};
use runwasi_tests::code::CodeFixture;
use runwasi_tests::runtime::daemon_file;
use serde_json::Value;

use super::{LIMIT, Night};

/// Answers of the daemons, after the upgrade.
pub(super) struct Asked {
    status: Value,
    list: Value,
    events: Vec<Value>,
}

/// `inspect` of a container.
pub(super) fn inspect(c: &CodeFixture, id: &str) -> Result<Value> {
    json(c, &["inspect", id, "--json"])
}

/// What `cache verify` finds.
pub(super) fn verify(c: &CodeFixture) -> Result<String> {
    let settings = c.fixture.dir().join("none.toml");
    std::fs::write(&settings, "")?;
    let flags = ["--cache-dir".as_ref(), c.cache.as_os_str(), "--config".as_ref()];
    let verified = Command::new(daemon_file()).args(["cache", "verify"]).args(flags);
    Ok(verified.args([settings.as_os_str()]).run()?.status_is(1)?.err())
}

/// Asks both daemons.
pub(super) fn ask(c: &CodeFixture) -> Result<Asked> {
    let events = text(c, &["events", "--past", "--json", "--for", "1"])?;
    let events = events.lines().map(serde_json::from_str).collect::<Result<_, _>>();
    Ok(Asked {
        status: json(c, &["status", "--json"])?,
        list: json(c, &["list", "--json"])?,
        events: events.context("events")?,
    })
}

pub(super) fn answers(
    (inspected, verified): (&Value, &str),
    asked: &Asked,
    night: &Night,
) -> Result<()> {
    // Who has run out of memory?
    ensure!(asked.event("oom", &night.leaky)?["daemon"] == night.daemons[0]);
    let ended = asked.event("exit", &night.leaky)?;
    ensure!(ended["exit_status"] == 137 && ended["text"] == "oom", "{ended}");
    ensure!(asked.events.iter().filter(|event| event["event"] == "oom").count() == 1);
    // Who was slow, and why?
    let warnings = inspected["warnings"].to_string();
    ensure!(warnings.contains("its CPU quota is used up in most periods"), "{inspected}");
    ensure!(inspected["usage"]["cpu_quota_microseconds"] == 20_000, "{inspected}");
    ensure!(inspected["usage"]["memory_limit_bytes"] != LIMIT, "{inspected}");
    // Who has crashed, and how?
    let ended = asked.event("exit", &night.broken)?;
    ensure!(ended["exit_status"] == 134, "{ended}");
    ensure!(ended["text"] == "trap: wasm `unreachable` instruction executed", "{ended}");
    asked.upgrade(night)?;
    // Was compiled code damaged?
    let damaged = format!("{}: damaged", night.damaged.display());
    ensure!(verified.contains(&damaged), "{verified}");
    Ok(())
}

impl Asked {
    /// The event of a container.
    fn event(&self, kind: &str, container: &str) -> Result<&Value> {
        let is_it = |event: &&Value| event["event"] == kind && event["container"] == container;
        let found = self.events.iter().find(is_it);
        found.with_context(|| format!("no {kind} of {container} in {:#?}", self.events))
    }

    /// Was the daemon replaced, and did containers of the old one go on?
    fn upgrade(&self, night: &Night) -> Result<()> {
        let [old, new] = night.daemons;
        for (pid, state) in [(old, "retired"), (new, "serving")] {
            let daemons = self.status["daemons"].as_array().context("daemons")?;
            let one = daemons.iter().find(|daemon| daemon["pid"] == pid);
            ensure!(one.is_some_and(|one| one["state"] == state), "{}", self.status);
        }
        let retired = self.events.iter().find(|event| event["event"] == "retire");
        ensure!(retired.is_some_and(|event| event["daemon"] == old), "{:#?}", self.events);
        let sandboxes = self.list["sandboxes"].as_array().context("sandboxes")?;
        let busy = sandboxes.iter().find(|sandbox| sandbox["sandbox"] == night.busy);
        let busy = busy.with_context(|| self.list.to_string())?;
        ensure!(busy["daemon"] == old && busy["state"] == "running", "{busy}");
        Ok(())
    }
}
