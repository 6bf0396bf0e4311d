//! Decides which programs are native, by their first bytes.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use crate::{
    artifact::{Program, file},
    rootfs::Rootfs,
};

/// Suffixes of wasm programs, which are not looked at.
// Most programs have one, and the start of a wasm container is to make no further system call. A
// native program of such a name is refused by the engine.
const WASM_SUFFIXES: [&str; 2] = ["wasm", "wat"];

/// Byte 7 of an ELF file names the operating system. wasmtime marks its object files there.
const WASMTIME_OBJECT: u8 = 200;

/// Path of the native program that `args` start, if they start one. `program` is the file that
/// `args[0]` names. Blocks.
///
/// Init programs that clients put before a container's program do not count: what they start does.
pub(crate) fn native(
    program: &Program,
    args: &[String],
    cwd: &Path,
    path: Option<&str>,
    rootfs: &Rootfs,
) -> Option<PathBuf> {
    if !file::is_init(&program.path) {
        return is_native(&program.path, rootfs).then(|| program.path.clone());
    }
    let behind = args.iter().position(|arg| arg == "--")? + 1;
    let started = file::locate(args.get(behind..)?, cwd, path, rootfs).ok()?;
    is_native(&started.path, rootfs).then_some(started.path)
}

fn is_native(path: &Path, rootfs: &Rootfs) -> bool {
    let suffix = path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default();
    if WASM_SUFFIXES.contains(&suffix) {
        return false;
    }
    let Ok(file) = rootfs.open(path) else { return false };
    // Not of a directory or a device: reading one could have effects.
    file.metadata().is_ok_and(|found| found.is_file()) && has_native_head(&file)
}

fn has_native_head(file: &File) -> bool {
    let mut head = Vec::new();
    // An error is the engine's to tell, which reads the file, too.
    file.take(8).read_to_end(&mut head).is_ok() && is_native_head(&head)
}

fn is_native_head(head: &[u8]) -> bool {
    match head {
        [0x7f, b'E', b'L', b'F', _, _, _, WASMTIME_OBJECT, ..] => false,
        [0x7f, b'E', b'L', b'F', ..] | [b'#', b'!', ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elf_and_scripts_are_native_and_precompiled_code_is_not() {
        for (head, native) in [
            (&b"\x7fELF\x02\x01\x01\0"[..], true),
            (b"\x7fELF\x02", true),
            (b"#!/bin/sh", true),
            (b"\x7fELF\x02\x01\x01\xc8", false),
            (b"\0asm\x01\0\0\0", false),
            (b"(module)", false),
            (b"\x7fEL", false),
            (b"#", false),
            (b"", false),
        ] {
            assert_eq!(is_native_head(head), native, "{head:?}");
        }
    }
}
