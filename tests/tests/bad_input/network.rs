//! Network namespaces in `config.json` that are none; the cases are listed in `main.rs`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use runwasi_tests::bundle::Bundle;
use runwasi_tests::shim::{LIMIT, TaskClient};
use runwasi_tests::{Command, ShimDriver, poll_until};
use serde_json::json;

/// What the error must name besides the path.
const FIELD: &str = "linux.namespaces[network].path";

pub(crate) fn missing_network_namespace_is_refused(p: &ShimDriver) -> Result<()> {
    namespace_is_refused(p, &p.dir().join("nowhere"), &["no such file"])
}

pub(crate) fn file_as_network_namespace_is_refused(p: &ShimDriver) -> Result<()> {
    let file = p.dir().join("file");
    fs::write(&file, "")?;
    namespace_is_refused(p, &file, &["not a namespace", "not a network namespace"])
}

pub(crate) fn fifo_as_network_namespace_is_refused(p: &ShimDriver) -> Result<()> {
    let fifo = p.dir().join("fifo");
    runwasi_tests::bundle::fifo(&fifo)?;
    namespace_is_refused(p, &fifo, &["not a namespace", "not a network namespace"])
}

pub(crate) fn namespace_of_another_kind_is_refused(p: &ShimDriver) -> Result<()> {
    namespace_is_refused(p, Path::new("/proc/self/ns/uts"), &["not a network namespace"])
}

/// The surroundings of the cases above are right: with them a good namespace becomes the shim's.
pub(crate) fn network_namespace_becomes_the_shims(p: &ShimDriver) -> Result<()> {
    let holder = Command::new("unshare").args(["--net", "sleep", "60"]).spawn()?;
    let namespace = PathBuf::from(format!("/proc/{}/ns/net", holder.pid()));
    let host = fs::read_link("/proc/self/ns/net")?;
    let new = || fs::read_link(&namespace).ok().filter(|name| *name != host);
    let wanted = poll_until("a network namespace", LIMIT, new)?;
    let bundle = with_network(p, &namespace)?;
    let client = TaskClient::connect(p.start("net", bundle.path())?.ok()?.out().trim())?;
    super::socket::serves(&client)?;
    // Its process may not have taken its name yet, by which it is found.
    let seen = || {
        let pid = p.shims().first()?.network;
        fs::read_link(format!("/proc/{pid}/ns/net")).ok().filter(|name| *name == wanted)
    };
    poll_until("the sandbox's process in the namespace", LIMIT, seen)?;
    p.finish(&client, "net", bundle.path())?;
    p.becomes_clean()
}

fn namespace_is_refused(p: &ShimDriver, path: &Path, reasons: &[&str]) -> Result<()> {
    let bundle = with_network(p, path)?;
    let said = p.start("net", bundle.path())?.refused()?;
    super::says(&said, &["container net: ", FIELD, &path.to_string_lossy()], reasons)?;
    p.becomes_clean()
}

fn with_network(p: &ShimDriver, path: &Path) -> Result<Bundle> {
    let mut bundle = p.bundle("net", &["/a"])?;
    let kinds = bundle.config["linux"]["namespaces"].as_array_mut().context("no namespaces")?;
    kinds.push(json!({ "type": "network", "path": path }));
    bundle.write()?;
    Ok(bundle)
}
