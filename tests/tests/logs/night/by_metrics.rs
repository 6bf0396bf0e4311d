//! The night, read from two scrapes. Metrics have no ids: they tell how many, and when.

use anyhow::{Result, ensure};
use runwasi_tests::exposition::Scrape;

use super::Night;

pub(super) fn answers(evening: &Scrape, morning: &Scrape, night: &Night) -> Result<()> {
    let exits =
        |reason: &str| format!("runwasi_exits_total{{kind=\"container\",reason=\"{reason}\"}}");
    // Has anything run out of memory, or crashed?
    for reason in ["oom", "trap", "success"] {
        let number = evening.value(&exits(reason))?;
        ensure!(number == 1.0, "{number} ends by {reason}");
    }
    for reason in ["failure", "killed", "signal", "error"] {
        ensure!(evening.value(&exits(reason))? == 0.0, "{reason}");
    }
    // Was anything slow, and why?
    let periods = evening.value("runwasi_quota_periods_total")?;
    let throttled = evening.value("runwasi_throttled_total")?;
    ensure!(throttled > periods / 2.0, "{throttled} of {periods} periods");
    ensure!(evening.value("runwasi_throttled_seconds_total")? > 5.0, "{}", evening.text);
    upgrade(evening, morning, night.daemons[0])?;
    damage(evening, morning)
}

/// Was the daemon replaced, and did containers of the old one go on?
fn upgrade(evening: &Scrape, morning: &Scrape, old: u32) -> Result<()> {
    let start = "process_start_time_seconds";
    ensure!(morning.value(start)? > evening.value(start)?, "{}", morning.text);
    let of_old = |series: &str| morning.value(&series.replace("OLD", &old.to_string()));
    ensure!(of_old("runwasi_daemon_state{state=\"retired\",retired=\"OLD\"}")? == 1.0);
    ensure!(of_old("runwasi_containers{state=\"running\",retired=\"OLD\"}")? == 1.0);
    ensure!(of_old("process_start_time_seconds{retired=\"OLD\"}")? == evening.value(start)?);
    Ok(())
}

/// Was compiled code damaged, and what came of it?
fn damage(evening: &Scrape, morning: &Scrape) -> Result<()> {
    let distrusted = "runwasi_code_distrusted_total";
    ensure!(evening.value(distrusted)? == 0.0 && morning.value(distrusted)? >= 1.0);
    let compiled = morning.value(r#"runwasi_compilations_total{result="compiled"}"#)?;
    ensure!(compiled == 1.0, "{compiled} compilations of the new daemon");
    Ok(())
}
