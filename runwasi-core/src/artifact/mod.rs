//! Which artifact a process runs: the file in its root file system that `args[0]` names, else a wasm layer of its image ([`oci`]).

pub(crate) mod file;
pub mod lookup;
pub mod oci;

use std::{io, path::PathBuf, sync::Arc};

use self::oci::{blob::Layer, error::ImageError};
use crate::digest::Digest;

/// Largest artifact that is read, in bytes.
pub const MAX_BYTES: u64 = 512 << 20;

/// Largest text module that is read, in bytes.
const MAX_TEXT_BYTES: u64 = 16 << 20;

/// Wasm bytes and where they come from. Untrusted.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// Its path in the guest; of a layer, `IMAGE/TITLE`.
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
    pub identity: Option<FileIdentity>,
}

/// What of a container runs: found, not yet read.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its path in the guest; of a layer, `IMAGE/TITLE`.
    pub path: PathBuf,
    /// The export to call instead of the default one, from `path#function`.
    pub function: Option<String>,
    /// Where its bytes are.
    pub source: Source,
}

/// Where a program's bytes are.
#[derive(Clone, Debug)]
pub enum Source {
    /// In a file of the container.
    File {
        /// `None` where files cannot be told apart without reading them.
        identity: Option<FileIdentity>,
    },
    /// In containerd's content store.
    Layer(Layer),
}

/// What tells a file of an image from all others: equal identities, equal bytes. Whoever makes a file system chooses its inodes and
/// times, so they count only among files of the same layers, which containerd has put together; and there nobody can give a file
/// another's time of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    pub(crate) layers: Digest,
    pub(crate) inode: u64,
    pub(crate) bytes: u64,
    pub(crate) modified: (i64, i64),
    pub(crate) changed: (i64, i64),
}

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
    #[error("{name}: not found in the container (looked at {looked_at}{})", besides(image))]
    NotFound {
        /// `args[0]` without the function.
        name: String,
        /// The paths tried.
        looked_at: String,
        /// Why the image has no such layer either, if it was looked at.
        image: Option<Box<ImageError>>,
    },
    /// The layer cannot be read.
    #[error("{}: {source}", path.display())]
    Layer {
        /// `IMAGE/TITLE`.
        path: PathBuf,
        /// Why.
        source: Box<ImageError>,
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
        let digest = Digest::of(&bytes);
        Self::hashed(path, bytes, digest)
    }

    fn hashed(path: PathBuf, bytes: Vec<u8>, digest: Digest) -> Result<Self, ArtifactError> {
        match bounded_kind(&bytes) {
            Ok(kind) => Ok(Self { path, function: None, kind, digest, bytes, identity: None }),
            Err(reason) => Err(ArtifactError::NotWasm { path, reason }),
        }
    }
}

fn besides(image: &Option<Box<ImageError>>) -> String {
    image.as_ref().map_or_else(String::new, |reason| format!("; {reason}"))
}

impl Program {
    /// The digest of its bytes, if that is known before they are read.
    pub fn digest(&self) -> Option<Digest> {
        match &self.source {
            Source::File { .. } => None,
            Source::Layer(layer) => Some(layer.blob.digest),
        }
    }

    /// What tells that a file need not be read to know what it holds.
    pub fn identity(&self) -> Option<FileIdentity> {
        match self.source {
            Source::File { identity } => identity,
            Source::Layer(_) => None,
        }
    }
}

/// Text is worth less time than a binary.
fn bounded_kind(bytes: &[u8]) -> Result<ArtifactKind, String> {
    let kind = kind(bytes)?;
    if !bytes.starts_with(b"\0asm") && bytes.len() as u64 > MAX_TEXT_BYTES {
        return Err(format!("is text of more than {MAX_TEXT_BYTES} bytes"));
    }
    Ok(kind)
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
            "is precompiled code, which is never taken from an image: give the wasm it was made of"
                .into()
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
