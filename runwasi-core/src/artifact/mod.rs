//! The artifact that a process runs: the file of its root file system that `args[0]` names, else a
//! wasm layer of its image ([`oci`]).

mod attributes;
mod bytes;
pub(crate) mod file;
pub mod lookup;
pub mod oci;
mod sections;
mod sharing;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use self::bytes::ArtifactBytes;
use self::oci::{blob::Layer, error::ImageError};
use crate::digest::Digest;

/// Largest artifact that is read, in bytes.
pub const MAX_BYTES: u64 = 512 << 20;

/// Largest artifact in text format that is read, in bytes.
// Lower, because parsing text takes longer than parsing a binary, and hand-written text is small.
const MAX_TEXT_BYTES: u64 = 16 << 20;

/// Wasm bytes with their origin. Untrusted.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// Path in the guest; for a layer, `IMAGE/TITLE`.
    pub path: PathBuf,
    /// The export to call instead of the default one, from `path#function`.
    pub function: Option<String>,
    /// Kind, according to the first bytes.
    pub kind: ArtifactKind,
    /// The wasm bytes, binary or text.
    pub bytes: ArtifactBytes,
    /// SHA-256 of `bytes`.
    pub digest: Digest,
    /// Identity of the file with these bytes: a file of equal identity need not be read again.
    pub identity: Option<FileIdentity>,
}

/// Program of a process, found and not yet read.
#[derive(Clone, Debug)]
pub struct Program {
    /// Path in the guest; for a layer, `IMAGE/TITLE`.
    pub path: PathBuf,
    /// The export to call instead of the default one, from `path#function`.
    pub function: Option<String>,
    /// Source of the bytes.
    pub source: Source,
}

/// Source of a program's bytes.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file of the container.
    File {
        /// Absent if only reading can distinguish the file from others.
        identity: Option<FileIdentity>,
    },
    /// A layer in containerd's content store.
    Layer(Layer),
}

/// Identity of a file of an image. Files of equal identity have equal bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    // The creator of a file system chooses its inode numbers and times. So they are comparable only
    // between files of the same layers, which containerd has assembled.
    pub(crate) layers: Digest,
    pub(crate) inode: u64,
    pub(crate) bytes: u64,
    pub(crate) modified: (i64, i64),
    // Unlike the time of modification, no system call can set it: in these layers no file can get
    // the time of change of another.
    pub(crate) changed: (i64, i64),
}

/// Kind of an artifact, by its magic bytes or its first word. The file name does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArtifactKind {
    /// A core module, binary or text: `(module …)`.
    Module,
    /// A component, binary or text: `(component …)`.
    Component,
}

/// Error of the search for an artifact or of its reading.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ArtifactError {
    /// No file of that name exists at any of the searched paths.
    // Docker ends with 127 by the words "no such file or directory", as runc's error has them.
    #[error(
        "{name}: no such file or directory in the container (looked at {looked_at}{})",
        image_reason(image)
    )]
    NotFound {
        /// `args[0]` without the export.
        name: String,
        /// The searched paths.
        looked_at: String,
        /// Reason why the image has no such layer either, if it was searched.
        image: Option<Box<ImageError>>,
    },
    /// The layer could not be read.
    #[error("{}: {source}", path.display())]
    Layer {
        /// `IMAGE/TITLE`.
        path: PathBuf,
        /// The cause.
        source: Box<ImageError>,
    },
    /// The file exists and could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Path in the guest.
        path: PathBuf,
        /// Error of the system.
        // Shared, so that this error is cloneable: it is stored until the artifact is requested.
        source: Arc<io::Error>,
    },
    /// The file is no regular file, is too large, or has no wasm preamble.
    #[error("{}: {reason}", path.display())]
    NotWasm {
        /// Path in the guest.
        path: PathBuf,
        /// Description of the file.
        reason: String,
    },
}

impl Artifact {
    /// An artifact of bytes that come from no container.
    pub fn of_bytes(path: PathBuf, bytes: Vec<u8>) -> Result<Self, ArtifactError> {
        let digest = Digest::of(&bytes);
        Self::hashed(path, bytes.into(), digest)
    }

    fn hashed(path: PathBuf, bytes: ArtifactBytes, digest: Digest) -> Result<Self, ArtifactError> {
        match bounded_kind(&bytes) {
            Ok(kind) => Ok(Self { path, function: None, kind, digest, bytes, identity: None }),
            Err(reason) => Err(ArtifactError::NotWasm { path, reason }),
        }
    }
}

impl ArtifactError {
    /// This error of a read, with the path by which another container has asked for the same bytes.
    fn at(mut self, asked: &Path) -> Self {
        match &mut self {
            Self::NotFound { .. } => {}
            Self::Layer { path, .. } | Self::Read { path, .. } | Self::NotWasm { path, .. } => {
                asked.clone_into(path);
            }
        }
        self
    }
}

fn image_reason(image: &Option<Box<ImageError>>) -> String {
    image.as_ref().map_or_else(String::new, |reason| format!("; {reason}"))
}

impl Program {
    /// The digest of the bytes, if it is known without reading them.
    pub fn digest(&self) -> Option<Digest> {
        match &self.source {
            Source::File { .. } => None,
            // The name of a blob. A read fails if the bytes have another digest.
            Source::Layer(layer) => Some(layer.blob.digest),
        }
    }

    /// Identity of the file, which makes a second read of the same bytes unnecessary.
    pub fn identity(&self) -> Option<FileIdentity> {
        match self.source {
            Source::File { identity } => identity,
            // Not needed: the digest is known already.
            Source::Layer(_) => None,
        }
    }
}

/// Like [`kind`], with the lower limit for text.
fn bounded_kind(bytes: &[u8]) -> Result<ArtifactKind, String> {
    let kind = kind(bytes)?;
    if !bytes.starts_with(b"\0asm") && bytes.len() as u64 > MAX_TEXT_BYTES {
        return Err(format!("is text of more than {MAX_TEXT_BYTES} bytes"));
    }
    Ok(kind)
}

/// Detects the kind by the preamble of the binary format (magic, version, layer: component-model
/// `Binary.md`), else by the text format.
fn kind(bytes: &[u8]) -> Result<ArtifactKind, String> {
    match bytes {
        [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => return Ok(ArtifactKind::Module),
        // In any version: the engine refuses those that it does not support.
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
        // Byte 7 of an ELF file names the operating system. wasmtime marks its object files there.
        [0x7f, b'E', b'L', b'F', _, _, _, 200, ..] => {
            "is precompiled code, which is never taken from an image: give the wasm it was made of"
                .into()
        }
        [0x7f, b'E', b'L', b'F', ..] => "is not wasm: it is a native program (ELF)".into(),
        [b'#', b'!', ..] => "is not wasm: it is a script".into(),
        other => format!("is not wasm: it begins with {}", hex(other)),
    })
}

fn hex(bytes: &[u8]) -> String {
    // Four bytes: the length of most magic numbers.
    bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// Detects the kind of text by the word after the first parenthesis. Skips white space and
/// comments.
fn text_format(bytes: &[u8]) -> Option<ArtifactKind> {
    // The text format is defined as UTF-8.
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
    // The whole word, so that `(modules` is no module.
    let end =
        list.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').unwrap_or(list.len());
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
        assert_eq!(
            kind(b" ;; a comment\n(; another ;) ( component $c)"),
            Ok(ArtifactKind::Component)
        );
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
}
