//! How execs end, and what the rest of the container sees of it; the cases are listed in `main.rs`.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::events::Events;
use runwasi_tests::{Containers, Runtime, poll_until, proc};
use rustix::process::{Pid, Signal, kill_process};

use crate::run::{over, waiting};

const SOON: Duration = Duration::from_secs(15);

/// The ids of execs that `ctr task ps` lists.
fn listed(c: &Containers, id: &str) -> Result<Vec<String>> {
    let out = c.fixture.ctr(["task", "ps", id])?.ok()?.out();
    // A line reads `PID  &ProcessDetails{ExecID:NAME,…}`, or `-` in place of the details.
    let names = out.lines().filter_map(|line| line.split_once("ExecID:")?.1.split(',').next());
    Ok(names.map(str::to_owned).collect())
}

fn kill(pid: u32) -> Result<()> {
    let pid = Pid::from_raw(pid.cast_signed()).context("a pid")?;
    Ok(kill_process(pid, Signal::KILL)?)
}

fn until_listed(c: &Containers, id: &str, wanted: &[&str]) -> Result<()> {
    let mut last = Vec::new();
    let seen = poll_until("the execs in the list", SOON, || {
        last = listed(c, id).ok()?;
        last.sort();
        (last == wanted).then_some(())
    });
    seen.with_context(|| format!("wanted {wanted:?}, last seen {last:?}"))
}

pub(crate) fn ps_names_the_execs(c: &mut Containers) -> Result<()> {
    let id = waiting(c)?;
    until_listed(c, &id, &[])?;
    c.exec_detached(&id, "a", &["sleep", "1000"])?;
    c.exec_detached(&id, "b", &["sleep", "1000"])?;
    until_listed(c, &id, &["a", "b"])?;
    over(c, &id)
}

pub(crate) fn execs_leave_no_file_descriptors_behind(c: &mut Containers) -> Result<()> {
    let id = waiting(c)?;
    let server = match c.runtime {
        Runtime::Runc => c.fixture.shims().first().context("a shim")?.pid,
        _ => c.is_running(&id)?.pid,
    };
    let before = proc::fds(server)?;
    for n in 0..10 {
        c.exec(&id, &format!("e{n}"), &["exit", "0"])?.ok()?;
    }
    let mut after = 0;
    poll_until("the file descriptors to be closed", SOON, || {
        after = proc::fds(server).ok()?;
        (after <= before).then_some(())
    })
    .with_context(|| format!("{before} file descriptors before, {after} after"))?;
    over(c, &id)
}

pub(crate) fn exec_is_killed_on_its_own(c: &mut Containers) -> Result<()> {
    let id = waiting(c)?;
    let spinner = c.exec_command(&[], &id, "spins", &[c.runtime.guest(), "spin"]).spawn()?;
    c.exec_detached(&id, "stays", &["sleep", "1000"])?;
    until_listed(c, &id, &["spins", "stays"])?;
    c.fixture.ctr(["task", "kill", "--exec-id", "spins", "-s", "SIGTERM", &id])?.ok()?;
    spinner.wait()?.status_is(143)?;
    until_listed(c, &id, &["stays"])?;
    let said =
        c.fixture.ctr(["task", "kill", "--exec-id", "never", "-s", "SIGTERM", &id])?.refused()?;
    ensure!(said.contains("not found"), "{said}");
    over(c, &id)
}

pub(crate) fn every_process_is_killed_at_once(c: &mut Containers) -> Result<()> {
    let id = waiting(c)?;
    let exec = c.exec_command(&[], &id, "e1", &[c.runtime.guest(), "sleep", "1000"]).spawn()?;
    until_listed(c, &id, &["e1"])?;
    c.fixture.ctr(["task", "kill", "--all", "-s", "SIGKILL", &id])?.ok()?;
    exec.wait()?.status_is(137)?;
    ensure!(c.finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn end_of_the_init_ends_its_execs(c: &mut Containers) -> Result<()> {
    let id = waiting(c)?;
    let execs = ["spin", "sleep"].map(|what| {
        let program = [c.runtime.guest(), what, "1000"];
        let words = if what == "spin" { &program[..2] } else { &program[..] };
        c.exec_command(&[], &id, what, words).spawn()
    });
    until_listed(c, &id, &["sleep", "spin"])?;
    c.kill(&id, "SIGKILL")?;
    for exec in execs {
        exec?.wait()?.status_is(137)?;
    }
    ensure!(c.finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn paused_container_takes_no_exec(c: &mut Containers) -> Result<()> {
    if c.runtime.runs_by_runc() {
        // It freezes by cgroup, which a container's place in the hierarchy may not allow.
        return Ok(());
    }
    let id = waiting(c)?;
    c.fixture.ctr(["task", "pause", &id])?.ok()?;
    let said = c.exec(&id, "e1", &["exit", "0"])?.refused()?;
    ensure!(said.contains("paused"), "{said}");
    c.fixture.ctr(["task", "resume", &id])?.ok()?;
    c.exec(&id, "e1", &["exit", "4"])?.status_is(4)?;
    over(c, &id)
}

pub(crate) fn exec_gives_added_started_and_exit(c: &mut Containers) -> Result<()> {
    let events = Events::listen(c)?;
    let id = waiting(c)?;
    c.exec(&id, "e1", &["exit", "9"])?.status_is(9)?;
    over(c, &id)?;
    let seen = events.until_delete(&id)?;
    let topics: Vec<_> = seen.iter().map(|(topic, _)| topic.as_str()).collect();
    ensure!(
        topics == ["create", "start", "exec-added", "exec-started", "exit", "exit", "delete"],
        "{topics:?}"
    );
    ensure!(seen[2].1["exec_id"] == "e1" && seen[3].1["exec_id"] == "e1", "{seen:?}");
    ensure!(seen[3].1["pid"].as_u64() > Some(0), "{:?}", seen[3]);
    let (exec, init) = (&seen[4].1, &seen[5].1);
    ensure!(exec["id"] == "e1" && exec["exit_status"] == 9, "{exec}");
    ensure!(init["id"] == id.as_str() && init["exit_status"] == 137, "{init}");
    Ok(())
}

pub(crate) fn exec_in_a_container_that_has_ended_is_an_error(c: &mut Containers) -> Result<()> {
    let id = c.id("ended");
    c.detached(&id, &["exit", "0"])?;
    c.becomes(&id, "STOPPED")?;
    c.exec(&id, "late", &["exit", "0"])?.refused()?;
    ensure!(c.finish(&id)? == 0);
    c.fixture.becomes_clean()
}

pub(crate) fn twenty_execs_run_at_once(c: &mut Containers) -> Result<()> {
    let id = waiting(c)?;
    let names: Vec<_> = (0..20).map(|n| format!("e{n}")).collect();
    let c = &*c;
    thread::scope(|scope| {
        let running: Vec<_> = names
            .iter()
            .map(|name| {
                scope.spawn(|| c.exec(&id, name, &["echo", name])?.ok().map(|out| out.out()))
            })
            .collect();
        for (name, running) in names.iter().zip(running) {
            let out = running.join().expect("the thread does not panic")?;
            ensure!(out == format!("{name}\n"), "{name} printed {out:?}");
        }
        Ok(())
    })?;
    over(c, &id)
}

pub(crate) fn restarted_containerd_still_knows_a_running_exec(c: &mut Containers) -> Result<()> {
    let id = waiting(c)?;
    c.exec_detached(&id, "e1", &["sleep", "1000"])?;
    until_listed(c, &id, &["e1"])?;
    c.fixture.stop()?;
    c.fixture.start_again()?;
    until_listed(c, &id, &["e1"])?;
    c.exec(&id, "e2", &["exit", "5"])?.status_is(5)?;
    over(c, &id)
}

pub(crate) fn killed_shim_takes_its_execs_with_it(c: &mut Containers) -> Result<()> {
    if c.runtime.runs_by_runc() {
        // Its guests are OS processes and outlive it until `delete`.
        return Ok(());
    }
    let id = waiting(c)?;
    let exec = c.exec_command(&[], &id, "e1", &[c.runtime.guest(), "sleep", "1000"]).spawn()?;
    until_listed(c, &id, &["e1"])?;
    match c.runtime.needs_daemon() {
        true => c.fixture.daemon()?.kill9()?,
        false => c.fixture.shims().iter().try_for_each(|shim| kill(shim.pid))?,
    }
    exec.wait()?;
    c.becomes_stopped_or_gone(&id)?;
    c.restart_daemon()?;
    c.fixture.ctr(["task", "delete", "-f", &id])?;
    c.delete_container(&id)?;
    c.fixture.becomes_clean()
}
