//! Programs and settings of `config.json` that only a native container has; the cases are listed in `main.rs`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Result, ensure};
use runwasi_tests::Containers;
use runwasi_tests::bundle::Bundle;
use serde_json::json;

/// A bundle with the guest as `/wasmtest`.
fn bundle(c: &Containers) -> Result<Bundle> {
    let cgroup = format!("/{}", c.fixture.namespace());
    let mut bundle = Bundle::create(c.fixture.dir().join("b"), &[], &cgroup)?;
    let root = bundle.path().join("rootfs");
    fs::copy(c.runtime.guest_file(), root.join("wasmtest"))?;
    fs::create_dir_all(root.join("proc"))?;
    bundle.config["root"]["path"] = json!(root);
    Ok(bundle)
}

pub(crate) fn script_is_run_by_its_interpreter(c: &mut Containers) -> Result<()> {
    let mut bundle = bundle(c)?;
    let script = bundle.path().join("rootfs/script");
    fs::write(&script, "#!/wasmtest echo\n")?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let id = c.id("script");
    let out = c.run_config(&mut bundle, &["--rm"], &id, &["/script", "more"])?.run()?.ok()?;
    ensure!(out.out() == "/script more\n", "{out}");
    c.fixture.becomes_clean()
}

/// A wasm container with such a hook is refused.
pub(crate) fn hook_in_the_namespaces_of_the_container_runs(c: &mut Containers) -> Result<()> {
    let mut bundle = bundle(c)?;
    let told = c.fixture.dir().join("told");
    let hook =
        json!({ "path": "/bin/sh", "args": ["sh", "-c", format!("echo x >{}", told.display())] });
    bundle.config["hooks"] = json!({ "createContainer": [hook] });
    let out = c.run_config(&mut bundle, &["--rm"], &c.id("hook"), &["/wasmtest", "echo", "ran"])?;
    ensure!(out.run()?.ok()?.out() == "ran\n");
    ensure!(fs::read_to_string(&told)? == "x\n");
    c.fixture.becomes_clean()
}

/// As `docker run --init` does it: the init is native in any case.
pub(crate) fn init_of_a_client_is_native_if_its_program_is(c: &mut Containers) -> Result<()> {
    let mut bundle = bundle(c)?;
    let root = bundle.path().join("rootfs");
    fs::create_dir_all(root.join("sbin"))?;
    fs::copy(c.runtime.guest_file(), root.join("sbin/docker-init"))?;
    let program = ["/sbin/docker-init", "--", "/wasmtest"];
    let said = c.run_config(&mut bundle, &["--rm"], &c.id("init"), &program)?.run()?;
    // The guest in the place of the init knows no command `--`, which shows that it ran.
    let said = said.status_is(2)?.err();
    ensure!(said.contains("cannot make sense of"), "{said}");
    fs::write(root.join("m.wat"), "(module (func (export \"_start\")))")?;
    let program = ["/sbin/docker-init", "--", "/m.wat"];
    let said =
        c.run_config(&mut bundle, &["--rm"], &c.id("no-init"), &program)?.run()?.refused()?;
    ensure!(said.contains("without --init"), "{said}");
    ensure!(!Path::new("/run/runwasi/native").join(c.fixture.namespace()).exists());
    c.fixture.becomes_clean()
}
