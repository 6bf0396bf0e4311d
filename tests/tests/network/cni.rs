//! `ctr run --cni`, which sets up the network at `/proc/<task pid>/ns/net`; the cases are listed in `main.rs`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::cni::Network;
use runwasi_tests::network::{Namespace, same_links};
use runwasi_tests::{Containers, Running, poll_until};

pub(crate) fn ctr_run_cni_gives_an_address_and_takes_it_back(c: &mut Containers) -> Result<()> {
    let network = Network::new()?;
    let links = network.links_without_bridge()?;
    let (id, host) = (c.id("cni"), Namespace::own()?);
    let (ctr, address) = run(c, &network, &id)?;
    ensure!(network.taken().iter().any(|line| line.contains(&address)), "{:?}", network.taken());
    ensure!(host.addresses()?.is_empty(), "the host has got an address: {:?}", host.addresses());
    ensure!(
        host.links()?.iter().any(|link| link.contains(network.name())),
        "no bridge: {:?}",
        host.links()
    );
    c.kill(&id, "SIGKILL")?;
    ctr.wait()?.status_is(137)?;
    ensure!(network.taken().is_empty(), "{:?}", network.taken());
    c.fixture.becomes_clean()?;
    // The link to the container goes with the container's network.
    let same = || same_links(&links, &network.links_without_bridge().ok()?).ok();
    poll_until("the links from before", Duration::from_secs(20), same)
        .with_context(|| format!("{links:#?} before, now {:#?}", network.links_without_bridge()))?;
    drop(network);
    same_links(&links, &host.links()?)
}

pub(crate) fn containers_of_ctr_run_cni_have_different_addresses(c: &mut Containers) -> Result<()> {
    let network = Network::new()?;
    let ids = ["a", "b", "c"].map(|name| c.id(name));
    let running = ids.iter().map(|id| run(c, &network, id)).collect::<Result<Vec<_>>>()?;
    let mut addresses: Vec<_> = running.iter().map(|(_, address)| address).collect();
    addresses.sort();
    addresses.dedup();
    ensure!(addresses.len() == ids.len(), "{addresses:?}");
    for (id, (ctr, _)) in ids.iter().zip(running) {
        c.kill(id, "SIGKILL")?;
        ctr.wait()?.status_is(137)?;
    }
    ensure!(network.taken().is_empty(), "{:?}", network.taken());
    c.fixture.becomes_clean()
}

/// `ctr run --rm --cni` of a sleeping guest, and its address once it runs.
fn run(c: &Containers, network: &Network, id: &str) -> Result<(Running, String)> {
    // Makes the fixture look for this container's socket.
    c.fixture.socket(id);
    let address = c.fixture.address();
    let place =
        ["ctr", "-a", &address.to_string_lossy(), "-n", c.fixture.namespace()].map(str::to_owned);
    let what =
        ["run", "--rm", "--cni", "--runtime", c.runtime.name(), c.runtime.image().name(), id];
    let ctr = network
        .in_usual_places()?
        .args(place)
        .args(what)
        .args([c.runtime.guest(), "sleep", "100"])
        .spawn()?;
    let task = c.becomes(id, "RUNNING").with_context(|| ctr.stderr_so_far())?;
    let inside = Namespace::of(task.pid)?;
    ensure!(inside != Namespace::own()?, "{id} is in the host's network");
    let addresses = inside.addresses()?;
    let [address] = addresses.as_slice() else { anyhow::bail!("{id} has {addresses:?}") };
    ensure!(network.has(address), "{address} is not of the network");
    Ok((ctr, address.clone()))
}
