//! Who may use a container's file systems when.

use std::ffi::CString;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use containerd_shim_protos::api::Mount;
use runwasi_tests::shim::LIMIT;
use runwasi_tests::{Runtime, ShimDriver, poll_until, run_case};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

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
    rustix::fs::sync();
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
