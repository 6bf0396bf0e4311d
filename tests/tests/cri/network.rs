//! The networks of pods, by the pids that containerd was told; the cases are listed in `main.rs`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::cri::messages::NamespaceMode;
use runwasi_tests::network::{Namespace, users_of};
use runwasi_tests::{Image, Pod, Pods, http, poll_until};
use serde_json::Value;

pub(crate) fn pod_has_a_network_of_its_own_with_an_address(pods: &mut Pods) -> Result<()> {
    let host = Namespace::own()?;
    let pod = pods.run("own")?;
    let network = Namespace::of(pods.pid_of_pod(&pod)?)?;
    ensure!(network != host, "the pod is in the host's network");
    let address = pods.address(&pod)?;
    ensure!(pods.network.has(&address), "{address} is not of the pods' network");
    ensure!(
        network.addresses()? == [address.clone()],
        "{:?} instead of {address}",
        network.addresses()
    );
    ensure!(host.addresses()?.is_empty(), "the host has got an address: {:?}", host.addresses());
    // The CRI made the network, and named it to the pod's own container by its path.
    if !pods.managed {
        let path = path_of_network(&pods.config(&pod.id)?)?.context("no path for the pod")?;
        ensure!(Namespace::at(path.as_ref())? == network, "the pod is not in {path}");
    }
    drop(network);
    pods.finish(&pod)?;
    pods.becomes_clean()
}

pub(crate) fn containers_are_in_the_network_of_their_pod(pods: &mut Pods) -> Result<()> {
    let pod = pods.run("shared")?;
    let pid = pods.pid_of_pod(&pod)?;
    let network = Namespace::of(pid)?;
    for name in ["a", "b"] {
        let container = pods.start_in(&pod, name, &["sleep", "100"])?;
        let path =
            path_of_network(&pods.config(&container)?)?.context("no path for the container")?;
        ensure!(path == format!("/proc/{pid}/ns/net"), "{path}, but the pod's pid is {pid}");
        ensure!(Namespace::of(pods.pid(&container)?)? == network, "{name} is elsewhere");
    }
    drop(network);
    pods.finish(&pod)?;
    pods.becomes_clean()
}

pub(crate) fn pods_are_in_different_networks(pods: &mut Pods) -> Result<()> {
    let host = Namespace::own()?;
    let mut seen = vec![(host.name().to_owned(), String::new())];
    let mut all = Vec::new();
    for name in ["one", "two", "three"] {
        let pod = pods.run(name)?;
        let network = Namespace::of(pods.pid_of_pod(&pod)?)?;
        let container = pods.start_in(&pod, "app", &["sleep", "100"])?;
        ensure!(
            Namespace::of(pods.pid(&container)?)? == network,
            "{name}'s container is elsewhere"
        );
        let address = pods.address(&pod)?;
        ensure!(
            network.addresses()? == [address.clone()],
            "{:?} instead of {address}",
            network.addresses()
        );
        let known = seen.iter().any(|(other, taken)| other == network.name() || *taken == address);
        ensure!(!known, "{name} has {} and {address}, but there are {seen:?}", network.name());
        seen.push((network.name().to_owned(), address));
        all.push(pod);
    }
    // The networks of those that stay do not change when another goes.
    pods.finish(&all[0])?;
    for (pod, (name, address)) in all.iter().zip(&seen[1..]).skip(1) {
        let network = Namespace::of(pods.pid_of_pod(pod)?)?;
        ensure!(
            network.name() == name && network.addresses()? == [address.clone()],
            "{name} has changed"
        );
    }
    for pod in &all[1..] {
        pods.finish(pod)?;
    }
    pods.becomes_clean()
}

pub(crate) fn pod_on_the_hosts_network_is_in_the_hosts(pods: &mut Pods) -> Result<()> {
    let host = Namespace::own()?;
    let links = host.links()?;
    let pod = pods.run_in("host", NamespaceMode::Node)?;
    let container = pods.start_in(&pod, "app", &["sleep", "100"])?;
    for pid in [pods.pid_of_pod(&pod)?, pods.pid(&container)?] {
        ensure!(Namespace::of(pid)? == host, "{pid} is not in the host's network");
    }
    ensure!(path_of_network(&pods.config(&pod.id)?)?.is_none(), "a network for a pod without");
    // The CRI names the pod's network even so; it must not be taken for one of the pod's own.
    let path = path_of_network(&pods.config(&container)?)?.context("no path for the container")?;
    ensure!(path == format!("/proc/{}/ns/net", pods.pid_of_pod(&pod)?), "{path}");
    ensure!(pods.address(&pod)?.is_empty(), "{}", pods.address(&pod)?);
    ensure!(host.links()? == links && pods.network.taken().is_empty());
    pods.finish(&pod)?;
    ensure!(host.links()? == links);
    pods.becomes_clean()
}

pub(crate) fn networks_vanish_with_their_pods(pods: &mut Pods) -> Result<()> {
    let begin = |n: usize| -> Result<(Pod, Namespace)> {
        let pod = pods.run(&format!("pod{n}"))?;
        pods.start_in(&pod, "app", &["sleep", "100"])?;
        let network = Namespace::of(pods.pid_of_pod(&pod)?)?;
        Ok((pod, network))
    };
    let all = (0..3).map(begin).collect::<Result<Vec<_>>>()?;
    let networks: Vec<_> = all.iter().map(|(_, network)| network).collect();
    let used = users_of(&networks);
    for network in &networks {
        ensure!(
            used.iter().any(|line| line.starts_with(network.name())),
            "{} is used by nobody",
            network.name()
        );
    }
    for (pod, _) in &all {
        pods.finish(pod)?;
    }
    let unused = || users_of(&networks).is_empty().then_some(());
    poll_until("unused networks", Duration::from_secs(20), unused)
        .with_context(|| format!("{:#?}", users_of(&networks)))?;
    drop(all);
    pods.becomes_clean()
}

pub(crate) fn server_in_a_pod_answers_at_the_pods_address(pods: &mut Pods) -> Result<()> {
    pods.load_image(Image::Wasmguests)?;
    let (server, client) = (pods.run("server")?, pods.run("client")?);
    let container =
        pods.create_of(&server, "web", Image::Wasmguests.name(), &["/http_hello.wasm"])?;
    pods.cri.start(&container)?;
    let address = format!("{}:8080", pods.address(&server)?).parse()?;
    let answer = Namespace::of(pods.pid_of_pod(&client)?)?.inside(|| http::get(address, "/"))??;
    ensure!(answer.body == "Hello from wasm!\n", "{answer:?}");
    pods.finish(&server)?;
    pods.finish(&client)?;
    pods.becomes_clean()
}

/// The path of the network namespace in a `config.json`; none if it has no such namespace.
fn path_of_network(config: &Value) -> Result<Option<String>> {
    let namespaces = config["linux"]["namespaces"].as_array().context("no namespaces")?;
    let Some(network) = namespaces.iter().find(|one| one["type"] == "network") else {
        return Ok(None);
    };
    Ok(Some(network["path"].as_str().context("a new network namespace")?.to_owned()))
}
