//! Programs, units and links of the host.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};

use super::{CONFIG, Node, VERSION_3, inode};
use crate::status;

const SHIM: &str = "/usr/local/bin/containerd-shim-wasmtime-v1";

#[test]
fn files_have_their_places_and_modes() {
    let node = Node::new(&[(CONFIG, VERSION_3)]);
    node.install();
    for (path, mode) in [
        (SHIM, 0o755),
        ("/usr/local/bin/containerd-shim-wasmtimed-v1", 0o755),
        ("/usr/local/bin/containerd-wasmtimed", 0o755),
        ("/etc/systemd/system/containerd-wasmtimed.service", 0o644),
        ("/etc/systemd/system/containerd-wasmtimed.socket", 0o644),
        ("/etc/sysctl.d/60-containerd-wasmtimed.conf", 0o644),
        ("/var/lib/runwasi-node-installer/record.json", 0o600),
    ] {
        let status = fs::metadata(node.path(path)).unwrap();
        assert_eq!(status.permissions().mode() & 0o7777, mode, "{path}");
    }
    let unit = node.read("/etc/systemd/system/containerd-wasmtimed.service");
    assert!(unit.contains("ExecStart=\"/usr/local/bin/containerd-wasmtimed\" --guard"), "{unit}");
}

#[test]
fn mode_of_the_configuration_stays() {
    let node = Node::new(&[(CONFIG, VERSION_3)]);
    fs::set_permissions(node.path(CONFIG), fs::Permissions::from_mode(0o640)).unwrap();
    node.install();
    let mode = fs::metadata(node.path(CONFIG)).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
}

#[test]
fn program_that_runs_is_replaced_by_another_file() {
    let node = Node::new(&[(CONFIG, VERSION_3)]);
    fs::copy("/bin/sleep", node.options.assets.join("containerd-shim-wasmtime-v1")).unwrap();
    node.install();
    let shim = node.path(SHIM);
    let mut running = Command::new(&shim).arg("1000").stdin(Stdio::null()).spawn().unwrap();
    // Written in its place it fails: the file of a running program is busy.
    let busy = File::options().write(true).open(&shim).unwrap_err();
    assert_eq!(busy.raw_os_error(), Some(rustix::io::Errno::TXTBSY.raw_os_error()));
    let before = inode(&shim);
    node.assets("2");
    node.host.taken();
    let done = node.install();
    running.kill().unwrap();
    running.wait().unwrap();
    assert_ne!(inode(&shim), before);
    assert_eq!(node.read(SHIM), "containerd-shim-wasmtime-v1 2");
    assert!(done.contains(&format!("{SHIM}: written")), "{done:?}");
    assert!(!node.host.taken().contains(&"systemctl restart containerd".to_owned()));
}

#[test]
fn links_of_the_host_are_resolved_inside_its_root() {
    let node = Node::new(&[]);
    let outside = node.directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("config.toml"), VERSION_3).unwrap();
    // Absolute, and by more `..` than there are directories: both end in the root.
    fs::create_dir_all(node.path("/mnt")).unwrap();
    node.write("/opt/real/config.toml", VERSION_3);
    symlink("/opt/real", node.path("/etc/containerd")).unwrap();
    fs::remove_dir(node.path("/usr/local/bin")).unwrap();
    symlink("../../../../../../mnt", node.path("/usr/local/bin")).unwrap();
    symlink(&outside, node.path("/etc/sysctl.d")).unwrap();
    fs::create_dir_all(node.path(outside.to_str().unwrap())).unwrap();
    node.install();
    assert!(node.read("/opt/real/config.toml").contains("runtimes.wasmtime]"));
    assert!(node.exists("/mnt/containerd-shim-wasmtime-v1"));
    let inside = format!("{}/60-containerd-wasmtimed.conf", outside.display());
    assert!(node.exists(&inside));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(outside.join("config.toml")).unwrap(), VERSION_3);
}

#[test]
fn link_to_a_configuration_stays_a_link_and_its_target_is_changed() {
    let node = Node::new(&[("/etc/static/containerd.toml", VERSION_3)]);
    fs::create_dir(node.path("/etc/containerd")).unwrap();
    symlink("/etc/containerd/next", node.path(CONFIG)).unwrap();
    symlink("../static/containerd.toml", node.path("/etc/containerd/next")).unwrap();
    node.install();
    assert!(node.read("/etc/static/containerd.toml").contains("runtimes.wasmtime]"));
    assert!(fs::symlink_metadata(node.path(CONFIG)).unwrap().is_symlink());
    node.uninstall();
    assert_eq!(node.read("/etc/static/containerd.toml"), VERSION_3);
}

#[test]
fn loop_of_links_is_an_error() {
    let node = Node::new(&[]);
    fs::create_dir(node.path("/etc/containerd")).unwrap();
    symlink("config.toml", node.path(CONFIG)).unwrap();
    let error = node.try_install().unwrap_err().to_string();
    assert!(error.starts_with("/etc/containerd/config.toml: Too many levels"), "{error}");
}

#[test]
fn link_in_the_place_of_a_program_is_refused() {
    let node = Node::new(&[(CONFIG, VERSION_3), ("/opt/theirs", "theirs")]);
    symlink("/opt/theirs", node.path(SHIM)).unwrap();
    assert!(node.refuses().contains("is a symbolic link"));
    assert_eq!(node.read("/opt/theirs"), "theirs");
}

#[test]
fn file_that_another_has_changed_stays_and_is_named() {
    let node = Node::new(&[(CONFIG, VERSION_3)]);
    node.install();
    fs::write(node.path(SHIM), "another's").unwrap();
    let done = node.uninstall();
    assert!(done.contains(&format!("{SHIM}: stays, another has changed it")), "{done:?}");
    assert_eq!(node.read(SHIM), "another's");
    assert!(!node.exists("/usr/local/bin/containerd-wasmtimed"));
}

#[test]
fn file_that_was_there_as_wanted_stays() {
    let node = Node::new(&[(CONFIG, VERSION_3), (SHIM, "containerd-shim-wasmtime-v1 1")]);
    node.install();
    node.uninstall();
    assert_eq!(node.read(SHIM), "containerd-shim-wasmtime-v1 1");
}

#[test]
fn directories_with_files_of_others_stay() {
    let mut node = Node::new(&[(CONFIG, VERSION_3)]);
    node.options.bin_dir = Some("/opt/a/bin".to_owned());
    node.install();
    node.write("/opt/a/notes", "");
    node.uninstall();
    assert!(node.exists("/opt/a/notes") && !node.exists("/opt/a/bin"));
}

#[test]
fn status_tells_what_is_missing_changed_and_due() {
    let mut node = Node::new(&[(CONFIG, VERSION_3)]);
    assert_eq!(status(&node.options).unwrap().lines, ["not installed"]);
    node.options.restart = false;
    node.install();
    let due = status(&node.options).unwrap();
    assert!(!due.complete && due.lines.contains(&"containerd: restart due".to_owned()), "{due:?}");
    node.options.restart = true;
    node.install();
    assert!(status(&node.options).unwrap().complete, "{due:?}");
    fs::remove_file(node.path(SHIM)).unwrap();
    fs::write(node.path("/usr/local/bin/containerd-wasmtimed"), "").unwrap();
    fs::write(node.path(CONFIG), VERSION_3).unwrap();
    let bad = status(&node.options).unwrap();
    for line in [
        format!("{SHIM}: missing"),
        "/usr/local/bin/containerd-wasmtimed: changed by another".to_owned(),
        format!("{CONFIG}: has not the runtimes"),
    ] {
        assert!(!bad.complete && bad.lines.contains(&line), "{line}: {bad:?}");
    }
}

#[test]
fn uninstall_of_nothing_is_nothing() {
    let node = Node::new(&[(CONFIG, VERSION_3)]);
    let before = node.tree();
    assert_eq!(node.uninstall(), [""; 0]);
    assert_eq!(node.tree(), before);
}
