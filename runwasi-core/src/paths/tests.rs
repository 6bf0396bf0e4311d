//! Paths in the root file system of a container, whose mounts are real: as root.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use rustix::{
    fs::{CWD, FileType, RenameFlags, renameat_with},
    io::Errno,
};
use tempfile::TempDir;

use super::{Roots, Start};
use crate::{
    bundle::config::Config,
    open::{self, OpenHow, Opened},
    rootfs::Rootfs,
};

const READ: OpenHow = OpenHow {
    follow: true,
    create: false,
    exclusive: false,
    truncate: false,
    read: true,
    write: false,
    append: false,
    synchronized: open::Synchronized::No,
};

/// A container's root file system with a volume at `/v`, and a secret beside both.
struct Container {
    directory: TempDir,
    rootfs: Rootfs,
    roots: Roots,
}

impl Container {
    fn new() -> Self {
        Self::with_mount("")
    }

    /// The same with a further mount.
    fn with_mount(mount: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for made in ["rootfs/run/token", "rootfs/var/log/deep", "volume/inner"] {
            fs::create_dir_all(directory.path().join(made)).unwrap();
        }
        let write = |name: &str, text| fs::write(directory.path().join(name), text).unwrap();
        write("rootfs/run/token/f", "token");
        write("rootfs/secret", "guest");
        write("volume/inner/f", "volume");
        write("secret", "host");
        let config = r#"{"ociVersion":"1.1.0","root":{"path":"rootfs"},
            "process":{"user":{"uid":0,"gid":0},"cwd":"/","args":["/a"]},
            "mounts":[{"destination":"/dev","type":"tmpfs","source":"tmpfs"},
                {"destination":"/v","type":"bind","source":"volume","options":["bind"]}"#;
        let config = format!("{config}{mount}]}}");
        fs::write(directory.path().join("config.json"), config).unwrap();
        let config = Config::load(directory.path()).unwrap();
        let rootfs = Rootfs::mount(directory.path(), &config, &[]).unwrap();
        let roots = Roots::of(&rootfs);
        Self { directory, rootfs, roots }
    }

    /// A path of the root file system on the host.
    fn inside(&self, path: &str) -> PathBuf {
        self.directory.path().join("rootfs").join(path)
    }

    fn link(&self, target: impl AsRef<Path>, path: &str) {
        symlink(target, self.inside(path)).unwrap();
    }

    /// A directory of the guest.
    fn directory(&self, path: &str) -> File {
        self.rootfs.open(Path::new(path)).unwrap()
    }

    fn start<'a>(&'a self, directory: &'a File) -> Start<'a> {
        Start::new(directory, false, &self.roots)
    }

    /// Content of a file by its path below a directory, or the kernel's error.
    async fn read(&self, directory: &str, path: &str) -> Result<String, Errno> {
        // The root itself is one of the roots, so the kernel resolves its links.
        let root = self.rootfs.preopens().next().unwrap().directory;
        let opened = self.directory(directory);
        let directory = if directory == "/" { &*root } else { &opened };
        match open::open(self.start(directory), path, READ).await {
            Ok(Opened::File(mut file)) => {
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                Ok(text)
            }
            Ok(Opened::Directory(_)) => Err(Errno::ISDIR),
            Ok(Opened::Stream(..)) => Err(Errno::NXIO),
            Err(error) => Err(code(&error)),
        }
    }
}

fn code(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap()
}

#[tokio::test]
async fn absolute_links_lead_to_the_containers_root_from_every_directory() {
    let container = Container::new();
    container.link("/run", "var/run");
    container.link("../run/token", "var/token");
    container.link("/secret", "var/log/deep/secret");
    container.link("../../../../../secret", "var/log/deep/up");
    container.link("/run/token/f", "var/log/f");
    for (directory, path, wanted) in [
        ("/", "var/run/token/f", "token"),
        ("/", "var/log/../run/token/f", "token"),
        ("/", "var/token/f", "token"),
        ("/", "var/log/deep/up", "guest"),
        ("/var", "run/token/f", "token"),
        ("/var", "token/f", "token"),
        ("/var", "token/../../secret", "guest"),
        ("/var/log", "f", "token"),
        ("/var/log", "deep/secret", "guest"),
        ("/var/log/deep", "up", "guest"),
    ] {
        assert_eq!(
            container.read(directory, path).await.as_deref(),
            Ok(wanted),
            "{directory} {path}"
        );
    }
    fs::remove_file(container.directory.path().join("volume/inner/f")).unwrap();
    symlink("../../secret", container.directory.path().join("volume/inner/f")).unwrap();
    assert_eq!(container.read("/v/inner", "f").await.as_deref(), Ok("guest"));
}

#[tokio::test]
async fn text_of_a_path_stays_below_its_directory() {
    let container = Container::new();
    container.link("/run", "var/run");
    for (directory, path) in [
        ("/", "../secret"),
        ("/", "/secret"),
        ("/", "var/../../secret"),
        ("/var", ".."),
        ("/var", "log/../../secret"),
        ("/var", "../secret"),
    ] {
        let read = container.read(directory, path).await;
        assert_eq!(read, Err(Errno::PERM), "{directory} {path}");
        let directory = container.directory(directory);
        let start = container.start(&directory);
        for done in [
            start.create_directory(path).await,
            start.remove_file(path).await,
            start.stat(path, true).await.map(drop),
        ] {
            assert_eq!(code(&done.unwrap_err()), Errno::PERM, "{path}");
        }
    }
}

#[tokio::test]
async fn loops_and_long_ways_of_links_end() {
    let container = Container::new();
    container.link("../var/round", "var/round");
    assert_eq!(container.read("/var", "round").await, Err(Errno::LOOP));
    let long = vec!["x/.."; 700].join("/");
    fs::create_dir(container.inside("var/x")).unwrap();
    container.link(format!("../var/{long}/next"), "var/first");
    container.link(format!("../var/{long}/last"), "var/next");
    container.link("../run/token/f", "var/last");
    assert_eq!(container.read("/var", "first").await, Err(Errno::NAMETOOLONG));
    assert_eq!(container.read("/var", "next").await.as_deref(), Ok("token"));
}

/// The host moves a directory out of the volume: `..` in it is the host's.
#[tokio::test]
async fn directory_that_left_its_mount_leads_nowhere() {
    let container = Container::new();
    let inner = container.directory.path().join("volume/inner");
    symlink("../secret", inner.join("up")).unwrap();
    symlink("/secret", inner.join("absolute")).unwrap();
    let directory = container.directory("/v/inner");
    fs::rename(&inner, container.directory.path().join("moved")).unwrap();
    let read = open::open(container.start(&directory), "up", READ).await;
    assert_eq!(code(&read.unwrap_err()), Errno::NOENT);
    let Ok(Opened::File(file)) = open::open(container.start(&directory), "absolute", READ).await
    else {
        panic!("no file");
    };
    assert_eq!(io::read_to_string(file).unwrap(), "guest");
}

#[tokio::test]
async fn calls_go_through_links_on_the_way_and_not_through_the_last_name() {
    let container = Container::new();
    container.link("/run", "var/run");
    container.link("/run/token", "var/log/token");
    let root = container.directory("/var");
    let start = container.start(&root);
    start.create_directory("run/new").await.unwrap();
    assert!(container.inside("run/new").is_dir());
    super::rename(start, "run/new", start, "run/other").await.unwrap();
    start.remove_directory("run/other").await.unwrap();
    assert!(!container.inside("run/other").exists());
    super::link(start, "run/token/f", start, "run/second").await.unwrap();
    start.remove_file("run/second").await.unwrap();
    let kind = async |path, follow| {
        let seen = start.stat(path, follow).await.unwrap();
        FileType::from_raw_mode(seen.st_mode)
    };
    assert_eq!(kind("log/token", true).await, FileType::Directory);
    assert_eq!(kind("log/token", false).await, FileType::Symlink);
    // With a slash it is the directory, inside of the container.
    assert_eq!(kind("log/token/", false).await, FileType::Directory);
    assert_eq!(start.read_link("log/token").await.unwrap().as_c_str(), c"/run/token");
    assert_eq!(code(&start.read_link("log/token/").await.unwrap_err()), Errno::INVAL);
    start.remove_file("log/token").await.unwrap();
    assert!(container.inside("run/token/f").exists());
    start.symlink("/run", "log/link").await.unwrap();
    assert_eq!(fs::read_link(container.inside("var/log/link")).unwrap(), Path::new("/run"));
}

#[tokio::test]
async fn renames_and_links_across_mounts_are_refused_as_such() {
    let container = Container::new();
    let root = container.directory("/");
    let start = container.start(&root);
    let renamed = super::rename(start, "secret", start, "v/secret").await;
    assert_eq!(code(&renamed.unwrap_err()), Errno::XDEV);
    let linked = super::link(start, "secret", start, "v/secret").await;
    assert_eq!(code(&linked.unwrap_err()), Errno::XDEV);
}

/// The kernel refuses this in its own namespace, and takes the mount away here.
#[tokio::test]
async fn mount_points_are_neither_removed_nor_renamed_nor_replaced() {
    let single = r#",{"destination":"/single","type":"bind","source":"secret","options":["bind"]}"#;
    let container = Container::with_mount(single);
    fs::create_dir(container.inside("empty")).unwrap();
    fs::write(container.inside("file"), "").unwrap();
    let root = container.directory("/");
    let start = container.start(&root);
    let unlinked = async |path| code(&start.remove_file(path).await.unwrap_err());
    let removed = async |path| code(&start.remove_directory(path).await.unwrap_err());
    let renamed = async |old, new| code(&super::rename(start, old, start, new).await.unwrap_err());
    assert_eq!(unlinked("single").await, Errno::BUSY);
    assert_eq!(unlinked("run/../single").await, Errno::BUSY);
    assert_eq!(removed("v").await, Errno::BUSY);
    assert_eq!(removed("v/").await, Errno::BUSY);
    for (old, new) in [("v", "w"), ("single", "w"), ("file", "single"), ("empty", "v/")] {
        assert_eq!(renamed(old, new).await, Errno::BUSY, "{old} {new}");
    }
    // The kernel looks at these first.
    assert_eq!(unlinked("v").await, Errno::ISDIR);
    assert_eq!(removed("single").await, Errno::NOTDIR);
    assert_eq!(removed(".").await, Errno::INVAL);
    for (old, new, wanted) in [
        ("empty", "single", Errno::NOTDIR),
        ("file", "v", Errno::ISDIR),
        ("missing", "single", Errno::NOENT),
        ("v/inner", "v", Errno::XDEV),
    ] {
        assert_eq!(renamed(old, new).await, wanted, "{old} {new}");
    }
    assert_eq!(container.read("/", "single").await.as_deref(), Ok("host"));
    assert_eq!(container.read("/", "v/inner/f").await.as_deref(), Ok("volume"));
}

#[tokio::test]
async fn names_of_standard_streams_are_told_by_their_nodes() {
    let container = Container::new();
    container.link("/dev/stderr", "var/error.log");
    let root = container.directory("/");
    let write = OpenHow { read: false, write: true, create: true, truncate: true, ..READ };
    for (path, how, wanted) in [
        ("dev/stdin", READ, 0),
        ("dev/stdout", write, 1),
        ("dev/fd/1", write, 1),
        ("var/error.log", write, 2),
    ] {
        let opened = open::open(container.start(&root), path, how).await.unwrap();
        assert!(matches!(opened, Opened::Stream(number, _) if number == wanted), "{path}");
    }
    let null = open::open(container.start(&root), "dev/null", write).await.unwrap();
    assert!(matches!(null, Opened::File(_)));
}

/// Another process exchanges a directory and links that lead out, all the time.
#[tokio::test]
async fn exchanged_links_never_lead_out() {
    let container = Container::new();
    let host = container.directory.path().to_owned();
    fs::create_dir(container.inside("var/d")).unwrap();
    fs::write(container.inside("var/d/secret"), "guest").unwrap();
    container.link(&host, "var/absolute");
    container.link("../../../../../../..", "var/up");
    let places = ["var/d", "var/absolute", "var/up"].map(|path| container.inside(path));
    let over = Arc::new(AtomicBool::new(false));
    let is_over = over.clone();
    let mut read = 0;
    let exchange = thread::spawn(move || {
        while !is_over.load(Ordering::Relaxed) {
            for other in &places[1..] {
                renameat_with(CWD, &places[0], CWD, other, RenameFlags::EXCHANGE).unwrap();
            }
        }
    });
    let mut seen = Vec::new();
    for n in 0..2000 {
        let path = if n % 2 == 0 { "d/secret" } else { "log/../d/secret" };
        seen.push(container.read("/var", path).await);
    }
    over.store(true, Ordering::Relaxed);
    exchange.join().unwrap();
    for result in seen {
        match result {
            Ok(text) => {
                assert_eq!(text, "guest");
                read += 1;
            }
            Err(error) => assert!(matches!(error, Errno::NOENT | Errno::PERM), "{error}"),
        }
    }
    assert!(read > 0, "the file was never read");
}
