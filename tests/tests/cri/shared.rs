//! What containers of one pod share; the cases are listed in `main.rs`.

use anyhow::{Context, Result, ensure};
use runwasi_tests::Pods;

pub(crate) fn containers_of_a_pod_share_its_pid(pods: &mut Pods) -> Result<()> {
    let (one, two) = (pods.run("one")?, pods.run("two")?);
    for pod in [&one, &two] {
        for name in ["a", "b"] {
            let container = pods.start_in(pod, name, &["sleep", "100"])?;
            ensure!(pods.pid(&container)? == pods.pid_of_pod(pod)?);
        }
    }
    ensure!(pods.pid_of_pod(&one)? != pods.pid_of_pod(&two)?);
    pods.finish(&one)?;
    pods.finish(&two)?;
    pods.becomes_clean()
}

pub(crate) fn annotations_of_a_pod_reach_the_runtime(pods: &mut Pods) -> Result<()> {
    let known = "io.runwasi.memory.on-limit";
    let pod = pods.run_annotated("annotated", known, "refuse")?;
    let container = pods.start_in(&pod, "guest", &["sleep", "100"])?;
    let annotations = &pods.config(&container)?["annotations"];
    ensure!(annotations[known] == "refuse", "{annotations}");
    pods.finish(&pod)?;
    let misspelt = "io.runwasi.network.outbond";
    let refused = pods.run_annotated("misspelt", misspelt, "none");
    let said = format!("{:#}", refused.err().context("a misspelt annotation was accepted")?);
    ensure!(said.contains(misspelt) && said.contains(known), "{said}");
    pods.becomes_clean()
}
