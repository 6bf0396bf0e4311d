//! Which threads of the node daemon are in which network; the cases are listed in `main.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::network::Namespace;
use runwasi_tests::{Containers, poll_until, proc};

use crate::many::{Named, start};

pub(crate) fn no_thread_stays_outside_the_hosts_network(c: &mut Containers) -> Result<()> {
    let daemon = c.fixture.daemon()?.pid()?;
    let named =
        (0..5).map(|number| Named::new(c.fixture.dir(), number)).collect::<Result<Vec<_>>>()?;
    let flags: Vec<_> = named.iter().map(Named::flag).collect();
    let mut ids = Vec::new();
    let mut reported = BTreeSet::new();
    for (n, flag) in flags.iter().enumerate() {
        // Guests that keep all workers busy, so that one in a wrong network is seen.
        for (name, flags) in
            [("path", &["--with-ns", flag][..]), ("new", &[]), ("host", &["--net-host"])]
        {
            let id = c.id(&format!("{name}{n}"));
            start(c, flags, &id, &["spin"])?.wait()?.ok()?;
            let pid = pid(c, &id)?;
            ensure!(reported.insert(pid) && pid != daemon, "{pid} is not its own");
            let is_host = Namespace::of(pid)? == Namespace::own()?;
            ensure!(is_host == (name == "host"), "{pid} of {id} is elsewhere");
            ids.push(id);
            is_inside(daemon)?;
        }
    }
    let processes: BTreeSet<_> = proc::sandboxes_of(daemon).into_iter().collect();
    ensure!(processes == reported, "{processes:?} instead of {reported:?}");
    for _ in 0..50 {
        is_inside(daemon)?;
    }
    for id in &ids {
        ensure!(c.kill_and_finish(id)? == 137);
    }
    let gone = || proc::sandboxes_of(daemon).is_empty().then_some(());
    poll_until("end of the sandboxes' processes", Duration::from_secs(20), gone)?;
    drop(named);
    c.fixture.becomes_clean()
}

fn pid(c: &Containers, id: &str) -> Result<u32> {
    Ok(c.is_running(id)?.pid)
}

/// Demands that all threads of the daemon are in the network that it was started in. Those that make the processes
/// and the networks of sandboxes may be on their way back.
fn is_inside(daemon: u32) -> Result<()> {
    let host = Namespace::own()?;
    for thread in threads(daemon)? {
        let of = format!("/proc/{daemon}/task/{thread}");
        // One that ended meanwhile was nowhere.
        let Ok(name) = fs::read_link(format!("{of}/ns/net")) else { continue };
        let comm = fs::read_to_string(format!("{of}/comm")).unwrap_or_default();
        let is_back =
            name.as_os_str() == host.name() || ["namespaces\n", "sandboxes\n"].contains(&&*comm);
        ensure!(is_back, "{thread} ({comm}) is in {}", name.display());
    }
    Ok(())
}

fn threads(pid: u32) -> Result<BTreeSet<u32>> {
    let entries =
        fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("threads of {pid}"))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}
