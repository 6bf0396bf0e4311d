//! Root file systems that are not written back at their end: what reaches the disk, what others find in the work directory,
//! and what a killed server or a crash of the machine leaves.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use containerd_shim_protos::api::Mount;
use runwasi_tests::disk::mount_ext4;
use runwasi_tests::shim::reason;
use runwasi_tests::{
    Command, Runtime, ShimDriver, bundle, paths_component, proc, run_case, run_case_with,
};
use rustix::fs::{XattrFlags, getxattr, setxattr};
use tempfile::TempDir;

/// Attribute of a work directory whose overlay has not ended.
const ATTRIBUTE: &str = "trusted.runwasi.volatile";

/// Writes the text to `/dsync` through a descriptor with a flag of preview 1.
const SYNCHRONIZED: &str = r#"(module
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 16) "dsync")
    (data (i32.const 64) "TEXT")
    (func $check (param $error i32) (if (local.get $error) (then (call $exit (local.get $error)))))
    (func (export "_start")
        (call $check (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 9)
            (i64.const 64) (i64.const 0) (i32.const FLAG) (i32.const 8)))
        (i32.store (i32.const 0) (i32.const 64))
        (i32.store (i32.const 4) (i32.const LENGTH))
        (call $check (call $write (i32.load (i32.const 8)) (i32.const 0) (i32.const 1) (i32.const 12)))))"#;

/// A snapshot with the guest as its only layer.
struct Snapshot {
    layer: PathBuf,
    path: PathBuf,
    mount: Mount,
}

impl Snapshot {
    /// Makes one in a directory. The layer does not lie there.
    fn new(p: &ShimDriver, directory: &Path) -> Result<Self> {
        let layer = p.dir().join("layer");
        fs::create_dir(&layer)?;
        fs::copy(p.runtime().guest_file(), layer.join("guest.wasm"))?;
        let path = directory.join("snapshot");
        let mount = bundle::overlay(&path, &layer)?;
        Ok(Self { layer, path, mount })
    }

    fn work(&self) -> PathBuf {
        self.path.join("work")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join("fs").join(name)
    }

    fn has_marker(&self) -> bool {
        self.work().join("work/incompat/volatile").exists()
    }

    fn attribute(&self) -> Option<Vec<u8>> {
        let mut value = [0; 64];
        let length = getxattr(self.work(), ATTRIBUTE, &mut value).ok()?;
        Some(value[..length].to_vec())
    }

    /// Nothing of ours is left, and any program can mount it.
    fn is_clean(&self, p: &ShimDriver) -> Result<()> {
        ensure!(!self.has_marker() && self.attribute().is_none(), "left in the work directory");
        let target = p.dir().join("by-hand");
        fs::create_dir_all(&target)?;
        let options = self.mount.options.join(",");
        let mount = Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]);
        mount.args([&target]).run()?.ok()?;
        Command::new("umount").args([&target]).run()?.ok()?;
        Ok(())
    }

    /// Runs a guest from it to its end; `look` is called before the file systems are given back.
    fn run(
        &self,
        p: &ShimDriver,
        id: &str,
        args: &[&str],
        look: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let bundle = p.bundle(id, args)?;
        let client = p.connect(id, bundle.path())?;
        client.create(id, bundle.path(), std::slice::from_ref(&self.mount))?;
        client.start(id)?;
        let status = client.wait(id)?.exit_status;
        ensure!(status == 0, "{args:?}: status {status}");
        look()?;
        client.delete(id)?;
        p.finish(&client, id, bundle.path())?;
        p.becomes_clean()
    }
}

/// A file system in a file, by which it is seen what has reached the disk.
struct Disk {
    // Not in the shim driver's directory, where a mount is a leftover.
    directory: TempDir,
}

impl Disk {
    fn new() -> Result<Self> {
        let disk = Self { directory: TempDir::new()? };
        // Long, so that nothing is written back by itself meanwhile.
        mount_ext4(&disk.file(), 32 << 20, &disk.mounted(), &["commit=600"])?;
        Ok(disk)
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("disk.img")
    }

    fn mounted(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    fn has(&self, text: &str) -> Result<bool> {
        let bytes = fs::read(self.file())?;
        Ok(bytes.windows(text.len()).any(|part| part == text.as_bytes()))
    }

    fn end(&self) -> Result<()> {
        Command::new("umount").args([self.mounted()]).run()?.ok()?;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Mounted only after a failure.
        drop(Command::new("umount").args(["-q", "-l"]).args([self.mounted()]).run());
    }
}

/// Runs a case with a snapshot on such a disk.
fn on_disk(runtime: Runtime, case: impl FnOnce(&ShimDriver, &Disk, &Snapshot) -> Result<()>) {
    run_case(runtime, |p| {
        let disk = Disk::new()?;
        let snapshot = Snapshot::new(p, &disk.mounted())?;
        let done = case(p, &disk, &snapshot);
        disk.end()?;
        done
    });
}

const WASM: [Runtime; 2] = [Runtime::Wasmtime, Runtime::Wasmtimed];

#[test]
fn only_what_a_guest_syncs_reaches_the_disk_at_once() {
    for runtime in [WASM, [Runtime::WasmtimeComponent, Runtime::WasmtimedComponent]].concat() {
        on_disk(runtime, |p, disk, snapshot| {
            snapshot.run(
                p,
                "plain",
                &["/guest.wasm", "write", "/plain", "never-synced"],
                || Ok(()),
            )?;
            ensure!(!disk.has("never-synced")?, "the end of the container was a sync");
            for (command, text) in [("sync", "synced-whole"), ("sync-data", "synced-content")] {
                let file = format!("/{command}");
                snapshot.run(p, command, &["/guest.wasm", command, &file, text], || {
                    ensure!(disk.has(text)?, "{command} has returned without the disk");
                    Ok(())
                })?;
            }
            ensure!(!disk.has("never-synced")?, "a sync of one file was one of all");
            // Kept all the same.
            ensure!(fs::read_to_string(snapshot.file("plain"))? == "never-synced");
            snapshot.is_clean(p)
        });
    }
}

#[test]
fn directories_are_synced_by_components_of_both_versions() {
    for runtime in WASM {
        for version in ["0.2.0", "0.3.0"] {
            on_disk(runtime, |p, disk, snapshot| {
                fs::write(snapshot.layer.join("c.wat"), paths_component::text(version))?;
                snapshot.run(p, "directory", &["/c.wat#sync"], || {
                    ensure!(disk.has("synced-directory")?, "{version}: not on the disk");
                    Ok(())
                })
            });
        }
    }
}

/// `O_DSYNC`, `O_RSYNC`, which is `O_SYNC` in Linux, and `O_SYNC`.
#[test]
fn writes_of_synchronized_descriptors_reach_the_disk() {
    for runtime in WASM {
        for flag in [1 << 1, 1 << 3, 1 << 4] {
            on_disk(runtime, |p, disk, snapshot| {
                let text = format!("synchronized-by-{flag}");
                let module = SYNCHRONIZED.replace("LENGTH", &text.len().to_string());
                let module = module.replace("TEXT", &text).replace("FLAG", &flag.to_string());
                fs::write(snapshot.layer.join("m.wat"), module)?;
                snapshot.run(p, "synchronized", &["/m.wat"], || {
                    ensure!(disk.has(&text)?, "flag {flag}: not on the disk");
                    Ok(())
                })
            });
        }
    }
}

#[test]
fn snapshot_can_be_used_again_by_anybody() {
    for runtime in WASM {
        run_case(runtime, |p| {
            let snapshot = Snapshot::new(p, p.dir())?;
            snapshot.run(p, "first", &["/guest.wasm", "write", "/kept", "text"], || Ok(()))?;
            snapshot.is_clean(p)?;
            snapshot.run(p, "second", &["/guest.wasm", "rename", "/kept", "/moved"], || Ok(()))?;
            ensure!(fs::read_to_string(snapshot.file("moved"))? == "text");
            snapshot.is_clean(p)
        });
    }
}

fn kill(p: &mut ShimDriver) -> Result<()> {
    match p.runtime().needs_daemon() {
        true => p.daemon()?.kill9(),
        false => proc::kill9(p.shims().first().context("no shim")?.pid),
    }
}

#[test]
fn killed_server_leaves_no_marker() {
    for runtime in WASM {
        run_case_with(ShimDriver::new(runtime), |p| {
            let snapshot = Snapshot::new(p, p.dir())?;
            let bundle = p.bundle("killed", &["/guest.wasm", "spin"])?;
            let client = p.connect("killed", bundle.path())?;
            client.create("killed", bundle.path(), std::slice::from_ref(&snapshot.mount))?;
            client.start("killed")?;
            ensure!(!snapshot.has_marker(), "a marker while it runs");
            kill(p)?;
            p.delete("killed", bundle.path())?.ok()?;
            ensure!(!snapshot.has_marker(), "a marker");
            let boot = fs::read("/proc/sys/kernel/random/boot_id")?;
            ensure!(snapshot.attribute() == Some(boot.trim_ascii().to_vec()), "no attribute");
            if runtime.needs_daemon() {
                p.daemon()?.start_again()?;
            }
            snapshot.run(p, "again", &["/guest.wasm", "write", "/f", "x"], || Ok(()))?;
            ensure!(!p.log().contains("the machine has stopped"), "nothing is lost: {}", p.log());
            snapshot.is_clean(p)
        });
    }
}

/// With a marker: the machine has stopped between the mount and the removal.
#[test]
fn crash_of_the_machine_is_told_and_refuses_nobody() {
    for runtime in WASM {
        run_case(runtime, |p| {
            let snapshot = Snapshot::new(p, p.dir())?;
            for marker in [false, true] {
                let other = "11111111-2222-3333-4444-555555555555";
                setxattr(snapshot.work(), ATTRIBUTE, other.as_bytes(), XattrFlags::empty())?;
                if marker {
                    let directory = snapshot.work().join("work/incompat/volatile");
                    fs::create_dir_all(&directory)?;
                    fs::write(directory.join("dirty"), "")?;
                }
                let id = format!("after-{marker}");
                snapshot.run(p, &id, &["/guest.wasm", "write", "/f", "x"], || Ok(()))?;
                let log = p.log();
                let told = log.lines().filter(|line| {
                    line.contains("the machine has stopped while") && line.contains(&id)
                });
                ensure!(told.count() == 1, "{log}");
                snapshot.is_clean(p)?;
            }
            Ok(())
        });
    }
}

#[test]
fn option_of_containerd_keeps_its_marker_and_the_refusal() {
    for runtime in WASM {
        run_case(runtime, |p| {
            let mut snapshot = Snapshot::new(p, p.dir())?;
            snapshot.mount.options.push("volatile".to_owned());
            snapshot.run(p, "first", &["/guest.wasm", "write", "/f", "x"], || Ok(()))?;
            ensure!(snapshot.has_marker() && snapshot.attribute().is_none(), "not as asked");
            let bundle = p.bundle("second", &["/guest.wasm"])?;
            let client = p.connect("second", bundle.path())?;
            for _ in 0..2 {
                let created =
                    client.create("second", bundle.path(), std::slice::from_ref(&snapshot.mount));
                let refusal = reason(&created.err().context("the kernel's refusal")?);
                ensure!(refusal.contains("mount overlay"), "{refusal}");
                // Nor is another's marker ours without the option.
                snapshot.mount.options.retain(|option| option != "volatile");
            }
            ensure!(snapshot.has_marker(), "another's marker was removed");
            p.finish(&client, "second", bundle.path())?;
            p.becomes_clean()
        });
    }
}
