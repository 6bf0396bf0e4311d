//! How little a pod costs in OS processes and threads; the cases are listed in `main.rs`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use runwasi_tests::{Containers, poll_until, proc};

use crate::pod::{only_shim, three};

/// What the project promises for a shim whose guests sleep.
const THREADS: usize = 8;
/// Bytes of code that a shim whose guests sleep has in memory at most.
const LITTLE_CODE: u64 = 5 << 20;

pub(crate) fn no_container_has_an_os_process_of_its_own(c: &mut Containers) -> Result<()> {
    three(c, &c.id("pod"))?;
    let shim = only_shim(c)?;
    let processes = || -> Result<(Vec<u32>, Vec<u32>)> {
        let mut children = String::new();
        for task in fs::read_dir(format!("/proc/{shim}/task"))?.flatten() {
            // A thread that has ended meanwhile has none.
            children += &fs::read_to_string(task.path().join("children")).unwrap_or_default();
        }
        let children = children.split_whitespace().flat_map(str::parse).collect();
        Ok((children, proc::sandboxes_of(shim)))
    };
    // One for the pod, which runs nothing. A compiler waits for further work for a while.
    let only_the_sandboxs = || {
        let (children, sandboxes) = processes().ok()?;
        (sandboxes.len() == 1 && children == sandboxes).then_some(())
    };
    poll_until("no process but the sandbox's", Duration::from_secs(20), only_the_sandboxs)
        .with_context(|| format!("children, sandboxes: {:?}", processes()))
}

pub(crate) fn shim_has_at_most_eight_threads_while_a_guest_sleeps(
    c: &mut Containers,
) -> Result<()> {
    c.detached(&c.id("alone"), &["sleep", "100"])?;
    few_threads(c)
}

pub(crate) fn shim_has_at_most_eight_threads_with_a_pod_of_sleeping_guests(
    c: &mut Containers,
) -> Result<()> {
    three(c, &c.id("pod"))?;
    few_threads(c)
}

/// Also after a container that starts when the first ones sleep already.
pub(crate) fn code_leaves_the_resident_set_while_guests_sleep(c: &mut Containers) -> Result<()> {
    let pod = c.id("pod");
    three(c, &pod)?;
    little_code(c)?;
    c.join(&pod, "container", &c.id("late"), &["sleep", "100"])?;
    little_code(c)
}

/// Waits until little of the program is in memory, of the 13 MB that a start needs.
fn little_code(c: &Containers) -> Result<()> {
    let shim = only_shim(c)?;
    poll_until("little code in memory", Duration::from_secs(30), || {
        (proc::resident_code(shim).ok()? < LITTLE_CODE).then_some(())
    })
    .with_context(|| format!("{:?} bytes", proc::resident_code(shim)))
}

fn few_threads(c: &Containers) -> Result<()> {
    let shim = only_shim(c)?;
    // Those that mounted and loaded for the start leave a second later.
    poll_until("few threads", Duration::from_secs(20), || {
        (proc::threads(shim).ok()? <= THREADS).then_some(())
    })
    .with_context(|| format!("{:?} threads", proc::threads(shim)))
}
