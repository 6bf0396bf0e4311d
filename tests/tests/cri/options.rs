//! Runtime options in containerd's configuration; the case is listed in `main.rs`.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use runwasi_tests::{Pods, Runtime, Setup, check_pods_with, says};

/// With an options file of the runtime's, which the case writes.
#[track_caller]
pub(crate) fn check(runtime: Runtime, case: impl FnOnce(&mut Pods, &Path) -> Result<()> + Send) {
    let dir = tempfile::tempdir().expect("a directory for options");
    let file = dir.path().join("options.toml");
    // A table within the one of the runtime, which the configuration ends with.
    let table = r#"plugins."io.containerd.grpc.v1.cri".containerd.runtimes.under-test.options"#;
    let handler = format!("[{table}]\nConfigPath = {file:?}\n");
    check_pods_with(runtime, &Setup { handler: &handler, ..Setup::default() }, |pods| {
        case(pods, &file)
    });
}

pub(crate) fn options_of_containerds_configuration_reach_the_engine(
    pods: &mut Pods,
    options: &Path,
) -> Result<()> {
    fs::write(options, "[engine]\nsimd = true\nsimmd = true\n")?;
    let refused = match pods.run("wrong") {
        Ok(_) => anyhow::bail!("a pod with wrong options was made"),
        Err(error) => format!("{error:#}"),
    };
    says(&refused, &["options.toml:3: ", "engine.simmd"], &["unknown key"])?;
    fs::write(options, "[engine]\nsimd = true\n")?;
    let pod = pods.run("right")?;
    let container = pods.start_in(&pod, "hello", &["sleep", "100"])?;
    ensure!(pods.pid(&container)? > 0);
    pods.finish(&pod)?;
    pods.becomes_clean()
}
