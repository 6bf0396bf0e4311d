//! What containers of one pod share; the cases are listed in `main.rs`.

use anyhow::{Result, ensure};
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
