//! What `config.json` mounts; the cases are listed in `main.rs`.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use runwasi_tests::Containers;
use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::json;

use crate::fixture::Tree;

pub(crate) fn read_only_root_refuses_writes_and_volumes_take_them(
    c: &mut Containers,
) -> Result<()> {
    let mut tree = Tree::new(c)?;
    tree.bundle.config["root"]["readonly"] = json!(true);
    tree.run(c, &["write", "/etc/new", "x"])?.status_is(1)?;
    tree.run(c, &["write", "/data/new", "kept"])?.ok()?;
    ensure!(
        fs::read_to_string(tree.volume().join("new"))? == "kept"
            && !tree.inside("etc/new").exists()
    );
    Ok(())
}

pub(crate) fn single_files_are_mounted(c: &mut Containers) -> Result<()> {
    let tree = Tree::new(c)?;
    for name in ["hosts", "notes"] {
        fs::write(tree.outside(name), format!("{name} of the host\n"))?;
        fs::write(tree.inside("etc").join(name), "of the image\n")?;
    }
    let file = |name: &str, option: &str| json!({ "destination": format!("/etc/{name}"), "type": "bind", "source": name, "options": ["rbind", option] });
    let mut tree = tree.mount(file("hosts", "ro")).mount(file("notes", "rw"));
    let out = tree.run(c, &["cat", "/etc/hosts"])?.ok()?;
    ensure!(out.out() == "hosts of the host\n", "{out}");
    tree.run(c, &["write", "/etc/hosts", "x"])?.status_is(1)?;
    tree.run(c, &["write", "/etc/notes", "changed"])?.ok()?;
    ensure!(fs::read_to_string(tree.outside("notes"))? == "changed");
    ensure!(
        fs::read_to_string(tree.inside("etc/notes"))? == "of the image\n",
        "the image's was changed"
    );
    Ok(())
}

pub(crate) fn missing_places_are_made(c: &mut Containers) -> Result<()> {
    let tree = Tree::new(c)?;
    fs::write(tree.outside("f"), "found")?;
    fs::create_dir(tree.outside("d"))?;
    fs::write(tree.outside("d/g"), "found, too")?;
    let bind = |at: &str, source: &str| json!({ "destination": at, "type": "bind", "source": source, "options": ["bind"] });
    let mut tree = tree.mount(bind("/new/deep/f", "f")).mount(bind("/other/deep/d", "d"));
    tree.bundle.config["root"]["readonly"] = json!(true);
    ensure!(tree.run(c, &["cat", "/new/deep/f"])?.ok()?.out() == "found");
    ensure!(tree.run(c, &["cat", "/other/deep/d/g"])?.ok()?.out() == "found, too");
    Ok(())
}

pub(crate) fn missing_working_directory_is_made(c: &mut Containers) -> Result<()> {
    let mut tree = Tree::new(c)?;
    tree.bundle.config["root"]["readonly"] = json!(true);
    fs::create_dir(tree.inside("there"))?;
    symlink("/there", tree.inside("link"))?;
    let made = [
        ("/made/deep", tree.inside("made/deep")),
        ("/link/behind", tree.inside("there/behind")),
        ("/data/work", tree.volume().join("work")),
    ];
    for (cwd, place) in made {
        tree.bundle.config["process"]["cwd"] = json!(cwd);
        ensure!(tree.run(c, &["echo", "begun"])?.ok()?.out() == "begun\n", "{cwd}");
        let made = fs::metadata(&place).with_context(|| format!("{cwd} was not made"))?;
        ensure!(made.is_dir() && made.mode() & 0o7777 == 0o755, "{cwd}: {:o}", made.mode());
    }
    Ok(())
}

pub(crate) fn volumes_lie_in_the_order_of_the_config(c: &mut Containers) -> Result<()> {
    let tree = Tree::new(c)?;
    for name in ["below", "above"] {
        fs::create_dir(tree.outside(name))?;
        fs::write(tree.outside(name).join("f"), name)?;
    }
    fs::create_dir(tree.outside("below/inner"))?;
    let bind = |at: &str, source: &str| json!({ "destination": at, "type": "bind", "source": source, "options": ["bind"] });
    let mut tree = tree.mount(bind("/v", "below")).mount(bind("/v/inner", "above"));
    ensure!(tree.run(c, &["cat", "/v/f"])?.ok()?.out() == "below");
    ensure!(tree.run(c, &["cat", "/v/inner/f"])?.ok()?.out() == "above");
    ensure!(!tree.outside("below/inner/f").exists());
    Ok(())
}

/// An overlay whose directories are merged: there the kernel numbers entries by their positions.
struct Merged(PathBuf);

impl Merged {
    fn new(tree: &Tree) -> Result<Self> {
        let [lower, upper, work, merged] =
            ["lower", "upper", "work", "merged"].map(|name| tree.outside(name));
        for directory in [&lower.join("many"), &upper.join("many"), &work, &merged] {
            fs::create_dir_all(directory)?;
        }
        for n in 0..3000 {
            fs::write(lower.join(format!("many/{n}")), "")?;
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            upper.display(),
            work.display()
        );
        mount("overlay", &merged, "overlay", MountFlags::empty(), &*CString::new(options)?)?;
        Ok(Self(merged))
    }
}

impl Drop for Merged {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.0, UnmountFlags::DETACH) {
            eprintln!("unmount {}: {error}", self.0.display());
        }
    }
}

pub(crate) fn appends_to_an_overlay_go_to_the_end(c: &mut Containers) -> Result<()> {
    let tree = Tree::new(c)?;
    let merged = Merged::new(&tree)?;
    let at =
        json!({ "destination": "/m", "type": "bind", "source": "merged", "options": ["bind"] });
    let mut tree = tree.mount(at);
    let out = tree.run(c, &["append", "/m/file", "first ", "second ", "third"])?.ok()?;
    ensure!(out.out() == "first second third\n", "{out}");
    ensure!(fs::read_to_string(merged.0.join("file"))? == "first second third");
    Ok(())
}

pub(crate) fn removal_while_reading_removes_every_file(c: &mut Containers) -> Result<()> {
    let tree = Tree::new(c)?;
    let merged = Merged::new(&tree)?;
    let at =
        json!({ "destination": "/m", "type": "bind", "source": "merged", "options": ["bind"] });
    let mut tree = tree.mount(at);
    tree.run(c, &["remove-all", "/m/many"])?.ok()?;
    ensure!(!merged.0.join("many").exists());
    Ok(())
}

pub(crate) fn tmpfs_holds_what_it_may_and_no_more(c: &mut Containers) -> Result<()> {
    let options = ["nosuid", "nodev", "noexec", "mode=1777", "size=1m", "rprivate"];
    let tmpfs =
        json!({ "destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": options });
    let mut tree = Tree::new(c)?.mount(tmpfs);
    tree.user(json!({ "uid": 1000, "gid": 1000 }));
    tree.run(c, &["fill", "/run/f", "512"])?.ok()?;
    let out = tree.run(c, &["fill", "/run/f", "2048"])?.status_is(1)?;
    ensure!(out.err().contains("/run/f"), "{out}");
    ensure!(tree.run(c, &["ls", "/run"])?.ok()?.out().is_empty(), "it outlived its container");
    ensure!(fs::read_dir(tree.inside("run"))?.next().is_none(), "it was written to the image");
    Ok(())
}

/// What containerd's own default lists for `/dev`.
fn with_dev(c: &Containers) -> Result<Tree> {
    let options = ["nosuid", "strictatime", "mode=755", "size=65536k"];
    Ok(Tree::new(c)?.mount(
        json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": options }),
    ))
}

/// The names in our `/dev`.
const DEV: &str = "fd\nfull\nnull\nrandom\nshm\nstderr\nstdin\nstdout\nurandom\nzero\n";

/// As programs log that keep their log files as links, and as an image's own link does.
pub(crate) fn names_of_the_standard_streams_are_the_processes_own(
    c: &mut Containers,
) -> Result<()> {
    let mut tree = with_dev(c)?;
    symlink("/dev/stdout", tree.inside("etc/access.log"))?;
    symlink("/dev/stderr", tree.inside("etc/error.log"))?;
    for uid in [0, 1000] {
        tree.user(json!({ "uid": uid, "gid": uid }));
        for path in ["/dev/stdout", "/dev/fd/1", "/etc/access.log"] {
            let out = tree.run(c, &["write", path, "logged"])?.ok()?;
            ensure!(out.out() == "logged" && out.err().is_empty(), "{path}: {out}");
        }
        for path in ["/dev/stderr", "/dev/fd/2", "/etc/error.log"] {
            let out = tree.run(c, &["write", path, "logged"])?.ok()?;
            ensure!(out.err() == "logged" && out.out().is_empty(), "{path}: {out}");
        }
        for path in ["/dev/stdin", "/dev/fd/0"] {
            let id = c.next_id();
            let out =
                tree.command(c, &["--rm"], &id, &["cat", path])?.stdin("given").run()?.ok()?;
            ensure!(out.out() == "given", "{path}: {out}");
        }
    }
    tree.run(c, &["cat", "/dev/fd/3"])?.status_is(1)?;
    Ok(())
}

pub(crate) fn null_swallows_and_gives_nothing(c: &mut Containers) -> Result<()> {
    let mut tree = with_dev(c)?;
    for uid in [0, 1000] {
        tree.user(json!({ "uid": uid, "gid": uid }));
        tree.run(c, &["write", "/dev/null", "swallowed"])?.ok()?;
        ensure!(tree.run(c, &["cat", "/dev/null"])?.ok()?.out().is_empty());
    }
    Ok(())
}

pub(crate) fn dev_is_our_own_and_small(c: &mut Containers) -> Result<()> {
    let mut tree = with_dev(c)?;
    let listed = tree.run(c, &["ls", "/dev"])?.ok()?.out();
    ensure!(listed == DEV, "{listed}");
    tree.run(c, &["write", "/dev/new", "x"])?.status_is(1)?;
    tree.run(c, &["write", "/dev/full", "x"])?.status_is(1)?;
    Ok(())
}

pub(crate) fn mounts_below_dev_are_in_the_containers_own(c: &mut Containers) -> Result<()> {
    let shm = json!({
        "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
        "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=1m"],
    });
    let log = json!({
        "destination": "/dev/termination-log", "type": "bind", "source": "log",
        "options": ["rbind", "rw"],
    });
    let tree = with_dev(c)?;
    fs::write(tree.outside("log"), "")?;
    fs::set_permissions(tree.outside("log"), PermissionsExt::from_mode(0o666))?;
    let mut tree = tree.mount(shm).mount(log);
    tree.user(json!({ "uid": 1000, "gid": 1000 }));
    tree.run(c, &["write", "/dev/termination-log", "the end"])?.ok()?;
    ensure!(fs::read_to_string(tree.outside("log"))? == "the end");
    tree.run(c, &["fill", "/dev/shm/f", "512"])?.ok()?;
    tree.run(c, &["fill", "/dev/shm/f", "2048"])?.status_is(1)?;
    tree.user(json!({ "uid": 0, "gid": 0 })).run(c, &["write", "/dev/new", "x"])?.status_is(1)?;
    let listed = tree.run(c, &["ls", "/dev"])?.ok()?.out();
    let wanted = DEV.replace("urandom", "termination-log\nurandom");
    ensure!(listed == wanted, "{listed}");
    let others = with_dev(c)?.run(c, &["ls", "/dev"])?.ok()?.out();
    ensure!(others == DEV, "{others}");
    Ok(())
}

/// As every pod of Kubernetes has them, and those with a logger of their node.
pub(crate) fn memory_log_and_socket_below_dev_are_mounted(c: &mut Containers) -> Result<()> {
    let shm = json!({
        "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
        "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=1m"],
    });
    let bind = |at: &str, source: &str| json!({ "destination": at, "type": "bind", "source": source, "options": ["rbind", "rw"] });
    let tree = with_dev(c)?;
    fs::write(tree.outside("log"), "")?;
    fs::set_permissions(tree.outside("log"), PermissionsExt::from_mode(0o666))?;
    let _listener = UnixListener::bind(tree.outside("socket"))?;
    let mut tree = tree
        .mount(shm)
        .mount(bind("/dev/termination-log", "log"))
        .mount(bind("/dev/log", "socket"));
    let id = c.id("sleeps");
    tree.command(c, &["-d"], &id, &["sleep", "1000"])?.run()?.ok()?;
    let dev = root_with(c, &id, "dev/termination-log")?.join("dev");
    let memory = dev.join("shm");
    let mode = fs::metadata(&memory)?.mode();
    ensure!(mode & 0o7777 == 0o1777, "{mode:o}");
    let size = statvfs(&memory)?;
    let size = size.f_blocks * size.f_frsize;
    ensure!(size == 1 << 20, "{size} bytes");
    ensure!(fs::symlink_metadata(dev.join("log"))?.file_type().is_socket());
    let guest = c.runtime.guest();
    let exec = |name: &str, args: &[&str]| {
        let args = [&[guest], args].concat();
        c.exec_command(&["--user", "1000:1000"], &id, name, &args).run()
    };
    exec("ends", &["write", "/dev/termination-log", "the end"])?.ok()?;
    ensure!(fs::read_to_string(tree.outside("log"))? == "the end");
    exec("shares", &["write", "/dev/shm/f", "shared"])?.ok()?;
    ensure!(fs::read_to_string(memory.join("f"))? == "shared");
    exec("connects", &["cat", "/dev/log"])?.status_is(1)?;
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

/// The root directory of a running container that has this path, as it sees it. Of a guest, its
/// server has it open.
fn root_with(c: &Containers, id: &str, path: &str) -> Result<PathBuf> {
    let process = PathBuf::from(format!("/proc/{}", c.is_running(id)?.pid));
    if !c.runtime.is_wasm() {
        return Ok(process.join("root"));
    }
    let open = fs::read_dir(process.join("fd"))?.flatten().map(|entry| entry.path());
    let mut roots = open.filter(|file| file.join(path).exists());
    roots.next().context("the guest's root is open nowhere")
}

/// Its tree is in no mount table; but whoever serves it has it open.
pub(crate) fn nothing_a_guest_sees_has_devices_or_setuid(c: &mut Containers) -> Result<()> {
    let tmpfs = json!({ "destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"] });
    let id = c.id("sleeps");
    let mut tree = with_dev(c)?.mount(tmpfs);
    tree.command(c, &["-d"], &id, &["sleep", "1000"])?.run()?.ok()?;
    let root = root_with(c, &id, "scratch")?;
    let of = |place: &str| Ok::<_, anyhow::Error>(statvfs(root.join(place))?.f_flag);
    for place in ["", "data", "scratch"] {
        ensure!(
            of(place)?.contains(StatVfsMountFlags::NODEV | StatVfsMountFlags::NOSUID),
            "/{place}: {:?}",
            of(place)
        );
    }
    // Our own few devices, to which nobody can add.
    ensure!(
        of("dev")?.contains(StatVfsMountFlags::RDONLY | StatVfsMountFlags::NOSUID),
        "/dev: {:?}",
        of("dev")
    );
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn kernel_interfaces_are_refused(c: &mut Containers) -> Result<()> {
    for source in ["/proc", "/proc/sys", "/sys", "/sys/kernel", "/dev/pts"] {
        let mount = json!({ "destination": "/x", "type": "bind", "source": source, "options": ["rbind", "rw"] });
        let said = Tree::new(c)?.mount(mount).run(c, &["exit", "0"])?.refused()?;
        ensure!(said.contains(source) && said.contains("kernel interface"), "{said}");
    }
    c.fixture.becomes_clean()
}

pub(crate) fn host_root_comes_without_its_proc(c: &mut Containers) -> Result<()> {
    let mount = json!({ "destination": "/host", "type": "bind", "source": "/", "options": ["rbind", "ro"] });
    let mut tree = Tree::new(c)?.mount(mount);
    ensure!(!tree.run(c, &["cat", "/host/etc/hostname"])?.ok()?.stdout.is_empty());
    ensure!(
        tree.run(c, &["ls", "/host/proc"])?.ok()?.out().is_empty(),
        "the host's /proc is there"
    );
    Ok(())
}

pub(crate) fn unknown_types_are_named(c: &mut Containers) -> Result<()> {
    let mount = json!({ "destination": "/x", "type": "ext4", "source": "/dev/sda", "options": [] });
    let said = Tree::new(c)?.mount(mount).run(c, &["exit", "0"])?.refused()?;
    ensure!(said.contains("type: \"ext4\" is not one of"), "{said}");
    let mount = json!({ "destination": "/x", "type": "tmpfs", "source": "tmpfs", "options": ["no-such-option"] });
    let said = Tree::new(c)?.mount(mount).run(c, &["exit", "0"])?.refused()?;
    ensure!(said.contains("mounts: /x: ") && said.contains("no-such-option"), "{said}");
    c.fixture.becomes_clean()
}
