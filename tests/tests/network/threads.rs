//! Which threads of the node daemon are in which network; the cases are listed in `main.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::network::Namespace;
use runwasi_tests::{Containers, poll_until};

use crate::many::{Named, start};

pub(crate) fn only_reported_threads_are_outside_the_hosts_network(
    c: &mut Containers,
) -> Result<()> {
    let daemon = c.fixture.daemon()?.pid()?;
    let named =
        (0..5).map(|number| Named::new(c.fixture.dir(), number)).collect::<Result<Vec<_>>>()?;
    let flags: Vec<_> = named.iter().map(Named::flag).collect();
    let (mut ids, mut reported) = (Vec::new(), BTreeSet::new());
    for (n, flag) in flags.iter().enumerate() {
        // Guests that keep all workers busy, so that one in a wrong network is seen.
        for (name, flags) in
            [("path", &["--with-ns", flag][..]), ("new", &[]), ("host", &["--net-host"])]
        {
            let id = c.id(&format!("{name}{n}"));
            start(c, flags, &id, &["spin"])?.wait()?.ok()?;
            if name != "host" {
                reported.insert(pid(c, &id)?);
            }
            ids.push(id);
            ensure!(outside(daemon)? == reported, "{:?} instead of {reported:?}", outside(daemon));
        }
    }
    ensure!(reported.len() == 2 * named.len(), "a thread for each network: {reported:?}");
    for _ in 0..50 {
        ensure!(outside(daemon)? == reported, "{:?} instead of {reported:?}", outside(daemon));
    }
    for id in &ids {
        ensure!(c.kill_and_finish(id)? == 137);
    }
    let all_back = || outside(daemon).ok()?.is_empty().then_some(());
    poll_until("all threads in the host's network", Duration::from_secs(20), all_back)?;
    drop(named);
    c.fixture.becomes_clean()
}

pub(crate) fn pid_on_the_hosts_network_is_the_daemons(c: &mut Containers) -> Result<()> {
    let daemon = c.fixture.daemon()?.pid()?;
    for name in ["a", "b"] {
        let id = c.id(name);
        start(c, &["--net-host"], &id, &["sleep", "100"])?.wait()?.ok()?;
        ensure!(pid(c, &id)? == daemon, "{} is not {daemon}", pid(c, &id)?);
    }
    let id = c.id("new");
    start(c, &[], &id, &["sleep", "100"])?.wait()?.ok()?;
    let own = pid(c, &id)?;
    ensure!(own != daemon && threads(daemon)?.contains(&own), "{own} is no thread of {daemon}");
    Ok(())
}

fn pid(c: &Containers, id: &str) -> Result<u32> {
    Ok(c.is_running(id)?.pid)
}

/// The threads that are not in the network that the daemon was started in.
fn outside(daemon: u32) -> Result<BTreeSet<u32>> {
    let host = Namespace::own()?;
    let foreign = |thread: &u32| {
        // One that ended meanwhile was nowhere.
        let name = fs::read_link(format!("/proc/{daemon}/task/{thread}/ns/net"));
        name.is_ok_and(|name| name.as_os_str() != host.name())
    };
    Ok(threads(daemon)?.into_iter().filter(foreign).collect())
}

fn threads(pid: u32) -> Result<BTreeSet<u32>> {
    let entries =
        fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("threads of {pid}"))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}
