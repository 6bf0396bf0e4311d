//! What a pod's configuration gives its containers: DNS, names, shared memory and parameters of the network; the cases are
//! listed in `main.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::cri::messages::{ContainerState, DnsConfig, NamespaceMode};
use runwasi_tests::network::Namespace;
use runwasi_tests::{Pod, Pods, poll_until, says};

const PARAMETER: &str = "net.ipv4.ip_unprivileged_port_start";

/// A parameter that containerd gives each pod.
const PINGS: &str = "/proc/sys/net/ipv4/ping_group_range";

pub(crate) fn containers_have_the_dns_and_the_names_of_their_pod(pods: &mut Pods) -> Result<()> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let dns = DnsConfig {
        servers: words(&["192.0.2.53", "192.0.2.54"]),
        searches: words(&["default.svc.test", "svc.test"]),
        options: words(&["ndots:5"]),
    };
    let pod = pods.run_as("named", NamespaceMode::Pod, |config| config.dns_config = Some(dns))?;
    let expected = "search default.svc.test svc.test\nnameserver 192.0.2.53\n\
                    nameserver 192.0.2.54\noptions ndots:5\n";
    shows(pods, &pod, "resolv", &["cat", "/etc/resolv.conf"], expected)?;
    shows(pods, &pod, "hostname", &["cat", "/etc/hostname"], "named\n")?;
    shows(pods, &pod, "hosts", &["cat", "/etc/hosts"], &fs::read_to_string("/etc/hosts")?)?;
    pods.finish(&pod)?;
    // Without a configuration of DNS it is the host's.
    let plain = pods.run("plain")?;
    let of_host = fs::read_to_string("/etc/resolv.conf")?;
    shows(pods, &plain, "resolv", &["cat", "/etc/resolv.conf"], &of_host)?;
    pods.finish(&plain)?;
    pods.becomes_clean()
}

pub(crate) fn containers_of_a_pod_share_its_memory(pods: &mut Pods) -> Result<()> {
    let (pod, other) = (pods.run("sharing")?, pods.run("other")?);
    shows(pods, &pod, "writer", &["write", "/dev/shm/x", "shared"], "")?;
    shows(pods, &pod, "reader", &["cat", "/dev/shm/x"], "shared")?;
    ended(pods, &other, "stranger", &["cat", "/dev/shm/x"], 1)?;
    // Its size is 64 MiB.
    ended(pods, &pod, "filler", &["fill", "/dev/shm/y", "66000"], 1)?;
    ended(pods, &other, "filler", &["fill", "/dev/shm/y", "65000"], 0)?;
    pods.finish(&pod)?;
    pods.finish(&other)?;
    pods.becomes_clean()
}

pub(crate) fn parameters_of_a_pod_are_those_of_its_network(pods: &mut Pods) -> Result<()> {
    let set = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let pod = pods.run_as("tuned", NamespaceMode::Pod, |config| {
        config.linux.get_or_insert_default().sysctls = set(PARAMETER, "77");
    })?;
    let file = format!("/proc/sys/{}", PARAMETER.replace('.', "/"));
    let read = read_inside(pods, &pod, &file)?;
    ensure!(read == "77\n" && fs::read_to_string(&file)? != read, "{read:?}");
    let pings = read_inside(pods, &pod, PINGS)?;
    ensure!(pings == "0\t2147483647\n", "{pings:?}");
    pods.finish(&pod)?;
    let plain = pods.run("plain")?;
    let read = read_inside(pods, &plain, &file)?;
    ensure!(read == "0\n", "{read:?}");
    pods.finish(&plain)?;
    // A parameter of the host, and one that the kernel does not know.
    for (name, named) in [("kernel.panic", "panic"), ("net.ipv4.no_such", "no_such")] {
        let refused = pods.run_as("wrong", NamespaceMode::Pod, |config| {
            config.linux.get_or_insert_default().sysctls = set(name, "1");
        });
        let error = refused.err().with_context(|| format!("{name} was set"))?;
        says(&format!("{error:#}"), &[named], &[])?;
    }
    pods.becomes_clean()
}

/// Reads a file of `/proc/sys` in the network of a pod.
fn read_inside(pods: &Pods, pod: &Pod, file: &str) -> Result<String> {
    Ok(Namespace::of(pods.pid_of_pod(pod)?)?.inside(|| fs::read_to_string(file))??)
}

/// Runs a container, which is to end with 0 and this output.
fn shows(pods: &Pods, pod: &Pod, name: &str, args: &[&str], expected: &str) -> Result<()> {
    let log = ended(pods, pod, name, args, 0)?;
    let text = || fs::read_to_string(&log).map(|log| text_of(&log)).unwrap_or_default();
    // containerd writes the log to its end a moment after it heard of the end.
    let seen = poll_until("the output", Duration::from_secs(20), || {
        (text() == expected.trim_end()).then_some(())
    });
    seen.with_context(|| format!("{:?} instead of {expected:?}", text()))
}

/// Runs a container to its end with this status. Gives the path of its log.
fn ended(pods: &Pods, pod: &Pod, name: &str, args: &[&str], status: i32) -> Result<String> {
    let container = pods.start_in(pod, name, args)?;
    let ended = pods.becomes(&container, ContainerState::Exited)?;
    let log = fs::read_to_string(&ended.log_path);
    ensure!(ended.exit_code == status, "{ended:?}: {log:?}");
    Ok(ended.log_path)
}

/// The text in a log of lines `TIME STREAM TAG TEXT`.
fn text_of(log: &str) -> String {
    let texts = log.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default());
    texts.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}
