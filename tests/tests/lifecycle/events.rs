//! What `ctr events` prints for a container; the cases are listed in `main.rs`.

use anyhow::{Result, ensure};
use runwasi_tests::Containers;
use runwasi_tests::events::{Events, in_order};

pub(crate) fn run_gives_create_start_exit_delete(c: &mut Containers) -> Result<()> {
    let events = Events::listen(c)?;
    let id = c.id("told");
    c.run(&id, &["exit", "7"])?.status_is(7)?;
    let seen = events.until_delete(&id)?;
    in_order(&seen)?;
    let exit = &seen[2].1;
    ensure!(exit["exit_status"] == 7 && exit["id"] == id.as_str(), "{exit}");
    // As a text, in later versions as numbers.
    ensure!(
        exit["exited_at"].is_string() || exit["exited_at"]["seconds"].as_i64() > Some(0),
        "{exit}"
    );
    let pids: Vec<_> = seen.iter().map(|(_, event)| &event["pid"]).collect();
    ensure!(pids.iter().all(|pid| *pid == pids[0] && pid.as_u64() > Some(0)), "{pids:?}");
    Ok(())
}

pub(crate) fn killed_container_gives_one_exit(c: &mut Containers) -> Result<()> {
    let events = Events::listen(c)?;
    let id = c.id("shot");
    c.detached(&id, &["sleep", "100"])?;
    c.kill(&id, "SIGKILL")?;
    // A second kill may find it running or ended; neither may give a second exit.
    c.fixture.ctr(["task", "kill", "-s", "SIGKILL", &id])?;
    ensure!(c.finish(&id)? == 137);
    let seen = events.until_delete(&id)?;
    in_order(&seen)?;
    ensure!(seen[2].1["exit_status"] == 137, "{:?}", seen[2]);
    Ok(())
}
