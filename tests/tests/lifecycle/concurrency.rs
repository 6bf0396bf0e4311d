//! Many containers, and many clients of one container; the cases are listed in `main.rs`.

use std::thread;

use anyhow::{Result, ensure};
use runwasi_tests::{Containers, Output, Running};

pub(crate) fn twenty_containers_run_at_once(c: &mut Containers) -> Result<()> {
    let start = |n: usize| {
        let (id, text) = (c.id(&format!("crowd{n}")), format!("I am {n}"));
        c.run_command(&["--rm"], &id, &["echo", &text]).spawn()
    };
    let running: Vec<_> = (0..20).map(start).collect::<Result<_>>()?;
    for (n, run) in running.into_iter().enumerate() {
        let out = run.wait()?.ok()?;
        ensure!(out.out() == format!("I am {n}\n"), "{out}");
    }
    c.fixture.becomes_clean()
}

pub(crate) fn twenty_clients_wait_for_one_container(c: &mut Containers) -> Result<()> {
    let id = c.id("awaited");
    c.detached(&id, &["sleep", "100"])?;
    let clients = (0..20).map(|_| c.client(&id)).collect::<Result<Vec<_>>>()?;
    let statuses = thread::scope(|scope| {
        let waiters: Vec<_> =
            clients.iter().map(|client| scope.spawn(|| client.wait(&id))).collect();
        // Some wait before, some may only ask after the end: both must get the answer.
        c.kill(&id, "SIGKILL")?;
        waiters.into_iter().map(|waiter| joined(waiter.join())).collect::<Result<Vec<_>>>()
    })?;
    for answer in statuses {
        let answer = answer?;
        ensure!(answer.exit_status == 137 && answer.exited_at.is_some(), "{answer:?}");
    }
    ensure!(c.finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn twenty_attached_ctr_get_the_exit_status(c: &mut Containers) -> Result<()> {
    let id = c.id("watched");
    c.detached(&id, &["sleep", "100"])?;
    let attach = |_| c.fixture.ctr_command(["task", "attach", &id]).spawn();
    let attached = (0..20).map(attach).collect::<Result<Vec<Running>>>()?;
    c.kill(&id, "SIGKILL")?;
    let ends = attached.into_iter().map(Running::wait).collect::<Result<Vec<Output>>>()?;
    // Each deletes the task and its FIFOs when it sees the end, and the shim leaves: one that attaches only
    // then meets any stage of that. All who ask in time are `twenty_clients_wait_for_one_container`'s business.
    let gone = ["not found", "no such file", "ttrpc: closed"];
    let too_late = |end: &&Output| gone.iter().any(|reason| end.err().contains(reason));
    let (told, late): (Vec<_>, Vec<_>) = ends.iter().partition(|end| end.status == 137);
    ensure!(!told.is_empty() && late.iter().all(too_late), "{late:#?}");
    c.delete_container(&id)?;
    if !c.runtime.leaves_when_deleted_by_several() {
        c.fixture.end_shims();
    }
    c.fixture.becomes_clean()
}

fn joined<T>(result: thread::Result<T>) -> Result<T> {
    result.map_err(|_| anyhow::anyhow!("a waiter panicked"))
}
