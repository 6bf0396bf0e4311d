//! Signals to the pid that containerd is told for a sandbox; the cases are listed in `main.rs`.

use std::{collections::BTreeSet, fs, time::Duration};

use anyhow::{Result, ensure};
use runwasi_tests::{Command, Containers, network::Namespace, poll_until, proc};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

const SOON: Duration = Duration::from_secs(10);

const SLEEP: &[&str] = &["sleep", "1000"];

/// Sends a signal as a client does that knows only the number: `kill -NAME PID`.
fn signal(pid: u32, name: &str) -> Result<()> {
    Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).run()?.ok()?;
    Ok(())
}

/// Starts two containers of a pod and two of their own; all sleep.
fn four(c: &Containers) -> Result<[String; 4]> {
    let pod = c.id("pod");
    let ids = ["pod-a", "pod-b", "one", "two"].map(|name| c.id(name));
    c.join(&pod, "sandbox", &ids[0], SLEEP)?;
    c.join(&pod, "container", &ids[1], SLEEP)?;
    c.detached(&ids[2], SLEEP)?;
    c.detached(&ids[3], SLEEP)?;
    Ok(ids)
}

/// Demands that containers run as before, and that a new one starts.
fn undisturbed(c: &Containers, ids: &[String], pids: &[u32]) -> Result<()> {
    for (id, pid) in ids.iter().zip(pids) {
        ensure!(c.is_running(id)?.pid == *pid && proc::alive(*pid), "{id}");
    }
    let out = c.run(&c.next_id(), &["echo", "new"])?.ok()?;
    ensure!(out.out() == "new\n", "{out}");
    Ok(())
}

fn pids(c: &Containers, ids: &[String]) -> Result<Vec<u32>> {
    ids.iter().map(|id| Ok(c.is_running(id)?.pid)).collect()
}

/// Demands that a sandbox's container ends with this status, and that nothing of it stays.
fn ends_with(c: &Containers, id: &str, status: i32) -> Result<()> {
    c.becomes(id, "STOPPED")?;
    let seen = c.finish(id)?;
    ensure!(seen == status, "{id} has ended with {seen} instead of {status}");
    Ok(())
}

fn over(c: &Containers, ids: &[String]) -> Result<()> {
    for id in ids {
        ensure!(c.kill_and_finish(id)? == 137);
    }
    c.fixture.becomes_clean()
}

pub(crate) fn killing_a_sandbox_pid_ends_that_sandbox_only(c: &mut Containers) -> Result<()> {
    let ids = four(c)?;
    let pids = pids(c, &ids)?;
    let servers: BTreeSet<_> = c.fixture.shims().iter().map(|shim| shim.pid).collect();
    ensure!(pids.iter().all(|pid| !servers.contains(pid)), "{pids:?} are of {servers:?}");
    ensure!(pids[0] == pids[1] && pids[2] != pids[3] && pids[0] != pids[2], "{pids:?}");
    signal(pids[2], "KILL")?;
    ends_with(c, &ids[2], 137)?;
    let others = [ids[0].clone(), ids[1].clone(), ids[3].clone()];
    undisturbed(c, &others, &[pids[0], pids[1], pids[3]])?;
    // All containers of a pod, and only these.
    signal(pids[0], "KILL")?;
    ends_with(c, &ids[1], 137)?;
    ends_with(c, &ids[0], 137)?;
    undisturbed(c, &ids[3..], &pids[3..])?;
    ensure!(servers.iter().any(|server| proc::alive(*server)), "{servers:?} are dead");
    over(c, &ids[3..])
}

pub(crate) fn sigterm_to_a_sandbox_pid_is_sigterm_to_its_containers(
    c: &mut Containers,
) -> Result<()> {
    let ids = four(c)?;
    let pids = pids(c, &ids)?;
    signal(pids[0], "TERM")?;
    ends_with(c, &ids[1], 143)?;
    // The process stays for the sandbox: a container that drains needs its network.
    ensure!(proc::alive(pids[0]), "it ended by a signal that asks");
    ends_with(c, &ids[0], 143)?;
    let gone = || (!proc::alive(pids[0])).then_some(());
    poll_until("end of the sandbox's process", SOON, gone)?;
    undisturbed(c, &ids[2..], &pids[2..])?;
    signal(pids[2], "INT")?;
    ends_with(c, &ids[2], 130)?;
    undisturbed(c, &ids[3..], &pids[3..])?;
    over(c, &ids[3..])
}

pub(crate) fn signals_that_dump_core_end_no_neighbour(c: &mut Containers) -> Result<()> {
    let stays = c.id("stays");
    c.detached(&stays, SLEEP)?;
    let before = pids(c, std::slice::from_ref(&stays))?;
    for (name, status) in [("QUIT", 131), ("ABRT", 134), ("SEGV", 139), ("SYS", 159)] {
        let id = c.id(&name.to_lowercase());
        c.detached(&id, SLEEP)?;
        signal(c.is_running(&id)?.pid, name)?;
        ends_with(c, &id, status)?;
        undisturbed(c, std::slice::from_ref(&stays), &before)?;
    }
    over(c, &[stays])
}

pub(crate) fn killed_sandbox_takes_no_further_container(c: &mut Containers) -> Result<()> {
    let pod = c.id("pod");
    let first = c.id("first");
    c.join(&pod, "sandbox", &first, SLEEP)?;
    let pid = c.is_running(&first)?.pid;
    signal(pid, "KILL")?;
    c.becomes(&first, "STOPPED")?;
    let second = c.id("second");
    let refused = c.join(&pod, "container", &second, SLEEP).err();
    let said = refused.map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(said.contains(&second) && said.contains(&format!("process {pid} ")), "{said}");
    c.fixture.ctr(["container", "rm", &second])?;
    ensure!(c.finish(&first)? == 137);
    // The pod may be made again.
    c.join(&pod, "sandbox", &c.id("again"), SLEEP)?;
    ensure!(c.is_running(&c.id("again"))?.pid != pid);
    over(c, &[c.id("again")])
}

pub(crate) fn namespaces_of_a_sandbox_pid_are_the_sandboxs(c: &mut Containers) -> Result<()> {
    let ids = [c.id("one"), c.id("two")];
    for id in &ids {
        c.detached(id, SLEEP)?;
    }
    let pids = pids(c, &ids)?;
    for kind in ["net", "ipc", "uts"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}"));
        let seen: BTreeSet<_> =
            [of("self")?, of(&pids[0].to_string())?, of(&pids[1].to_string())?].into();
        ensure!(seen.len() == 3, "{kind}: {seen:?}");
    }
    let pid = pids[0].to_string();
    // What people use the number for.
    let links = Namespace::of(pids[0])?.links()?;
    ensure!(links.len() == 1 && links[0].contains("lo:") && links[0].contains("UP"), "{links:?}");
    Command::new("nsenter").args(["-t", &pid, "-n", "-i", "-u", "true"]).run()?.ok()?;
    let listed = Command::new("ps").args(["-o", "comm=", "-p", &pid]).run()?.ok()?.out();
    ensure!(listed.trim() == "sandbox", "{listed}");
    let number = i32::try_from(pids[0])?;
    ensure!(Pid::from_raw(number).is_some_and(|pid| pidfd_open(pid, PidfdFlags::empty()).is_ok()));
    // On the host's network it has a process of its own, too.
    let on_host = c.id("on-host");
    c.detached_with(&["--net-host"], &on_host, SLEEP)?;
    let pid = c.is_running(&on_host)?.pid;
    ensure!(Namespace::of(pid)? == Namespace::own()? && !pids.contains(&pid));
    signal(pid, "KILL")?;
    ends_with(c, &on_host, 137)?;
    undisturbed(c, &ids, &pids)?;
    over(c, &ids)
}

pub(crate) fn sandbox_processes_go_with_a_killed_daemon(c: &mut Containers) -> Result<()> {
    let ids = four(c)?;
    let pids = pids(c, &ids)?;
    match c.runtime.needs_daemon() {
        true => c.fixture.daemon()?.kill9()?,
        false => c.fixture.shims().iter().try_for_each(|shim| proc::kill9(shim.pid))?,
    }
    let gone = || pids.iter().all(|pid| !proc::alive(*pid)).then_some(());
    poll_until("end of the sandboxes' processes", SOON, gone)?;
    for id in &ids {
        c.is_taken_away(id)?;
    }
    c.fixture.becomes_clean()?;
    c.restart_daemon()?;
    let out = c.run(&c.id("new"), &["echo", "new"])?.ok()?;
    ensure!(out.out() == "new\n", "{out}");
    c.fixture.becomes_clean()
}
