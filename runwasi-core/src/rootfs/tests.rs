//! Tests of trees of mounts: volumes, links, masks and working directories.

use std::{ffi::OsStr, io::Read, os::unix::ffi::OsStrExt};

use super::*;

fn config(bundle: &Path) -> Config {
    config_with(bundle, "")
}

fn config_with(bundle: &Path, mounts: &str) -> Config {
    config_in(bundle, mounts, "/")
}

fn config_in(bundle: &Path, mounts: &str, cwd: &str) -> Config {
    let process = format!(r#"{{"user":{{"uid":0,"gid":0}},"cwd":"{cwd}","args":["/a"]}}"#);
    let root = r#"{"path":"rootfs"}"#;
    let json = format!(
        r#"{{"ociVersion":"1.1.0","root":{root},"process":{process},"mounts":[{mounts}]}}"#
    );
    std::fs::write(bundle.join("config.json"), json).unwrap();
    std::fs::create_dir_all(bundle.join("rootfs")).unwrap();
    Config::load(bundle).unwrap()
}

fn bind(source: &str, destination: &str) -> String {
    let source = format!(r#""type":"bind","source":"{source}","options":["bind"]"#);
    format!(r#"{{"destination":"{destination}",{source}}}"#)
}

fn names_in(rootfs: &Rootfs, path: &str) -> Vec<String> {
    let directory = rootfs.open(Path::new(path)).unwrap();
    let entries = rustix::fs::Dir::read_from(directory).unwrap();
    let name = |entry: rustix::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let mut names: Vec<_> = entries.map(|entry| name(entry.unwrap())).collect();
    names.retain(|name| name != "." && name != "..");
    names.sort();
    names
}

/// Number of mounts in the private namespace that come from a source directory.
fn attached(source: &Path) -> usize {
    let inside = MountNamespace::of_process().unwrap().enter().unwrap();
    let name = source.file_name().unwrap().to_str().unwrap();
    let table = inside.mount_table().unwrap();
    String::from_utf8_lossy(&table).lines().filter(|line| line.contains(name)).count()
}

#[test]
fn nested_volumes_are_part_of_one_tree() {
    let bundle = tempfile::tempdir().unwrap();
    let tmpfs = r#"{"destination":"/v","type":"tmpfs","source":"tmpfs"}"#;
    std::fs::create_dir(bundle.path().join("inner")).unwrap();
    std::fs::write(bundle.path().join("inner/f"), "inner").unwrap();
    std::fs::write(bundle.path().join("single"), "single").unwrap();
    let mounts = [tmpfs.to_owned(), bind("inner", "/v/inner"), bind("single", "/v/single")];
    let config = config_with(bundle.path(), &mounts.join(","));
    let rootfs = Rootfs::mount(bundle.path(), &config, &[]).unwrap();
    assert_eq!(names_in(&rootfs, "/"), ["v"]);
    assert_eq!(names_in(&rootfs, "/v"), ["inner", "single"]);
    assert_eq!(read(&rootfs, "/v/inner/f").unwrap(), "inner");
    assert_eq!(read(&rootfs, "/v/single").unwrap(), "single");
    assert_eq!(rootfs.preopens().count(), 1, "all of it is one tree");
    let host = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!host.contains(bundle.path().file_name().unwrap().to_str().unwrap()), "{host}");
}

#[test]
fn mount_at_the_root_is_the_root_of_the_tree() {
    let bundle = tempfile::tempdir().unwrap();
    for made in ["before", "host", "inner", "rootfs/old"] {
        std::fs::create_dir_all(bundle.path().join(made)).unwrap();
    }
    std::fs::write(bundle.path().join("host/f"), "host").unwrap();
    std::fs::write(bundle.path().join("inner/f"), "inner").unwrap();
    let shm = r#"{"destination":"/dev/x","type":"tmpfs","source":"tmpfs"}"#.to_owned();
    let dev = r#"{"destination":"/dev","type":"tmpfs","source":"tmpfs"}"#.to_owned();
    let mounts = [bind("before", "/v"), bind("host", "/a/.."), dev, shm, bind("inner", "/v")];
    let mut config = config_in(bundle.path(), &mounts.join(","), "/work");
    config.read_only = true;
    config.masked_paths = vec!["/f".into()];
    let rootfs = Rootfs::mount(bundle.path(), &config, &[]).unwrap();
    assert_eq!(names_in(&rootfs, "/"), ["dev", "f", "v", "work"]);
    assert_eq!(read(&rootfs, "/v/f").unwrap(), "inner");
    assert_eq!(read(&rootfs, "/f").unwrap(), "", "masked");
    assert!(names_in(&rootfs, "/dev").contains(&"x".to_owned()));
    assert_eq!(rootfs.preopens().count(), 1);
    let root = rootfs.preopens().next().unwrap().directory;
    let made = rustix::fs::mkdirat(&*root, "new", Mode::from(0o755));
    assert_eq!(made, Err(rustix::io::Errno::ROFS));
    assert!(bundle.path().join("host/v").is_dir(), "places are made in the mount");
}

#[test]
fn tmpfs_at_the_root_begins_with_the_root_file_system_on_request() {
    let bundle = tempfile::tempdir().unwrap();
    let tmpfs = |options| {
        format!(r#"{{"destination":"/","type":"tmpfs","source":"t","options":[{options}]}}"#)
    };
    for (options, names) in [(r#""tmpcopyup""#, &["old"][..]), (r#""ro""#, &[][..])] {
        let config = config_with(bundle.path(), &tmpfs(options));
        std::fs::create_dir_all(bundle.path().join("rootfs/old")).unwrap();
        let rootfs = Rootfs::mount(bundle.path(), &config, &[]).unwrap();
        assert_eq!(names_in(&rootfs, "/"), names);
        let root = rootfs.preopens().next().unwrap().directory;
        let made = rustix::fs::mkdirat(&*root, "new", Mode::from(0o755));
        assert_eq!(made.is_ok(), options != r#""ro""#, "{options}");
        assert!(!bundle.path().join("rootfs/new").exists());
    }
}

/// A bundle whose root has `/var/run`, a link to `/run`.
fn with_link() -> tempfile::TempDir {
    let bundle = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(bundle.path().join("rootfs/var")).unwrap();
    std::os::unix::fs::symlink("/run", bundle.path().join("rootfs/var/run")).unwrap();
    std::fs::write(bundle.path().join("single"), "single").unwrap();
    bundle
}

#[test]
fn volume_behind_a_link_lies_in_the_volume_that_the_link_leads_to() {
    let bundle = with_link();
    std::fs::create_dir(bundle.path().join("inner")).unwrap();
    std::fs::write(bundle.path().join("inner/f"), "inner").unwrap();
    let tmpfs = r#"{"destination":"/run","type":"tmpfs","source":"tmpfs"}"#;
    let mounts = [
        tmpfs.to_owned(),
        bind("inner", "/var/run/secrets/inner"),
        bind("single", "/var/run/secrets/single"),
    ];
    let config = config_with(bundle.path(), &mounts.join(","));
    let rootfs = Rootfs::mount(bundle.path(), &config, &[]).unwrap();
    for run in ["/run", "/var/run"] {
        assert_eq!(names_in(&rootfs, &format!("{run}/secrets")), ["inner", "single"]);
        assert_eq!(read(&rootfs, &format!("{run}/secrets/inner/f")).unwrap(), "inner");
        assert_eq!(read(&rootfs, &format!("{run}/secrets/single")).unwrap(), "single");
    }
    assert_eq!(rootfs.preopens().count(), 1, "all of it is one tree");
}

#[test]
fn working_directory_behind_a_link_is_made_in_a_volume() {
    let bundle = with_link();
    let tmpfs = r#"{"destination":"/run","type":"tmpfs","source":"tmpfs","options":["ro"]}"#;
    let config = config_in(bundle.path(), tmpfs, "/var/run/app");
    let rootfs = Rootfs::mount(bundle.path(), &config, &[]).unwrap();
    rootfs.check_cwd(Path::new("/var/run/app")).unwrap();
    assert_eq!(names_in(&rootfs, "/run"), ["app"]);
}

#[test]
fn link_in_a_volume_leads_the_mount_point_of_another_one_nowhere_else() {
    let bundle = with_link();
    let host = bundle.path().join("host");
    std::fs::create_dir(&host).unwrap();
    std::os::unix::fs::symlink("../../../..", host.join("up")).unwrap();
    std::os::unix::fs::symlink(bundle.path(), host.join("absolute")).unwrap();
    let mounts = [
        bind("host", "/run"),
        bind("single", "/var/run/up/outside"),
        bind("single", "/var/run/absolute/outside"),
    ];
    let config = config_with(bundle.path(), &mounts.join(","));
    let rootfs = Rootfs::mount(bundle.path(), &config, &[]).unwrap();
    let absolute = bundle.path().join("outside");
    for place in [Path::new("/outside"), &absolute] {
        assert_eq!(read(&rootfs, place.to_str().unwrap()).unwrap(), "single");
    }
    assert!(!absolute.exists() && !Path::new("/outside").exists());
}

#[test]
fn place_behind_a_link_of_a_volume_is_made_in_a_read_only_root() {
    let bundle = with_link();
    std::fs::create_dir(bundle.path().join("host")).unwrap();
    std::os::unix::fs::symlink("/data", bundle.path().join("host/out")).unwrap();
    let mounts = [bind("host", "/v"), bind("single", "/v/out/single")];
    let mut config = config_in(bundle.path(), &mounts.join(","), "/v/out/cwd");
    config.read_only = true;
    let rootfs = Rootfs::mount(bundle.path(), &config, &[]).unwrap();
    assert_eq!(read(&rootfs, "/data/single").unwrap(), "single");
    rootfs.check_cwd(Path::new("/v/out/cwd")).unwrap();
    let root = rootfs.preopens().next().unwrap().directory;
    let made = rustix::fs::mkdirat(&*root, "new", Mode::from(0o755));
    assert_eq!(made, Err(rustix::io::Errno::ROFS));
}

#[test]
fn directory_without_a_place_in_the_volume_behind_a_link_is_a_preopen() {
    let bundle = with_link();
    for name in ["host", "inner"] {
        std::fs::create_dir(bundle.path().join(name)).unwrap();
    }
    std::fs::write(bundle.path().join("inner/f"), "inner").unwrap();
    let host = bind("host", "/run").replace(r#"["bind"]"#, r#"["bind","ro"]"#);
    let mounts = |more: &str| format!("{host},{more}");
    let config = config_with(bundle.path(), &mounts(&bind("inner", "/var/run/inner")));
    let rootfs = Rootfs::mount(bundle.path(), &config, &[]).unwrap();
    assert_eq!(read(&rootfs, "/var/run/inner/f").unwrap(), "inner");
    assert_eq!(rootfs.preopens().count(), 2);
    let config = config_with(bundle.path(), &mounts(&bind("single", "/var/run/single")));
    let error = Rootfs::mount(bundle.path(), &config, &[]).unwrap_err().to_string();
    assert!(error.contains("/var/run/single") && error.contains("Read-only"), "{error}");
}

/// A read-only overlay of empty layers.
fn read_only_root(bundle: &Path) -> MountConfig {
    let layers = ["one", "two"].map(|name| bundle.join(name));
    for layer in &layers {
        std::fs::create_dir(layer).unwrap();
    }
    let [one, two] = layers.map(|layer| layer.to_str().unwrap().to_owned());
    let options = vec![format!("lowerdir={one}:{two}")];
    MountConfig { kind: "overlay".into(), source: "overlay".into(), options }
}

#[test]
fn masked_paths_below_missing_directories_are_left_out_and_no_others() {
    let bundle = tempfile::tempdir().unwrap();
    std::fs::create_dir(bundle.path().join("volume")).unwrap();
    std::fs::write(bundle.path().join("volume/secret"), "secret").unwrap();
    // The root has no place for the volume, which is a preopen below a missing directory.
    let mut config = config_with(bundle.path(), &bind("volume", "/data/volume"));
    let paths = ["/no/such/path", "/data/other", "/data/volume/no/such", "/data/volume/secret"];
    config.masked_paths = paths.map(PathBuf::from).to_vec();
    let root = read_only_root(bundle.path());
    let rootfs = Rootfs::mount(bundle.path(), &config, &[root]).unwrap();
    assert_eq!(rootfs.preopens().count(), 2);
    assert_eq!(names_in(&rootfs, "/data/volume"), ["secret"]);
    assert_eq!(read(&rootfs, "/data/volume/secret").unwrap(), "");
}

#[test]
fn mount_table_has_paths_of_any_bytes() {
    let bundle = tempfile::tempdir().unwrap();
    let place = OsStr::from_bytes(b"runwasi-\xff");
    std::fs::create_dir_all(bundle.path().join("rootfs").join(place)).unwrap();
    std::os::unix::fs::symlink(place, bundle.path().join("rootfs/link")).unwrap();
    let tmpfs = r#"{"destination":"/link","type":"tmpfs","source":"tmpfs"}"#;
    let config = config_with(bundle.path(), tmpfs);
    let _rootfs = Rootfs::mount(bundle.path(), &config, &[]).unwrap();
    let inside = MountNamespace::of_process().unwrap().enter().unwrap();
    let table = mount_table::MountTable::parse(&inside.mount_table().unwrap());
    let mounts = table.inside(Path::new("/"));
    assert!(mounts.iter().any(|mount| mount.path.file_name() == Some(place)));
}

#[tokio::test]
async fn mounts_are_detached_with_their_container() {
    let bundle = tempfile::tempdir().unwrap();
    std::fs::create_dir(bundle.path().join("data")).unwrap();
    let config = config_with(bundle.path(), &bind("data", "/data"));
    let rootfs = Rootfs::mount(bundle.path(), &config, &[]).unwrap();
    assert_eq!(attached(bundle.path()), 2);
    let mut gone = rootfs.gone();
    drop(rootfs);
    gone.wait().await;
    assert_eq!(attached(bundle.path()), 0);
    // A failed mount leaves nothing attached either: this destination is below a file.
    std::fs::write(bundle.path().join("rootfs/file"), "").unwrap();
    let mounts = [bind("data", "/data"), bind("data", "/file/below")].join(",");
    let config = config_with(bundle.path(), &mounts);
    let error = Rootfs::mount(bundle.path(), &config, &[]).unwrap_err().to_string();
    assert!(error.starts_with("mounts: /file/below: "), "{error}");
    assert_eq!(attached(bundle.path()), 0);
}

#[test]
fn mount_points_behind_links_and_dots_are_created_inside_the_tree() {
    let bundle = tempfile::tempdir().unwrap();
    let root = bundle.path().join("rootfs");
    std::fs::create_dir_all(root.join("etc")).unwrap();
    let link = std::os::unix::fs::symlink::<&str, _>;
    link("../run/stub/resolv.conf", root.join("etc/resolv.conf")).unwrap();
    link("/nowhere/yet", root.join("absolute")).unwrap();
    link("around", root.join("round")).unwrap();
    link("round", root.join("around")).unwrap();
    std::fs::write(bundle.path().join("file"), "mounted").unwrap();
    for (destination, place) in [
        ("/etc/resolv.conf", "run/stub/resolv.conf"),
        ("/absolute/deep", "nowhere/yet/deep"),
        ("/a/../t", "t"),
    ] {
        let config = config_with(bundle.path(), &bind("file", destination));
        let rootfs = Rootfs::mount(bundle.path(), &config, &[]).unwrap();
        assert_eq!(read(&rootfs, &format!("/{place}")).unwrap(), "mounted", "{destination}");
        assert!(root.join(place).is_file(), "{destination}");
    }
    assert!(!root.join("a").exists());
    let config = config_with(bundle.path(), &bind("file", "/round/f"));
    let error = Rootfs::mount(bundle.path(), &config, &[]).unwrap_err().to_string();
    assert!(error.contains("/round/f") && error.contains("Too many levels"), "{error}");
}

#[test]
fn mount_restores_namespace_and_directories_of_the_thread() {
    let bundle = tempfile::tempdir().unwrap();
    let config = config(bundle.path());
    let place = || {
        let namespace = std::fs::read_link("/proc/thread-self/ns/mnt").unwrap();
        let root = std::fs::read_link("/proc/thread-self/root").unwrap();
        (namespace, root, std::env::current_dir().unwrap())
    };
    let before = place();
    drop(Rootfs::mount(bundle.path(), &config, &[]).unwrap());
    assert_eq!(place(), before);
}

fn read(rootfs: &Rootfs, path: &str) -> io::Result<String> {
    let mut text = String::new();
    rootfs.open(Path::new(path))?.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn a_link_in_the_image_cannot_lead_out_of_it() {
    let bundle = tempfile::tempdir().unwrap();
    let config = config(bundle.path());
    let root = bundle.path().join("rootfs");
    std::fs::write(bundle.path().join("secret"), "host").unwrap();
    std::fs::write(root.join("secret"), "guest").unwrap();
    std::os::unix::fs::symlink("../secret", root.join("up")).unwrap();
    std::os::unix::fs::symlink(bundle.path().join("secret"), root.join("absolute")).unwrap();
    let rootfs = Rootfs::mount(bundle.path(), &config, &[]).unwrap();
    assert_eq!(read(&rootfs, "/up").unwrap(), "guest");
    assert_eq!(read(&rootfs, "/../../secret").unwrap(), "guest");
    assert!(read(&rootfs, "/absolute").is_err());
}

#[test]
fn an_overlay_is_mounted_without_an_entry_in_the_mount_table() {
    if !rustix::process::geteuid().is_root() {
        panic!("this test mounts an overlay and must run as root");
    }
    let bundle = tempfile::tempdir().unwrap();
    let config = config(bundle.path());
    // The list of layers is longer than one fsconfig string.
    let layers: Vec<_> =
        (0..6).map(|i| bundle.path().join(format!("layer-{i}-{}", "x".repeat(60)))).collect();
    for (i, layer) in layers.iter().enumerate() {
        std::fs::create_dir(layer).unwrap();
        std::fs::write(layer.join(format!("f{i}")), format!("{i}")).unwrap();
    }
    std::fs::create_dir(bundle.path().join("upper")).unwrap();
    std::fs::create_dir(bundle.path().join("work")).unwrap();
    let lower = layers.iter().map(|layer| layer.to_str().unwrap()).collect::<Vec<_>>().join(":");
    let path = |name: &str| bundle.path().join(name).to_str().unwrap().to_owned();
    let options = vec![
        format!("lowerdir={lower}"),
        format!("upperdir={}", path("upper")),
        format!("workdir={}", path("work")),
    ];
    let overlay = MountConfig { kind: "overlay".into(), source: "overlay".into(), options };
    let bind = MountConfig {
        kind: "bind".into(),
        source: layers[5].to_str().unwrap().to_owned(),
        options: vec!["rbind".into()],
    };
    for mounts in [vec![overlay.clone()], vec![overlay, bind]] {
        let rootfs = Rootfs::mount(bundle.path(), &config, &mounts).unwrap();
        assert_eq!(read(&rootfs, "/f5").unwrap(), "5");
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!table.contains(bundle.path().to_str().unwrap()), "{table}");
    }
}

#[test]
fn a_failed_mount_names_its_source_and_leaves_no_mount() {
    let bundle = tempfile::tempdir().unwrap();
    let config = config(bundle.path());
    for kind in ["overlay", "bind", "ext4"] {
        let mount = MountConfig {
            kind: kind.into(),
            source: "/nonexistent/x".into(),
            options: vec!["lowerdir=/nonexistent/y".into()],
        };
        let error = Rootfs::mount(bundle.path(), &config, &[mount]).unwrap_err().to_string();
        assert!(error.contains("/nonexistent"), "{error}");
    }
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains(bundle.path().to_str().unwrap()), "{table}");
}

#[test]
fn a_missing_working_directory_is_named() {
    let bundle = tempfile::tempdir().unwrap();
    let config = config(bundle.path());
    let rootfs = Rootfs::mount(bundle.path(), &config, &[]).unwrap();
    rootfs.check_cwd(Path::new("/")).unwrap();
    let error = rootfs.check_cwd(Path::new("/no/where")).unwrap_err().to_string();
    assert!(error.contains("/no/where"), "{error}");
}
