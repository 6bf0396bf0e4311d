//! The fixture of pods tested: what is left of pods is found, each kind of thing; not a case of a runtime.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use runwasi_tests::network::Namespace;
use runwasi_tests::{Pods, Runtime, check_pods, on_own_host};

#[test]
fn what_pods_leave_is_found() {
    check_pods(Runtime::Runc, |pods| {
        pods.becomes_clean()?;
        let host = Namespace::own()?;
        let pod = pods.run("left")?;
        let made = pods.leftovers();
        // The namespace's mount, the link to the pod, its address and its bundle are there as long as the pod is.
        for kind in ["mount ", "bundle ", "lease ", "links have changed", "shim "] {
            ensure!(made.iter().any(|line| line.starts_with(kind)), "no {kind:?} in {made:#?}");
        }
        pods.finish(&pod)?;
        pods.becomes_clean()?;

        host.ip(&["link", "add", "left0", "type", "bridge"])?;
        found(pods, "left0")?;
        host.ip(&["link", "delete", "left0"])?;
        let socket = pods.socket(&pod.id);
        fs::create_dir_all(socket.parent().context("no parent")?)?;
        fs::write(&socket, "")?;
        found(pods, &socket.to_string_lossy())?;
        fs::remove_file(&socket)?;
        pods.becomes_clean()
    });
}

#[test]
fn host_of_a_tests_own_is_not_the_machine() -> Result<()> {
    let machine = Namespace::own()?;
    on_own_host(|| -> Result<()> {
        let host = Namespace::own()?;
        ensure!(host != machine, "the test is in the machine's network");
        let made = host.ip(&["link", "add", "own0", "type", "bridge"])?;
        ensure!(host.links()?.iter().any(|link| link.contains("own0")), "{made:?}");
        ensure!(!machine.links()?.iter().any(|link| link.contains("own0")));
        Ok(())
    })?;
    ensure!(Namespace::own()? == machine, "this thread has moved");
    ensure!(Namespace::at(Path::new("/proc/self/ns/net"))? == machine);
    Ok(())
}

fn found(pods: &Pods, what: &str) -> Result<()> {
    let left = pods.leftovers();
    ensure!(left.len() == 1 && left[0].contains(what), "{what} is not what is left: {left:#?}");
    Ok(())
}
