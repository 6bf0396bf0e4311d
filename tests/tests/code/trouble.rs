//! Caches that do not work, and containers that run all the same; the cases are listed in `main.rs`.

use anyhow::{Result, ensure};
use runwasi_tests::poll_until;
use std::time::Duration;

use crate::fixture::Fixture;
use crate::modules::large;

pub(crate) fn full_disk_only_warns(b: &mut Fixture) -> Result<()> {
    runs_with_a_warning(b)?;
    ensure!(b.kept().is_empty(), "{:?} takes what little room there is", b.kept());
    Ok(())
}

pub(crate) fn unwritable_cache_only_warns(b: &mut Fixture) -> Result<()> {
    runs_with_a_warning(b)
}

fn runs_with_a_warning(b: &mut Fixture) -> Result<()> {
    // Its code has far more bytes than the file system of the full one.
    b.module("a.wat", large(100))?;
    b.runs("a.wat")?;
    b.runs("a.wat")?;
    let warned = |log: &str| {
        log.lines().any(|line| {
            line.contains("level=warning") && line.contains("compiled code is not kept")
        })
    };
    // containerd copies the log of a shim when it gets round to it.
    poll_until("a warning", Duration::from_secs(10), || warned(&b.log()).then_some(()))?;
    b.fixture.becomes_clean()
}
