//! The daemon under the restrictions of its unit, without a systemd: capabilities, system calls,
//! namespaces and address families are read from the file that is installed.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use runwasi_tests::daemon::Settings;
use runwasi_tests::{Containerd, Containers, Daemon, Restrictions, Runtime, check_with, says};

fn unit() -> Result<Restrictions> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/containerd-wasmtimed.service");
    Restrictions::of_unit(&fs::read_to_string(&path).with_context(|| path.display().to_string())?)
}

#[test]
fn containers_of_all_kinds_run_under_the_units_restrictions() {
    let settings = Settings::default().restricted(unit().unwrap());
    check_with(Runtime::Wasmtimed, Containerd::builder().daemon(settings), |c| {
        ensure!(c.fixture.daemon()?.is_running());
        let out = c.run_command(&["--rm"], &c.id("hello"), &[]).run()?.ok()?;
        ensure!(out.out() == "Hello from wasm!\n", "{out}");
        user_writes_to_a_volume(c)?;
        file_of_the_image_is_copied_and_changed(c)?;
        single_file_is_mounted(c)?;
        exec_runs_beside_the_init(c)?;
        logger_is_started(c)?;
        c.fixture.becomes_clean()
    });
}

fn user_writes_to_a_volume(c: &Containers) -> Result<()> {
    let volume = c.fixture.dir().join("volume");
    fs::create_dir(&volume)?;
    fs::set_permissions(&volume, PermissionsExt::from_mode(0o777))?;
    let mount = format!("type=bind,src={},dst=/data,options=rbind:rw", volume.display());
    let id = c.id("user");
    c.detached_with(&["--mount", &mount], &id, &["sleep", "100"])?;
    // `ctr run` of containerd 1.6 has no such flag.
    let program = [c.runtime.guest(), "write", "/data/f", "mine"];
    c.exec_command(&["--user", "1000:1001"], &id, "user", &program).run()?.ok()?;
    ensure!(c.kill_and_finish(&id)? == 137);
    let written = fs::metadata(volume.join("f"))?;
    ensure!((written.uid(), written.gid()) == (1000, 1001), "{}:{}", written.uid(), written.gid());
    Ok(())
}

/// By overlayfs, with owner and mode.
fn file_of_the_image_is_copied_and_changed(c: &Containers) -> Result<()> {
    let id = c.id("copied");
    c.detached(&id, &["sleep", "100"])?;
    let guest = c.runtime.other_guest();
    c.exec(&id, "change", &["write", guest, "changed"])?.ok()?;
    let out = c.exec(&id, "read", &["cat", guest])?.ok()?;
    ensure!(out.out() == "changed", "{out}");
    ensure!(c.kill_and_finish(&id)? == 137);
    Ok(())
}

fn single_file_is_mounted(c: &Containers) -> Result<()> {
    let file = c.fixture.dir().join("hosts");
    fs::write(&file, "of the host\n")?;
    let mount = format!("type=bind,src={},dst=/etc/hosts,options=rbind:ro", file.display());
    let out = c
        .run_command(&["--rm", "--mount", &mount], &c.id("file"), &["cat", "/etc/hosts"])
        .run()?
        .ok()?;
    ensure!(out.out() == "of the host\n", "{out}");
    Ok(())
}

fn exec_runs_beside_the_init(c: &Containers) -> Result<()> {
    let id = c.id("init");
    c.detached(&id, &["sleep", "100"])?;
    let out = c.exec(&id, "exec", &["echo", "beside"])?.ok()?;
    ensure!(out.out() == "beside\n", "{out}");
    ensure!(c.kill_and_finish(&id)? == 137);
    Ok(())
}

/// A program of the host, as hooks are.
fn logger_is_started(c: &Containers) -> Result<()> {
    let (program, log) = (c.fixture.dir().join("logger"), c.fixture.dir().join("logged"));
    fs::write(&program, format!("#!/bin/sh\nexec 5>&-\ncat <&3 >{}\n", log.display()))?;
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755))?;
    let uri = format!("binary://{}", program.display());
    c.run_command(&["--rm", "--log-uri", &uri], &c.id("logged"), &["echo", "logged"])
        .run()?
        .ok()?;
    runwasi_tests::poll_until("the logger's file", runwasi_tests::shim::LIMIT, || {
        fs::read_to_string(&log).is_ok_and(|text| text == "logged\n").then_some(())
    })
}

/// Each of those without which no container would run.
const NEEDED: [&str; 4] = ["CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_SETUID", "CAP_SETGID"];

#[test]
fn daemon_without_a_needed_capability_does_not_start_and_names_it() -> Result<()> {
    for capability in NEEDED {
        let home = tempfile::tempdir()?;
        let settings = Settings::default().restricted(unit()?.without(capability)?);
        let refused = Daemon::start(home.path(), settings)
            .err()
            .with_context(|| format!("ready without {capability}"))?;
        says(&format!("{refused:#}"), &["containerd-wasmtimed: missing: ", capability], &[])?;
    }
    Ok(())
}

#[test]
fn shim_without_a_needed_capability_is_refused_with_its_name() {
    let restricted = Restrictions::default().without("CAP_SETGID").unwrap();
    check_with(Runtime::Wasmtime, Containerd::builder().restricted(restricted), |c| {
        let said =
            c.run_command(&["--rm"], &c.id("refused"), &[]).run()?.status_is(1)?.refused()?;
        says(&said, &["CAP_SETGID (groups of guests)"], &[])?;
        c.fixture.becomes_clean()
    });
}

/// Single files reach guests also where the kernel mounts nothing on a detached tree.
fn old_kernel(runtime: Runtime) -> Result<()> {
    let restricted = Restrictions::old_kernel()?;
    let fixture = Containerd::builder().restricted(restricted.clone());
    let fixture = if runtime.needs_daemon() {
        fixture.daemon(Settings::default().restricted(restricted))
    } else {
        fixture
    };
    check_with(runtime, fixture, |c| {
        single_file_is_mounted(c).and_then(|()| c.fixture.becomes_clean())
    });
    Ok(())
}

#[test]
fn single_file_is_mounted_on_an_old_kernel_by_the_shim() {
    old_kernel(Runtime::Wasmtime).unwrap();
}

#[test]
fn single_file_is_mounted_on_an_old_kernel_by_the_daemon() {
    old_kernel(Runtime::Wasmtimed).unwrap();
}
