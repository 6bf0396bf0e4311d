//! Which artifact a process runs: the file in its root file system that `args[0]` names. Called by engines through
//! `InstanceSpec::artifact`. What an engine makes of it is made once ([`flights`]), on threads of its own ([`workers`]), and kept
//! ([`cache`]).

pub mod cache;
pub mod flights;
pub mod workers;

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;

use crate::bundle::rootfs::Rootfs;

/// Largest artifact that is read, in bytes.
pub const MAX_BYTES: u64 = 512 << 20;

/// Largest text module that is read, in bytes.
const MAX_TEXT_BYTES: u64 = 16 << 20;
/// Seconds after which a time of change is past.
const SETTLED: i64 = 1;

/// The bytes that tell what a file is.
const PREAMBLE: u64 = 8;

/// Wasm bytes and where they come from. Untrusted.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// Its path in the guest.
    pub path: PathBuf,
    /// The export to call instead of the default one, from `path#function`.
    pub function: Option<String>,
    /// What its first bytes say it is.
    pub kind: ArtifactKind,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// SHA-256 of `bytes`.
    pub digest: Digest,
    /// What tells that a file need not be read to know that it holds these bytes.
    pub identity: Option<Identity>,
}

/// Which file of a container runs: found, not yet read.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its path in the guest.
    pub path: PathBuf,
    /// The export to call instead of the default one, from `path#function`.
    pub function: Option<String>,
    /// `None` where files cannot be told apart without reading them.
    pub identity: Option<Identity>,
}

/// What a file's inode says about its content: equal identities, equal bytes. An overlay has a device number for every mount, so
/// the number is not in it; but nobody can give a file another's time of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A SHA-256: of an artifact, or of whatever else has to become a name of fixed length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

/// What an artifact is, by its magic bytes or first word; its name says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArtifactKind {
    /// A core module, binary or text: `(module …)`.
    Module,
    /// A component, binary or text: `(component …)`.
    Component,
}

/// Why there is no artifact.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ArtifactError {
    /// No file of that name is in any of the places looked at.
    #[error("{name}: not found in the container (looked at {looked_at})")]
    NotFound {
        /// `args[0]` without the function.
        name: String,
        /// The paths tried.
        looked_at: String,
    },
    /// The file is there and cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Its path in the guest.
        path: PathBuf,
        /// The system's error; shared, so that the error can be kept until somebody asks for the artifact.
        source: Arc<io::Error>,
    },
    /// The file is no regular file, too large, or its first bytes are not those of wasm.
    #[error("{}: {reason}", path.display())]
    NotWasm {
        /// Its path in the guest.
        path: PathBuf,
        /// What it is instead.
        reason: String,
    },
}

impl Artifact {
    /// Of bytes that are in no container.
    pub fn of_bytes(path: PathBuf, bytes: Vec<u8>) -> Result<Self, ArtifactError> {
        match kind(&bytes) {
            Ok(kind) => Ok(Self { path, function: None, kind, digest: Digest::of(&bytes), bytes, identity: None }),
            Err(reason) => Err(ArtifactError::NotWasm { path, reason }),
        }
    }
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Lower-case hexadecimal.
    pub fn hex(&self) -> String {
        use std::fmt::Write;
        self.0.iter().fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

impl Identity {
    fn of(metadata: &Metadata) -> Option<Self> {
        let identity = Self {
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        // File systems that are made as images may have no fine times, and files of many that look alike. And a file that has
        // changed just now may change again within the same tick of its clock.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let settled = i64::try_from(now).is_ok_and(|now| now - identity.changed.0 > SETTLED);
        (identity.changed.1 != 0 && settled).then_some(identity)
    }
}

/// Finds the program that `args[0]` names: absolute, with a slash relative to `cwd`, else through `PATH` and last in
/// `cwd`; a suffix `#name` selects the export to call. Blocks.
pub(crate) fn locate(
    args: &[String],
    cwd: &Path,
    path: Option<&str>,
    rootfs: &Rootfs,
) -> Result<Program, ArtifactError> {
    let name = args.first().map(String::as_str).unwrap_or_default();
    let (file, function) = match name.rsplit_once('#') {
        Some((file, function)) if !function.is_empty() => (file, Some(function.to_owned())),
        _ => (name, None),
    };
    let candidates = candidates(file, cwd, path);
    for path in &candidates {
        let failed = |source| ArtifactError::Read { path: path.clone(), source: Arc::new(source) };
        match rootfs.open(path) {
            Ok(file) => {
                let metadata = file.metadata().map_err(failed)?;
                // As `execvp(3)`: a directory of that name in PATH is passed over.
                if candidates.len() == 1 || !metadata.is_dir() {
                    return Ok(Program { path: path.clone(), function, identity: Identity::of(&metadata) });
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(source) => return Err(failed(source)),
        }
    }
    let looked_at: Vec<_> = candidates.iter().map(|path| path.display().to_string()).collect();
    Err(ArtifactError::NotFound { name: file.to_owned(), looked_at: looked_at.join(", ") })
}

/// Reads a program on the blocking pool.
pub(crate) async fn load(program: &Program, rootfs: &Arc<Rootfs>) -> Result<Artifact, ArtifactError> {
    let (reading, rootfs) = (program.clone(), rootfs.clone());
    let read = move || match rootfs.open(&reading.path) {
        Ok(file) => read(reading, file),
        Err(source) => Err(ArtifactError::Read { path: reading.path, source: Arc::new(source) }),
    };
    let lost = |error| ArtifactError::Read { path: program.path.clone(), source: Arc::new(io::Error::other(error)) };
    spawn_blocking(read).await.map_err(lost)?
}

/// Where a program of that name may be, as `execvp(3)` has it, plus the working directory last: images made from
/// scratch have no PATH worth the name.
fn candidates(name: &str, cwd: &Path, path: Option<&str>) -> Vec<PathBuf> {
    if name.contains('/') {
        // `join` takes an absolute name as it is.
        return vec![cwd.join(name)];
    }
    let directories = path.unwrap_or_default().split(':').filter(|directory| directory.starts_with('/'));
    directories.map(Path::new).chain([cwd]).map(|directory| directory.join(name)).collect()
}

fn read(program: Program, file: File) -> Result<Artifact, ArtifactError> {
    let path = &program.path;
    let failed = |source| ArtifactError::Read { path: path.clone(), source: Arc::new(source) };
    let not_wasm = |reason: String| ArtifactError::NotWasm { path: path.clone(), reason };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(not_wasm("is not a regular file".into()));
    }
    if metadata.len() > MAX_BYTES {
        return Err(not_wasm(format!("has {} bytes, more than {MAX_BYTES}", metadata.len())));
    }
    let mut bytes = Vec::new();
    let mut reader = (&file).take(MAX_BYTES);
    reader.by_ref().take(PREAMBLE).read_to_end(&mut bytes).map_err(failed)?;
    if !bytes.starts_with(b"\0asm") && metadata.len() > MAX_TEXT_BYTES {
        // Neither binary nor a text that anybody wrote: not worth reading.
        return Err(not_wasm(
            kind(&bytes).err().unwrap_or_else(|| format!("is text of more than {MAX_TEXT_BYTES} bytes")),
        ));
    }
    bytes.reserve_exact(usize::try_from(metadata.len()).unwrap_or(0).saturating_sub(bytes.len()));
    reader.read_to_end(&mut bytes).map_err(failed)?;
    let kind = kind(&bytes).map_err(not_wasm)?;
    // Changed while it was read: what was read is nobody's.
    let (before, after) = (Identity::of(&metadata), Identity::of(&file.metadata().map_err(failed)?));
    let identity = before.filter(|before| Some(*before) == after);
    let digest = Digest::of(&bytes);
    Ok(Artifact { path: program.path, function: program.function, kind, bytes, digest, identity })
}

/// The binary format's preamble: magic, version, layer (component-model `Binary.md`).
fn kind(bytes: &[u8]) -> Result<ArtifactKind, String> {
    match bytes {
        [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => return Ok(ArtifactKind::Module),
        [b'\0', b'a', b's', b'm', _, _, 1, 0, ..] => return Ok(ArtifactKind::Component),
        [b'\0', b'a', b's', b'm', version @ ..] => {
            return Err(format!("is wasm of an unknown version ({})", hex(version)));
        }
        _ => {}
    }
    if let Some(kind) = text_format(bytes) {
        return Ok(kind);
    }
    Err(match bytes {
        [] => "is not wasm: it is empty".into(),
        // The mark that wasmtime gives its object files, where others name an operating system.
        [0x7f, b'E', b'L', b'F', _, _, _, 200, ..] => {
            "is precompiled code, which is never taken from an image: give the wasm it was made of".into()
        }
        [0x7f, b'E', b'L', b'F', ..] => "is not wasm: it is a native program (ELF)".into(),
        [b'#', b'!', ..] => "is not wasm: it is a script".into(),
        other => format!("is not wasm: it begins with {}", hex(other)),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// What text is: by the word after the first parenthesis, past white space and comments.
fn text_format(bytes: &[u8]) -> Option<ArtifactKind> {
    let mut text = std::str::from_utf8(bytes).ok()?;
    loop {
        text = text.trim_start();
        if let Some(comment) = text.strip_prefix(";;") {
            text = comment.split_once('\n').map_or("", |(_, rest)| rest);
        } else if let Some(comment) = text.strip_prefix("(;") {
            text = comment.split_once(";)").map_or("", |(_, rest)| rest);
        } else {
            break;
        }
    }
    let list = text.strip_prefix('(')?.trim_start();
    let end = list.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').unwrap_or(list.len());
    match &list[..end] {
        "module" => Some(ArtifactKind::Module),
        "component" => Some(ArtifactKind::Component),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wasm_is_known_by_its_first_bytes() {
        assert_eq!(kind(b"\0asm\x01\0\0\0rest"), Ok(ArtifactKind::Module));
        assert_eq!(kind(b"\0asm\x0d\0\x01\0rest"), Ok(ArtifactKind::Component));
        assert_eq!(kind(b"(module)"), Ok(ArtifactKind::Module));
        assert_eq!(kind(b" ;; a comment\n(; another ;) ( component $c)"), Ok(ArtifactKind::Component));
        for (bytes, reason) in [
            (&b""[..], "empty"),
            (b"\x7fELF\x02", "native program"),
            (b"\x7fELF\x02\x01\x01\xc8", "precompiled code, which is never taken"),
            (b"\x7fELF\x02\x01\x01\0", "native program"),
            (b"#!/bin/sh\n", "script"),
            (b"(modules)", "28 6d 6f 64"),
            (b"\0asm\x07\0\0\0", "unknown version (07 00 00 00)"),
            (b"\0as", "00 61 73"),
        ] {
            let error = kind(bytes).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_program_is_looked_up_as_a_container_does() {
        let at = |name, path| candidates(name, Path::new("/work"), path);
        assert_eq!(at("/a.wasm", Some("/bin")), [Path::new("/a.wasm")]);
        assert_eq!(at("sub/a.wasm", Some("/bin")), [Path::new("/work/sub/a.wasm")]);
        assert_eq!(at("./a.wasm", None), [Path::new("/work/./a.wasm")]);
        assert_eq!(
            at("a.wasm", Some("/bin:/usr/bin")),
            [Path::new("/bin/a.wasm"), Path::new("/usr/bin/a.wasm"), Path::new("/work/a.wasm")]
        );
        assert_eq!(at("a.wasm", Some("relative:")), [Path::new("/work/a.wasm")]);
    }
}
