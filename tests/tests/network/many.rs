//! Containers in many network namespaces at once; the cases are listed in `main.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::network::{Namespace, same_links, users_of};
use runwasi_tests::{Command, Containers, Running, poll_until};
use rustix::mount::{UnmountFlags, unmount};

/// Namespaces with a path, containers on the host's network, containers with a new network.
const NAMED: usize = 20;
const HOST: usize = 3;
const NEW: usize = 3;

const SLEEP: &[&str] = &["sleep", "100"];

/// A network namespace that is mounted at a path, as `ip netns` does it; with a link that tells it from others.
pub(crate) struct Named {
    path: PathBuf,
    namespace: Namespace,
    links: Vec<String>,
}

impl Named {
    pub(crate) fn new(dir: &Path, number: usize) -> Result<Self> {
        let path = dir.join(format!("net{number}"));
        fs::write(&path, "")?;
        Command::new("unshare").args([&format!("--net={}", path.display()), "true"]).run()?.ok()?;
        let mut named = Self { namespace: Namespace::at(&path)?, path, links: Vec::new() };
        let link = format!("link{number}");
        named.namespace.ip(&["link", "add", &link, "type", "bridge"])?;
        named.links = named.namespace.links()?;
        ensure!(
            named.links.iter().any(|line| line.contains(&format!("{link}:"))),
            "{:?}",
            named.links
        );
        Ok(named)
    }

    /// Demands that nothing of it has changed, and that it is still where it was.
    fn is_as_made(&self) -> Result<()> {
        ensure!(Namespace::at(&self.path)? == self.namespace, "{} is another", self.path.display());
        same_links(&self.links, &self.namespace.links()?)
            .with_context(|| self.path.display().to_string())
    }

    /// For `ctr run --with-ns`.
    pub(crate) fn flag(&self) -> String {
        format!("network:{}", self.path.display())
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        // What stays mounted, the fixture's check finds.
        unmount(&self.path, UnmountFlags::DETACH).ok();
    }
}

pub(crate) fn containers_in_twenty_namespaces_are_where_they_belong(
    c: &mut Containers,
) -> Result<()> {
    let host = Namespace::own()?;
    let links = host.links()?;
    let named = named(c, NAMED)?;
    let ids: Vec<_> = (0..NAMED + HOST + NEW).map(|n| c.id(&format!("many{n}"))).collect();
    let (in_named, others) = ids.split_at(NAMED);
    let (on_host, in_new) = others.split_at(HOST);
    let flags = named.iter().map(Named::flag).collect::<Vec<_>>();
    let mut starts = Vec::new();
    for (id, flag) in in_named.iter().zip(&flags) {
        starts.push(start(c, &["--with-ns", flag], id, SLEEP)?);
    }
    for id in on_host {
        starts.push(start(c, &["--net-host"], id, SLEEP)?);
    }
    for id in in_new {
        starts.push(start(c, &[], id, SLEEP)?);
    }
    for started in starts {
        started.wait()?.ok()?;
    }

    for (id, named) in in_named.iter().zip(&named) {
        let seen = network_of(c, id)?;
        ensure!(
            seen == named.namespace,
            "{id} is in {}, not in {}",
            seen.name(),
            named.path.display()
        );
        named.is_as_made()?;
    }
    for id in on_host {
        ensure!(network_of(c, id)? == host, "{id} is not in the host's network");
    }
    let new = in_new.iter().map(|id| network_of(c, id)).collect::<Result<Vec<_>>>()?;
    for (n, namespace) in new.iter().enumerate() {
        let others = named.iter().map(|named| &named.namespace).chain(&new[..n]).chain([&host]);
        ensure!(
            others.into_iter().all(|other| other != namespace),
            "{} is no new network",
            namespace.name()
        );
    }
    same_links(&links, &host.links()?)?;

    for id in &ids {
        ensure!(c.kill_and_finish(id)? == 137);
    }
    unused(named.iter().map(|named| &named.namespace).chain(&new))?;
    named.iter().try_for_each(Named::is_as_made)?;
    same_links(&links, &host.links()?)?;
    drop(named);
    c.fixture.becomes_clean()
}

pub(crate) fn namespace_is_used_again_after_its_container(c: &mut Containers) -> Result<()> {
    let named = Named::new(c.fixture.dir(), 0)?;
    let id = c.id("again");
    for _ in 0..5 {
        start(c, &["--with-ns", &named.flag()], &id, SLEEP)?.wait()?.ok()?;
        ensure!(network_of(c, &id)? == named.namespace);
        ensure!(c.kill_and_finish(&id)? == 137);
        unused([&named.namespace])?;
        named.is_as_made()?;
    }
    // Two at once, too.
    let ids = ["a", "b"].map(|name| c.id(name));
    for id in &ids {
        start(c, &["--with-ns", &named.flag()], id, SLEEP)?.wait()?.ok()?;
        ensure!(network_of(c, id)? == named.namespace);
    }
    ensure!(c.kill_and_finish(&ids[0])? == 137);
    ensure!(
        network_of(c, &ids[1])? == named.namespace,
        "the second lost its network with the first"
    );
    ensure!(c.kill_and_finish(&ids[1])? == 137);
    unused([&named.namespace])?;
    drop(named);
    c.fixture.becomes_clean()
}

pub(crate) fn network_of_a_container_is_joined_by_its_pid_and_outlives_it(
    c: &mut Containers,
) -> Result<()> {
    let (first, second) = (c.id("first"), c.id("second"));
    start(c, &[], &first, SLEEP)?.wait()?.ok()?;
    let network = network_of(c, &first)?;
    // As the CRI names a pod's network to its containers.
    let path = format!("network:/proc/{}/ns/net", c.is_running(&first)?.pid);
    start(c, &["--with-ns", &path], &second, SLEEP)?.wait()?.ok()?;
    ensure!(network_of(c, &second)? == network);
    ensure!(c.kill_and_finish(&first)? == 137);
    ensure!(network_of(c, &second)? == network, "the second lost its network with the first");
    ensure!(c.kill_and_finish(&second)? == 137);
    unused([&network])?;
    c.fixture.becomes_clean()
}

pub(crate) fn killed_containers_hold_no_namespace(c: &mut Containers) -> Result<()> {
    let host = Namespace::own()?;
    let mut ended = Vec::new();
    for n in 0..8 {
        // Killed and removed, or removed while it runs, in turn.
        let id = c.id(&format!("ends{n}"));
        start(c, &[], &id, SLEEP)?.wait()?.ok()?;
        let namespace = network_of(c, &id)?;
        ensure!(namespace != host, "{id} is in the host's network");
        if n % 2 == 0 {
            ensure!(c.kill_and_finish(&id)? == 137);
        } else {
            c.delete_task_by_force(&id)?;
            c.delete_container(&id)?;
        }
        ended.push(namespace);
    }
    unused(&ended)?;
    c.fixture.becomes_clean()
}

/// That many namespaces in the fixture's directory.
fn named(c: &Containers, count: usize) -> Result<Vec<Named>> {
    (0..count).map(|number| Named::new(c.fixture.dir(), number)).collect()
}

/// Begins to start a guest.
pub(crate) fn start(c: &Containers, flags: &[&str], id: &str, args: &[&str]) -> Result<Running> {
    c.run_command(&[&["-d"], flags].concat(), id, args).spawn()
}

/// The network of the pid that `ctr` shows.
fn network_of(c: &Containers, id: &str) -> Result<Namespace> {
    Namespace::of(c.is_running(id)?.pid)
}

/// Waits until nobody is in these namespaces or holds them open.
fn unused<'a>(namespaces: impl IntoIterator<Item = &'a Namespace>) -> Result<()> {
    let namespaces: Vec<_> = namespaces.into_iter().collect();
    let none = || users_of(&namespaces).is_empty().then_some(());
    let gone = poll_until("unused namespaces", Duration::from_secs(20), none);
    gone.with_context(|| format!("used by {:#?}", users_of(&namespaces)))
}
