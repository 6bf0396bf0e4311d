//! Programs and settings of `config.json` that only a native container has; the cases are listed in `main.rs`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use runwasi_tests::bundle::Bundle;
use runwasi_tests::{Containers, ShimDriver};
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

/// A cgroup that is removed with the value, after its last process.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make(name: &str) -> Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let is_v2 = root.join("cgroup.procs").exists();
        let place = if is_v2 { root.join(name) } else { root.join("devices").join(name) };
        fs::create_dir_all(&place)?;
        Ok(Self(place))
    }

    fn processes(&self) -> Result<Vec<String>> {
        let listed = fs::read_to_string(self.0.join("cgroup.procs"))?;
        Ok(listed.lines().map(str::to_owned).collect())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Fails if a failed test has left a process in it.
        fs::remove_dir(&self.0).ok();
    }
}

/// The cgroup of a shim (`shim_cgroup`): the program beside a native container is the native runtime.
pub(crate) fn options_of_runc_choose_the_cgroup_of_the_native_runtime(
    p: &ShimDriver,
) -> Result<()> {
    let name = format!("{}-shim", p.namespace());
    let cgroup = Cgroup::make(&name)?;
    let bundle = p.bundle("c", &["/wasmtest", "sleep", "100"])?;
    bundle.add_guests()?;
    let client = p.connect("c", bundle.path())?;
    let path = format!("/{name}");
    // Field 3 of `containerd.runc.v1.Options`.
    let value = [&[0x1a, u8::try_from(path.len())?], path.as_bytes()].concat();
    let options =
        Any { type_url: "containerd.runc.v1.Options".to_owned(), value, ..Any::default() };
    client.create_with_options("c", bundle.path(), Some(options))?;
    let processes = cgroup.processes()?;
    ensure!(processes.len() == 1, "{processes:?}");
    let command = fs::read(format!("/proc/{}/cmdline", processes[0]))?;
    let command = String::from_utf8_lossy(&command).into_owned();
    ensure!(command.contains("c--native"), "{command}");
    // As runc's own shim: one above the score of what starts shims.
    let score = |pid: &str| -> Result<i32> {
        Ok(fs::read_to_string(format!("/proc/{pid}/oom_score_adj"))?.trim().parse()?)
    };
    ensure!(score(&processes[0])? == score("self")? + 1);
    p.finish(&client, "c", bundle.path())?;
    p.becomes_clean()
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
