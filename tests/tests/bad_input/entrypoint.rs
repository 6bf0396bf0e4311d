//! Processes and annotations that cannot be; the cases are listed in `main.rs`.

use std::fs;

use anyhow::Result;
use runwasi_tests::Containers;
use serde_json::{Value, json};

pub(crate) fn missing_program_is_refused(c: &mut Containers) -> Result<()> {
    // From an image, so that there is a mounted rootfs to leave behind.
    let image = c.runtime.image().name();
    let run = ["run", "--rm", "--runtime", c.runtime.name(), image, &c.id("bad"), "/nosuch.wasm"];
    let said = super::refused(c, c.fixture.ctr_command(run))?;
    super::says(&said, &["/nosuch.wasm"], super::MISSING)
}

pub(crate) fn empty_args_are_refused(c: &mut Containers) -> Result<()> {
    let said = with_config(c, &json!({ "args": [], "cwd": "/" }))?;
    super::says(&said, &["args"], &["empty", "must not be"])
}

pub(crate) fn missing_rootfs_is_refused(c: &mut Containers) -> Result<()> {
    let dir = c.fixture.dir().join("nowhere").to_string_lossy().into_owned();
    let run =
        ["run", "--rm", "--runtime", c.runtime.name(), "--rootfs", &dir, &c.id("bad"), "/a.wasm"];
    let said = super::refused(c, c.fixture.ctr_command(run))?;
    super::says(&said, &[&dir], super::MISSING)
}

pub(crate) fn file_as_working_directory_is_refused(c: &mut Containers) -> Result<()> {
    let run = c.run_command(&["--rm", "--cwd", "/etc/motd"], &c.id("bad"), &["echo", "x"]);
    let said = super::refused(c, run)?;
    super::says(&said, &["process.cwd", "/etc/motd"], &["not a directory"])
}

pub(crate) fn relative_working_directory_is_refused(c: &mut Containers) -> Result<()> {
    let said = with_config(c, &json!({ "args": [c.runtime.guest()], "cwd": "some/where" }))?;
    super::says(&said, &["cwd", "some/where"], &["absolute"])
}

pub(crate) fn unknown_container_type_is_refused(c: &mut Containers) -> Result<()> {
    annotation_is_refused(c, "io.kubernetes.cri.container-type", "nonsense", "nonsense")
}

pub(crate) fn sandbox_id_with_a_path_is_refused(c: &mut Containers) -> Result<()> {
    annotation_is_refused(c, "io.kubernetes.cri.sandbox-id", "../../etc", "../../etc")
}

pub(crate) fn sandbox_id_of_4000_characters_is_refused(c: &mut Containers) -> Result<()> {
    annotation_is_refused(c, "io.kubernetes.cri.sandbox-id", &"x".repeat(4000), "xxx")
}

pub(crate) fn misspelt_annotation_is_refused(c: &mut Containers) -> Result<()> {
    annotation_is_refused(c, "io.runwasi.memory.onlimit", "kill", "io.runwasi.memory.on-limit")
}

fn annotation_is_refused(c: &Containers, name: &str, value: &str, shown: &str) -> Result<()> {
    let run = c.run_command(
        &["--rm", "--annotation", &format!("{name}={value}")],
        &c.id("bad"),
        &["echo", "x"],
    );
    let said = super::refused(c, run)?;
    super::says(&said, &[name, shown], &[])
}

/// `ctr run --config`: containerd hands the specification over as it is.
fn with_config(c: &Containers, process: &Value) -> Result<String> {
    let root = c.fixture.dir().join("rootfs");
    fs::create_dir_all(&root)?;
    let mut process = process.clone();
    process["user"] = json!({ "uid": 0, "gid": 0 });
    let kinds = ["pid", "ipc", "uts", "mount"].map(|kind| json!({ "type": kind }));
    let config = json!({
        "ociVersion": "1.0.2",
        "process": process,
        "root": { "path": root },
        "linux": { "namespaces": kinds },
    });
    let file = c.fixture.dir().join("spec.json");
    fs::write(&file, config.to_string())?;
    let run = [
        "run",
        "--rm",
        "--runtime",
        c.runtime.name(),
        "--config",
        &file.to_string_lossy(),
        &c.id("bad"),
    ];
    super::refused(c, c.fixture.ctr_command(run))
}
