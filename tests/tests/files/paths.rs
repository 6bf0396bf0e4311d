//! Paths with links, and the errors of file systems; the cases are listed in `main.rs`.

use std::fs;
use std::os::unix::fs::symlink;

use anyhow::{Result, ensure};
use runwasi_tests::{Containers, paths_component};
use serde_json::json;

use crate::fixture::Tree;

/// A tree whose `/var/run` is an absolute link, as in most images, with a volume behind it, as
/// Kubernetes mounts a service account.
fn with_links(c: &Containers) -> Result<Tree> {
    let tree = Tree::new(c)?;
    for directory in ["run", "var/log"] {
        fs::create_dir_all(tree.inside(directory))?;
    }
    symlink("/run", tree.inside("var/run"))?;
    symlink("/run/f", tree.inside("var/log/f"))?;
    symlink("/run/missing", tree.inside("var/log/missing"))?;
    fs::write(tree.inside("run/f"), "found")?;
    let account = tree.outside("account");
    fs::create_dir_all(account.join("..2026"))?;
    fs::write(account.join("..2026/token"), "secret")?;
    symlink("..2026", account.join("..data"))?;
    symlink("..data/token", account.join("token"))?;
    Ok(tree.mount(json!({
        "destination": "/var/run/secrets/kubernetes.io/serviceaccount",
        "type": "bind", "source": "account", "options": ["rbind", "ro"],
    })))
}

pub(crate) fn absolute_links_resolve_inside_the_container(c: &mut Containers) -> Result<()> {
    let mut tree = with_links(c)?;
    for (path, wanted) in [
        ("/var/run/f", "found"),
        ("/var/log/f", "found"),
        ("/var/run/secrets/kubernetes.io/serviceaccount/token", "secret"),
    ] {
        let out = tree.run(c, &["cat", path])?.ok()?;
        ensure!(out.out() == wanted, "{path}: {out}");
    }
    tree.run(c, &["write", "/var/run/new", "through"])?.ok()?;
    ensure!(fs::read_to_string(tree.inside("run/new"))? == "through");
    tree.run(c, &["write", "/var/log/missing", "made"])?.ok()?;
    ensure!(fs::read_to_string(tree.inside("run/missing"))? == "made");
    tree.run(c, &["link", "/var/run/new", "/var/run/second"])?.ok()?;
    tree.run(c, &["rename", "/var/run/second", "/var/log/moved"])?.ok()?;
    ensure!(fs::read_to_string(tree.inside("var/log/moved"))? == "through");
    let listed = tree.run(c, &["ls", "/var/run"])?.ok()?.out();
    ensure!(listed == "f\nmissing\nnew\nsecrets\n", "{listed}");
    fs::create_dir_all(tree.inside("run/deep/deeper"))?;
    tree.run(c, &["remove-all", "/var/run/deep"])?.ok()?;
    ensure!(!tree.inside("run/deep").exists());
    Ok(())
}

/// Number of an error, of the kernel and of preview 1.
fn number(c: &Containers, native: i32, wasm: i32) -> String {
    format!("(os error {})", if c.runtime.is_wasm() { wasm } else { native })
}

pub(crate) fn read_only_file_systems_and_other_mounts_are_told_as_such(
    c: &mut Containers,
) -> Result<()> {
    let mut tree = with_links(c)?;
    fs::write(tree.inside("etc/f"), "x")?;
    let across = number(c, 18, 75);
    for command in ["link", "rename"] {
        let out = tree.run(c, &[command, "/etc/f", "/data/f"])?.status_is(1)?;
        ensure!(out.err().contains(&across), "{command}: {out}");
    }
    tree.bundle.config["root"]["readonly"] = json!(true);
    let read_only = number(c, 30, 69);
    for command in [
        vec!["write", "/etc/new", "x"],
        vec!["write", "/etc/f", "x"],
        vec!["link", "/etc/f", "/etc/second"],
        vec!["rename", "/etc/f", "/etc/second"],
        vec!["remove-all", "/etc"],
        vec!["write", "/var/run/secrets/kubernetes.io/serviceaccount/token", "x"],
    ] {
        let out = tree.run(c, &command)?.status_is(1)?;
        ensure!(out.err().contains(&read_only), "{command:?}: {out}");
    }
    Ok(())
}

pub(crate) fn components_of_both_versions_see_links_and_errors(c: &mut Containers) -> Result<()> {
    for version in ["0.2.0", "0.3.0"] {
        let tree = with_links(c)?;
        fs::create_dir(tree.outside("fixed"))?;
        let mut tree = tree.mount(json!({
            "destination": "/fixed", "type": "bind", "source": "fixed", "options": ["bind", "ro"],
        }));
        fs::write(tree.inside("c.wat"), paths_component::text(version))?;
        for call in ["stat", "readlink", "mkdir", "rename", "sync"] {
            let program = format!("/c.wat#{call}");
            let id = c.next_id();
            let out = c.run_config(&mut tree.bundle, &["--rm"], &id, &[&program])?.run()?;
            ensure!(out.status == 0, "{version} {call}: {out}");
        }
    }
    Ok(())
}

/// Checks of preview 1: the status is the number of the first that fails.
const MODULE: &str = r#"(module
  (import "MODULE" "path_readlink"
    (func $readlink (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "MODULE" "path_filestat_get" (func $stat (param i32 i32 i32 i32 i32) (result i32)))
  (import "MODULE" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
  (import "MODULE" "path_rename" (func $rename (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "MODULE" "path_filestat_set_times"
    (func $times (param i32 i32 i32 i32 i64 i64 i32) (result i32)))
  (import "MODULE" "path_symlink" (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "MODULE" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
  (import "MODULE" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "var/run/f") (data (i32.const 120) "var/run")
  (data (i32.const 140) "fixed/new") (data (i32.const 160) "data/f") (data (i32.const 180) "/run")
  (data (i32.const 190) "var/again")
  (func $check (param $step i32) (param $got i32) (param $wanted i32)
    (if (i32.ne (local.get $got) (local.get $wanted)) (then (call $exit (local.get $step)))))
  (func (export "_start")
    (call $check (i32.const 1) (call $readlink (i32.const 3) (i32.const 120) (i32.const 7)
      (i32.const 256) (i32.const 64) (i32.const 0)) (i32.const 0))
    (call $check (i32.const 2) (i32.load (i32.const 0)) (i32.const 4))
    (call $check (i32.const 3) (i32.load (i32.const 256)) (i32.const 0x6e75722f))
    ;; What does not fit is cut.
    (call $check (i32.const 4) (call $readlink (i32.const 3) (i32.const 120) (i32.const 7)
      (i32.const 270) (i32.const 2) (i32.const 0)) (i32.const 0))
    (call $check (i32.const 5) (i32.load (i32.const 270)) (i32.const 0x722f))
    (i64.store (i32.const 360) (i64.const -1))
    (call $check (i32.const 6) (call $stat (i32.const 3) (i32.const 1) (i32.const 100)
      (i32.const 9) (i32.const 304)) (i32.const 0))
    (call $check (i32.const 7) (i32.load (i32.const SIZE)) (i32.const 5))
    ;; The structure ends at its end.
    (call $check (i32.const 8) (i32.eqz (i64.eq (i64.load (i32.const 360)) (i64.const -1)))
      (i32.const CHANGED))
    (call $check (i32.const 9) (call $mkdir (i32.const 3) (i32.const 140) (i32.const 9))
      (i32.const 69))
    (call $check (i32.const 10) (call $rename (i32.const 3) (i32.const 100) (i32.const 9)
      (i32.const 3) (i32.const 160) (i32.const 6)) (i32.const 75))
    (call $check (i32.const 11) (call $times (i32.const 3) (i32.const 1) (i32.const 140)
      (i32.const 5) (i64.const 0) (i64.const 0) (i32.const 10)) (i32.const 69))
    (call $check (i32.const 12) (call $symlink (i32.const 180) (i32.const 4) (i32.const 3)
      (i32.const 190) (i32.const 9)) (i32.const 0))
    (call $check (i32.const 13) (call $unlink (i32.const 3) (i32.const 190) (i32.const 9))
      (i32.const 0))
    ;; An absolute path is none of WASI's.
    (call $check (i32.const 14) (call $unlink (i32.const 3) (i32.const 180) (i32.const 4))
      (i32.const 63))))"#;

pub(crate) fn modules_of_both_versions_see_links_and_errors(c: &mut Containers) -> Result<()> {
    // Size and end of the structure differ.
    for (module, size, changed) in
        [("wasi_snapshot_preview1", "336", "1"), ("wasi_unstable", "328", "0")]
    {
        let tree = with_links(c)?;
        fs::create_dir(tree.outside("fixed"))?;
        let mut tree = tree.mount(json!({
            "destination": "/fixed", "type": "bind", "source": "fixed", "options": ["bind", "ro"],
        }));
        let text =
            MODULE.replace("MODULE", module).replace("SIZE", size).replace("CHANGED", changed);
        fs::write(tree.inside("m.wat"), text)?;
        let id = c.next_id();
        let out = c.run_config(&mut tree.bundle, &["--rm"], &id, &["/m.wat"])?.run()?;
        ensure!(out.status == 0, "{module}: {out}");
    }
    Ok(())
}

pub(crate) fn mount_places_go_through_links_and_dots(c: &mut Containers) -> Result<()> {
    let tree = Tree::new(c)?;
    fs::create_dir_all(tree.inside("run"))?;
    symlink("../run/systemd/stub.conf", tree.inside("etc/resolv.conf"))?;
    symlink("/run/absolute.conf", tree.inside("etc/absolute.conf"))?;
    fs::write(tree.outside("file"), "mounted")?;
    let bind = |at: &str| json!({ "destination": at, "type": "bind", "source": "file", "options": ["bind", "ro"] });
    let mut tree = tree
        .mount(bind("/etc/resolv.conf"))
        .mount(bind("/etc/absolute.conf"))
        .mount(bind("/a/../t"));
    for path in [
        "/etc/resolv.conf",
        "/run/systemd/stub.conf",
        "/etc/absolute.conf",
        "/run/absolute.conf",
        "/t",
    ] {
        let out = tree.run(c, &["cat", path])?.ok()?;
        ensure!(out.out() == "mounted", "{path}: {out}");
    }
    ensure!(!tree.inside("a").exists(), "/a was made");
    Ok(())
}
