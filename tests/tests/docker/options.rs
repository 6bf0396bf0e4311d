//! Engine settings in `daemon.json`; the case is listed in `main.rs`.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use runwasi_tests::docker::{Engine, check_docker_with};
use runwasi_tests::{Docker, Runtime, says};
use serde_json::json;

/// With the runtime under test once more, by the name `with-file`, whose file the case writes.
#[track_caller]
pub(crate) fn check(runtime: Runtime, case: impl FnOnce(&mut Docker, &Path) -> Result<()> + Send) {
    let dir = tempfile::tempdir().expect("a directory for options");
    let file = dir.path().join("options.toml");
    let settings = json!({"runtimes": {"with-file": {
        "runtimeType": runtime.name(),
        "options": {"ConfigPath": file},
    }}});
    check_docker_with(Engine::Newest, runtime, &settings, |docker| case(docker, &file));
}

pub(crate) fn file_of_config_path_reaches_the_engine(d: &mut Docker, options: &Path) -> Result<()> {
    let image = d.runtime.image().name();
    let run = || d.docker(["run", "--rm", "--runtime", "with-file", image]).run();
    let absent = run()?.status_is(125)?.err();
    says(&absent, &["options.toml"], &["no such file"])?;
    fs::write(options, "[engine]\ngcc = true\n")?;
    let unknown = run()?.status_is(125)?.err();
    says(&unknown, &["options.toml:2: ", "engine.gcc"], &["unknown key"])?;
    fs::write(options, "[engine]\ngc = false\n")?;
    let other = run()?;
    if d.runtime.needs_daemon() {
        // One engine for all, with settings of its own.
        says(&other.status_is(125)?.err(), &["engine.gc"], &["this node's daemon"])?;
        fs::write(options, "[engine]\ngc = true\n")?;
    } else {
        other.ok()?;
    }
    let hello = run()?.ok()?;
    ensure!(hello.out() == "Hello from wasm!\n", "{hello}");
    Ok(())
}
