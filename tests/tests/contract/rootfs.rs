//! Who may use a container's file systems when.

use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use containerd_shim_protos::api::Mount;
use runwasi_tests::shim::LIMIT;
use runwasi_tests::{Command, Runtime, ShimDriver, poll_until, run_case};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::json;

/// What is written before each delete.
const SIZE: usize = 4 << 20;

/// Writes `SIZE` bytes to `/big`: bytes that taking the file system away has to bring to the disk first.
const WRITER: &str = r#"(module
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 2)
    (data (i32.const 16) "big")
    (func $check (param $error i32) (if (local.get $error) (then (call $exit (local.get $error)))))
    (func (export "_start") (local $left i32)
        ;; Created and cut to nothing; 64 is the right to write.
        (call $check (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 3) (i32.const 9)
            (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 8)))
        (local.set $left (i32.const 0x400000))
        (loop $more
            (i32.store (i32.const 0) (i32.const 0x10000))
            (i32.store (i32.const 4) (i32.const 0x10000))
            (call $check (call $write (i32.load (i32.const 8)) (i32.const 0) (i32.const 1) (i32.const 12)))
            (local.set $left (i32.sub (local.get $left) (i32.load (i32.const 12))))
            (br_if $more (i32.gt_s (local.get $left) (i32.const 0))))))"#;

/// A delete this long may have answered before the unmount was done: containerd does not wait for a slow disk.
const GIVES_UP: Duration = Duration::from_secs(3);

/// An overlay that refuses to share its upper directory (`index=on`) with one that is still mounted.
fn overlay(p: &ShimDriver) -> Result<Mount> {
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| p.dir().join(name));
    for dir in [&lower, &upper, &work] {
        fs::create_dir(dir)?;
    }
    fs::write(lower.join("writer.wat"), WRITER)?;
    let option = |name: &str, dir: &PathBuf| format!("{name}={}", dir.display());
    let mut overlay = Mount::new();
    overlay.type_ = "overlay".to_owned();
    overlay.source = "overlay".to_owned();
    overlay.options = vec![
        option("lowerdir", &lower),
        option("upperdir", &upper),
        option("workdir", &work),
        "index=on".to_owned(),
    ];
    Ok(overlay)
}

#[test]
fn overlay_can_be_mounted_again_as_soon_as_delete_has_answered() {
    for runtime in [Runtime::Wasmtime, Runtime::Native, Runtime::Wasmtimed] {
        run_case(runtime, overlay_is_free_after_delete);
    }
}

fn overlay_is_free_after_delete(p: &ShimDriver) -> Result<()> {
    let overlay = overlay(p)?;
    // The arguments are for the native engine, which has no file to run.
    let bundle = p.bundle("again", &["/writer.wat", "exit", "0"])?;
    let client = p.connect("again", bundle.path())?;
    let create = || client.create("again", bundle.path(), std::slice::from_ref(&overlay));
    // An unmount waits for everything the disk is owed, which after a build is much.
    // Only this file system: other cases look at what has not been synced to theirs.
    rustix::fs::syncfs(fs::File::open(p.dir())?)?;
    let mut waited = Duration::ZERO;
    for round in 0..20 {
        if waited < GIVES_UP {
            create().with_context(|| format!("round {round}, after a delete of {waited:?}"))?;
        } else {
            poll_until("the overlay after a slow unmount", LIMIT, || create().ok())?;
        }
        if round == 0 {
            is_refused_meanwhile(p, &overlay)?;
        }
        // For the same disk, since the native guest writes nothing: the unmount begins when the guest ends.
        fs::write(p.dir().join("ballast"), vec![1; SIZE])?;
        client.start("again")?;
        let status = client.wait("again")?.exit_status;
        ensure!(status == 0, "round {round}: status {status}");
        let began = Instant::now();
        client.delete("again")?;
        waited = began.elapsed();
    }
    let written = fs::metadata(p.dir().join("upper/big")).map_or(0, |file| file.len());
    ensure!(!p.runtime().is_wasm() || written == SIZE as u64, "the guest wrote {written} bytes");
    p.finish(&client, "again", bundle.path())?;
    p.becomes_clean()
}

/// The check above can fail: while the container has the overlay, nobody else gets it.
fn is_refused_meanwhile(p: &ShimDriver, overlay: &Mount) -> Result<()> {
    let target = p.dir().join("second");
    fs::create_dir(&target)?;
    let data = CString::new(overlay.options.join(","))?;
    match mount("overlay", &target, "overlay", MountFlags::empty(), data.as_c_str()) {
        Err(Errno::BUSY) => Ok(()),
        Err(error) => bail!("a second overlay on the same directories: {error}"),
        Ok(()) => {
            unmount(&target, UnmountFlags::DETACH)?;
            bail!("the kernel lets two overlays share an upper directory: nothing would be tested")
        }
    }
}

/// A file with an ext4 in it, which has the guest.
fn disk(p: &ShimDriver) -> Result<PathBuf> {
    let content = p.bundle("content", &[])?;
    content.add_guests()?;
    let file = p.dir().join("disk.img");
    fs::File::create(&file)?.set_len(64 << 20)?;
    let from = content.path().join("rootfs");
    fs::create_dir(from.join("dev"))?;
    let make = Command::new("mkfs.ext4").args(["-q", "-F", "-d"]).args([&from, &file]);
    make.run()?.ok()?;
    fs::remove_dir_all(content.path())?;
    Ok(file)
}

fn runs_from(p: &ShimDriver, source: &Path, options: &[&str]) -> Result<()> {
    let mut mount = Mount::new();
    mount.type_ = "ext4".to_owned();
    mount.source = source.to_string_lossy().into_owned();
    mount.options = options.iter().map(|option| (*option).to_owned()).collect();
    let mut bundle = p.bundle("disk", &[p.runtime().guest(), "exit", "7"])?;
    // runc makes its devices there, also on a root file system that is read-only.
    let dev = json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs" });
    bundle.config["mounts"].as_array_mut().context("no mounts")?.push(dev);
    bundle.write()?;
    let client = p.connect("disk", bundle.path())?;
    client.create("disk", bundle.path(), &[mount])?;
    client.start("disk")?;
    ensure!(client.wait("disk")?.exit_status == 7);
    client.delete("disk")?;
    p.finish(&client, "disk", bundle.path())?;
    fs::remove_dir_all(bundle.path())?;
    p.becomes_clean()
}

/// The loop devices of a file, as `losetup` lists them.
fn loops(file: &Path) -> Result<String> {
    Ok(Command::new("losetup").args(["-n", "-O", "NAME", "-j"]).args([file]).run()?.ok()?.out())
}

/// As the snapshotter `blockfile` has it: a file and the option `loop`. And as `devmapper` has it: a
/// device with options of its file system.
#[test]
fn file_systems_on_block_devices_are_mounted() {
    for runtime in [Runtime::Wasmtime, Runtime::Wasmtimed, Runtime::Runc] {
        run_case(runtime, |p| {
            let file = disk(p)?;
            for options in [["loop", "rw"], ["loop", "ro"]] {
                runs_from(p, &file, &options).with_context(|| format!("{options:?}"))?;
                poll_until("the loop device free again", LIMIT, || {
                    loops(&file).is_ok_and(|found| found.is_empty()).then_some(())
                })?;
            }
            let attached = Command::new("losetup").args(["-f", "--show"]).args([&file]).run()?;
            let device = attached.ok()?.out();
            let device = Path::new(device.trim());
            let ran = runs_from(p, device, &["rw", "discard", "errors=remount-ro"]);
            Command::new("losetup").args(["-d"]).args([device]).run()?.ok()?;
            ran.context("a device with options")
        });
    }
}
