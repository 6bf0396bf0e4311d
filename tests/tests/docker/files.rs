//! Volumes, binds and tmpfs; the case is listed in `main.rs`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use anyhow::{Context, Result, ensure};
use runwasi_tests::Docker;

pub(crate) fn volumes_are_mounted(d: &mut Docker) -> Result<()> {
    let bound = d.dir().join("bound");
    fs::create_dir(&bound)?;
    fs::set_permissions(&bound, fs::Permissions::from_mode(0o777))?;
    let bind = format!("{}:/bound", bound.display());
    let run = |flags: &[&str], args: &[&str]| d.run(flags, args).run();
    run(&["-v", &bind, "-u", "1000:1001"], &["write", "/bound/a", "bound"])?.ok()?;
    let made = bound.join("a").metadata().context("file of the guest")?;
    ensure!((made.uid(), made.gid()) == (1000, 1001), "of {}:{}", made.uid(), made.gid());
    let read_only = format!("{bind}:ro");
    let refused = run(&["-v", &read_only], &["write", "/bound/a", "no"])?.refused()?;
    ensure!(refused.contains("Read-only file system"), "{refused}");
    // A volume of Docker's own outlives its container.
    run(&["-v", "kept:/kept"], &["write", "/kept/b", "kept"])?.ok()?;
    let out = run(&["-v", "kept:/kept:ro"], &["cat", "/kept/b"])?.ok()?.out();
    ensure!(out == "kept", "{out}");
    d.says(&["volume", "rm", "kept"])?;
    run(&["--tmpfs", "/fresh"], &["write", "/fresh/c", "x"])?.ok()?;
    let refused = run(&["--read-only"], &["write", "/d", "x"])?.refused()?;
    ensure!(refused.contains("Read-only file system"), "{refused}");
    run(&["--read-only", "--tmpfs", "/fresh"], &["write", "/fresh/c", "x"])?.ok()?;
    // Files that Docker itself makes and binds.
    let flags = ["--hostname", "named", "--add-host", "other:198.18.0.9"];
    ensure!(run(&flags, &["cat", "/etc/hostname"])?.ok()?.out() == "named\n");
    let hosts = run(&flags, &["cat", "/etc/hosts"])?.ok()?.out();
    ensure!(hosts.contains("198.18.0.9\tother"), "{hosts}");
    Ok(())
}
