//! Modules that cannot run; the cases are listed in `main.rs`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use runwasi_tests::{Command, Containers, bundle};

/// Only the magic bytes and the version: a whole module, an empty one.
const HEADER: &[u8] = b"\0asm\x01\0\0\0";

/// A rootfs in the fixture, as a directory of ours: no image needed.
fn rootfs(c: &Containers) -> Result<PathBuf> {
    let dir = c.fixture.dir().join("rootfs");
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// `ctr run --rm --rootfs DIR ID ENTRYPOINT`.
fn run(c: &Containers, entrypoint: &str) -> Result<Command> {
    let dir = rootfs(c)?;
    let (dir, id) = (dir.to_string_lossy(), c.id("bad"));
    Ok(c.fixture.ctr_command([
        "run",
        "--rm",
        "--runtime",
        c.runtime.name(),
        "--rootfs",
        &*dir,
        &*id,
        entrypoint,
    ]))
}

/// Runs a file with this content and demands a refusal that names it and gives one of the reasons.
fn content_is_refused(c: &Containers, content: impl AsRef<[u8]>, reasons: &[&str]) -> Result<()> {
    fs::write(rootfs(c)?.join("guest.wasm"), content)?;
    entrypoint_is_refused(c, "/guest.wasm", reasons)
}

fn entrypoint_is_refused(c: &Containers, entrypoint: &str, reasons: &[&str]) -> Result<()> {
    let said = super::refused(c, run(c, entrypoint)?)?;
    let (file, _) = entrypoint.split_once('#').unwrap_or((entrypoint, ""));
    super::says(&said, &[file], reasons)
}

pub(crate) fn directory_as_module_is_refused(c: &mut Containers) -> Result<()> {
    fs::create_dir(rootfs(c)?.join("dir.wasm"))?;
    entrypoint_is_refused(c, "/dir.wasm", &["director", "regular file"])
}

pub(crate) fn fifo_as_module_is_refused(c: &mut Containers) -> Result<()> {
    bundle::fifo(&rootfs(c)?.join("fifo.wasm"))?;
    entrypoint_is_refused(c, "/fifo.wasm", &["fifo", "regular file", "pipe"])
}

pub(crate) fn dangling_link_as_module_is_refused(c: &mut Containers) -> Result<()> {
    symlink("/nowhere", rootfs(c)?.join("link.wasm"))?;
    entrypoint_is_refused(c, "/link.wasm", super::MISSING)
}

pub(crate) fn link_loop_as_module_is_refused(c: &mut Containers) -> Result<()> {
    symlink("/loop.wasm", rootfs(c)?.join("loop.wasm"))?;
    entrypoint_is_refused(c, "/loop.wasm", &["symbolic links", "loop"])
}

pub(crate) fn link_out_of_the_rootfs_stays_inside(c: &mut Containers) -> Result<()> {
    // The host has this file, and it is a good module: found, it would run.
    let outside = c.fixture.dir().join("outside.wat");
    fs::write(&outside, GOOD)?;
    symlink(&outside, rootfs(c)?.join("out.wasm"))?;
    entrypoint_is_refused(c, "/out.wasm", super::MISSING)
}

pub(crate) fn path_out_of_the_rootfs_stays_inside(c: &mut Containers) -> Result<()> {
    fs::write(c.fixture.dir().join("outside.wat"), GOOD)?;
    entrypoint_is_refused(c, "/../outside.wat", super::MISSING)
}

pub(crate) fn text_that_is_no_module_is_refused(c: &mut Containers) -> Result<()> {
    content_is_refused(c, "#!/bin/sh\necho hello\n", &["wasm", "webassembly"])
}

pub(crate) fn empty_module_is_refused(c: &mut Containers) -> Result<()> {
    content_is_refused(c, "", &["wasm", "webassembly", "empty"])
}

pub(crate) fn truncated_module_is_refused(c: &mut Containers) -> Result<()> {
    content_is_refused(c, &HEADER[..6], &["end", "truncated", "version", "not a wasm", "not wasm"])
}

pub(crate) fn garbage_after_the_magic_is_refused(c: &mut Containers) -> Result<()> {
    content_is_refused(
        c,
        [HEADER, &[0xff; 64]].concat(),
        &["section", "malformed", "invalid", "offset"],
    )
}

pub(crate) fn invalid_text_format_is_refused(c: &mut Containers) -> Result<()> {
    content_is_refused(
        c,
        "(module (func (export \"_start\") (oops)))",
        &["oops", "unexpected token", "expected"],
    )
}

pub(crate) fn invalid_module_is_refused(c: &mut Containers) -> Result<()> {
    content_is_refused(
        c,
        "(module (func (export \"_start\") i32.add drop))",
        &["type mismatch", "validat"],
    )
}

pub(crate) fn unknown_import_is_refused(c: &mut Containers) -> Result<()> {
    let text = r#"(module (import "nowhere" "nothing" (func)) (func (export "_start")))"#;
    content_is_refused(c, text, &["nowhere::nothing", "nowhere.nothing", "nowhere"])
}

pub(crate) fn import_with_another_signature_is_refused(c: &mut Containers) -> Result<()> {
    let text = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i64))) (func (export "_start")))"#;
    content_is_refused(c, text, &["proc_exit"])
}

pub(crate) fn missing_export_is_refused(c: &mut Containers) -> Result<()> {
    fs::write(rootfs(c)?.join("good.wat"), GOOD)?;
    let said = super::refused(c, run(c, "/good.wat#nosuch")?)?;
    super::says(&said, &["/good.wat", "nosuch"], &["export"])
}

pub(crate) fn export_that_is_no_function_is_refused(c: &mut Containers) -> Result<()> {
    fs::write(rootfs(c)?.join("good.wat"), GOOD)?;
    let said = super::refused(c, run(c, "/good.wat#memory")?)?;
    super::says(&said, &["/good.wat", "memory"], &["function"])
}

pub(crate) fn module_without_start_is_refused(c: &mut Containers) -> Result<()> {
    content_is_refused(c, HEADER, &["_start"])
}

/// The surroundings of all cases above are right: with them a good module runs.
pub(crate) fn good_module_runs(c: &mut Containers) -> Result<()> {
    let dir = rootfs(c)?;
    fs::write(dir.join("good.wat"), GOOD)?;
    for entrypoint in ["/good.wat", "/good.wat#_start", "/good.wat#again"] {
        let out = run(c, entrypoint)?.run()?.ok()?;
        ensure!(out.out() == "ok\n", "{out}");
    }
    c.fixture.becomes_clean()
}

/// Prints `ok`; exports a memory as every WASI module does.
const GOOD: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\08\00\00\00\03\00\00\00ok\n")
    (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16))))
    (func (export "again") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))"#;
